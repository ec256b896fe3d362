"""Pictures at the start, the end and any second in between, whole or in part."""

from __future__ import annotations

import comfy.latent_formats
import pytest
import tiny_ovi as tiny
import torch
from comfy.patcher_extension import WrappersMP
from native_cases import drawn, sample, small_vaes, text
from ovi_native.nodes.latents import EmptyOviLatent, OviImageToVideo, OviKeyframe
from ovi_native.ovi_core.conditioning.keyframes import SETTLED, with_keyframe
from ovi_native.ovi_core.latents import denoise_mask
from refusals import refusal

from nodes import KSampler, VAEEncode

pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture(scope="module")
def vaes():
    return small_vaes()


def picture(seed=1, batch=1):
    return drawn(batch, 64, 96, 3, seed=seed).sigmoid()


def empty(batch=1, towers="video + audio"):
    """1 s: 25 frames in 7 latent steps."""
    return EmptyOviLatent.execute(96, 64, 1.0, batch, towers).result[0]


def keyframe(vaes, latent, image, seconds, strength=1.0):
    return OviKeyframe.execute(vaes[0], latent, image, seconds, strength).result[0]


def parts(latent):
    """Video part of a LATENT and its mask over time."""
    video, mask = ((x.unbind()[0] if x.is_nested else x) for x in (latent["samples"], latent["noise_mask"]))
    return video, mask.amax(dim=(0, 1, 3, 4)).tolist()


def still(vaes, image, frames):
    return VAEEncode().encode(vaes[0], image.expand(frames, -1, -1, -1))[0]["samples"]


# -- where a picture goes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "step"),
    [(0, 0), (0.02, 0), (1 / 24, 1), (4 / 24, 1), (0.18, 1), (5 / 24, 2), (0.5, 3), (21 / 24, 6), (1.0, 6), (1.019, 6)],
)
def test_a_picture_takes_the_latent_step_that_holds_its_frame(vaes, seconds, step):
    video, mask = parts(keyframe(vaes, empty(), picture(), seconds))
    assert mask == [float(i != step) for i in range(7)]
    free = comfy.latent_formats.Wan22().process_out(torch.zeros_like(video))
    assert [bool((video[:, :, i] != free[:, :, i]).any()) for i in range(7)] == [i == step for i in range(7)]
    expected = still(vaes, picture(), 1) if step == 0 else still(vaes, picture(), 4 * SETTLED + 1)
    assert torch.equal(video[:, :, step], expected[:, :, -1])


def test_frames_that_show_the_picture_are_those_at_its_second(vaes):
    """By the VAE's decoder: changing that step changes no frame before the second's group of four."""
    latent = keyframe(vaes, {**empty(), "samples": tiny.noise_for(empty(), 2)}, picture(), 0.5)
    video, _ = parts(latent)
    changed = video.clone()
    changed[:, :, 3] = 0
    before, after = vaes[0].decode(video)[0], vaes[0].decode(changed)[0]
    assert next(i for i in range(25) if not torch.equal(before[i], after[i])) == 9
    assert 9 <= 0.5 * 24 <= 12


def test_start_end_and_pictures_between_can_be_chained(vaes, model):
    images = [picture(seed) for seed in range(4)]
    latent = OviImageToVideo.execute(vaes[0], empty(), images[0], "crop", images[3]).result[0]
    latent = keyframe(vaes, keyframe(vaes, latent, images[1], 0.3), images[2], 0.6)
    video, mask = parts(latent)
    assert mask == [0, 1, 0, 1, 0, 1, 0]
    made = sample(model, latent).unbind()[0]
    assert all(torch.equal(made[:, :, i], video[:, :, i]) == (mask[i] == 0) for i in range(7))
    expected = [still(vaes, image, 1 if i == 0 else 9)[:, :, -1] for i, image in enumerate(images)]
    assert all(torch.equal(made[:, :, i], one) for i, one in zip((0, 2, 4, 6), expected, strict=True))


def test_an_end_picture_alone_and_a_picture_for_each_clip_of_a_batch(vaes):
    both = picture(batch=2)
    video, mask = parts(OviImageToVideo.execute(vaes[0], empty(2), end_image=both).result[0])
    assert mask == [1, 1, 1, 1, 1, 1, 0]
    for i in range(2):
        assert torch.equal(video[i, :, 6], still(vaes, both[i : i + 1], 9)[0, :, -1])


def test_a_video_alone_takes_pictures_too(vaes, model):
    latent = OviImageToVideo.execute(vaes[0], empty(towers="video only"), picture(), "crop", picture(2)).result[0]
    latent = keyframe(vaes, latent, picture(3), 0.5)
    video, mask = parts(latent)
    made = KSampler().sample(model, 1, 2, 4.0, "euler", "simple", text(5), text(6), latent)[0]["samples"]
    assert made.shape == video.shape
    assert [torch.equal(made[:, :, i], video[:, :, i]) for i in range(7)] == [value == 0 for value in mask]


def test_other_masks_stay(vaes):
    latent = tiny.drawn_latent(3, seconds=1.0)
    video, audio = latent["samples"].unbind()
    masks = torch.ones(1, 1, 7, 1, 1), torch.ones(1, 1, 31)
    masks[0][:, :, 6], masks[1][..., :9] = denoise_mask.FOLLOW, denoise_mask.FOLLOW
    out = keyframe(vaes, denoise_mask.with_parts(latent, video, audio, *masks), picture(), 0.5)
    assert parts(out)[1] == [1, 1, 1, 0, 1, 1, denoise_mask.FOLLOW]
    assert torch.equal(out["noise_mask"].unbind()[1], masks[1])


# -- partial strength -----------------------------------------------------------------------------------------------


def test_the_weaker_the_further_from_the_picture(vaes, model):
    away = []
    for strength in (1.0, 0.75, 0.5, 0.25):
        latent = keyframe(vaes, empty(), picture(), 0.5, strength)
        video, mask = parts(latent)
        assert mask[3] == 1 - strength
        made = tiny.run(tiny.guider(model), latent, steps=6)[0]
        away.append(float((made[:, :, 3] - video[:, :, 3]).norm()))
    assert away[0] == 0
    assert away[1] > 0
    assert away == sorted(away)


def test_no_strength_is_no_picture(vaes):
    latent = empty()
    assert keyframe(vaes, latent, picture(), 0.5, 0.0) is latent
    assert OviImageToVideo.execute(vaes[0], latent, picture(), "crop", picture(), 0.0, 0.0).result[0] is latent


@pytest.mark.parametrize("strength", [1.0, 0.75, 0.5])
def test_the_model_sees_the_picture_under_that_share_of_noise_and_timestep(vaes, model, strength):
    """Noise level s is (1 - s) x0 + s noise: with the picture for x0, s is the step's times 1 - strength."""
    latent = keyframe(vaes, empty(), picture(), 0.5, strength)
    seen = []

    def look(executor, x, timestep, context, options, **more):
        seen.append((x[0][:1, :, 3].clone(), float(timestep[0]), more["video_shares"]))
        return executor(x, timestep, context, options, **more)

    watched = model.clone()
    watched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "look", look)
    noise = tiny.noise_for(latent)
    tiny.run(tiny.guider(watched), latent, noise)
    shown, timestep, shares = seen[0]
    clean = comfy.latent_formats.Wan22().process_in(parts(latent)[0])[:, :, 3]
    level = (1 - strength) * timestep / 1000
    expected = (1 - level) * clean + level * noise.unbind()[0][:, :, 3]
    assert (shown - expected).norm() / expected.norm() < 1e-5
    share = shares.values[shares.index].reshape(7, -1)
    assert torch.equal(share[3], torch.full_like(share[3], 1 - strength))
    assert (share[[0, 1, 2, 4, 5, 6]] == 1).all()


# -- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-0.1, 1.03, 5.0, float("nan")])
def test_a_second_outside_the_clip_is_refused(vaes, seconds):
    expected = {"input": "seconds", "found": "clip of 1.04 s", "remedy": "within the clip"}
    refusal(with_keyframe, vaes[0], empty(), picture(), "crop", seconds, 1.0, node="", **expected)
    if not 0 <= seconds <= 60:
        expected |= {"found": f"{seconds:g}", "remedy": "Set seconds to "}
    refusal(OviKeyframe.execute, vaes[0], empty(), picture(), seconds, node="Ovi Keyframe", **expected)


def test_two_pictures_at_one_moment_are_refused(vaes):
    first = keyframe(vaes, empty(), picture(), 0.5)
    expected = {"node": "Ovi Keyframe", "input": "seconds", "found": "given already", "remedy": "0.17 s or more away"}
    refusal(OviKeyframe.execute, vaes[0], first, picture(2), 0.45, **expected)
    assert parts(keyframe(vaes, first, picture(2), 0.55))[1] == [1, 1, 1, 0, 0, 1, 1]


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_strength_out_of_range_is_refused(vaes, strength):
    expected = {"found": f"{strength:g}", "remedy": "Set it to 1"}
    core = {"node": "", "input": "strength", **expected}
    refusal(with_keyframe, vaes[0], empty(), picture(), "crop", 0.5, strength, **core)
    expected |= {"remedy": "strength to "}
    keyframe_refused = {"node": "Ovi Keyframe", "input": "strength", **expected}
    refusal(OviKeyframe.execute, vaes[0], empty(), picture(), 0.5, strength, **keyframe_refused)
    for name in ("start", "end"):
        settings = {f"{name}_image": picture(), f"{name}_strength": strength}
        both = {"node": "Ovi Image To Video", "input": f"{name}_strength", **expected}
        refusal(OviImageToVideo.execute, vaes[0], empty(), **settings, **both)


def test_what_is_no_picture_clip_or_vae_is_refused(vaes):
    run = (OviKeyframe.execute, vaes[0], empty())
    expected = {"node": "Ovi Keyframe", "input": "image"}
    refusal(*run, torch.zeros(1, 8, 8, 3), 0.5, found="8x8 px", remedy="larger", **expected)
    refusal(*run, picture(batch=3), 0.5, found="3 images for 1 clip(s)", remedy="one image", **expected)
    expected = {"node": "Ovi Keyframe", "found": "audio alone", "remedy": "Set towers", "input": "latent"}
    refusal(OviKeyframe.execute, vaes[0], empty(towers="audio only"), picture(), 0.5, **expected)
    expected = {"node": "Ovi Keyframe", "found": "20 latent", "remedy": "wan2.2_vae", "input": "vae"}
    refusal(OviKeyframe.execute, vaes[1], empty(), picture(), 0.5, **expected)
    end = {"node": "Ovi Image To Video", "input": "end_image", "found": "8x8 px", "remedy": "larger"}
    refusal(OviImageToVideo.execute, vaes[0], empty(), end_image=torch.zeros(1, 8, 8, 3), **end)
