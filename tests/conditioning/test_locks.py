"""One tower given: what the model sees of it, what it answers, and that it comes back bit for bit."""

from __future__ import annotations

from itertools import pairwise

import comfy.latent_formats
import pytest
import tiny_ovi as tiny
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_custom_sampler import KSamplerSelect
from comfy_extras.nodes_easycache import EasyCacheNode
from comfy_extras.nodes_lt import LTXVConcatAVLatent, LTXVSeparateAVLatent
from native_cases import drawn, small_vaes
from ovi_native.nodes.decoding import OviDecode
from ovi_native.nodes.latents import OviImageToVideo
from ovi_native.nodes.locked_media import OviLockAudio, OviLockVideo
from ovi_native.nodes.sampling.sampler import OviSampler
from ovi_native.ovi_core.media import crossfade, resampling

from nodes import KSampler, KSamplerAdvanced

MODES = ["follow the noise", "clean"]
each_mode = pytest.mark.parametrize("mode", MODES)
each_tower = pytest.mark.parametrize("tower", [0, 1], ids=["video", "audio"])


pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.load(tmp_path_factory.mktemp("locks"))


@pytest.fixture(scope="module")
def vaes():
    return small_vaes()


def clip(seed=1, frames=12, width=72, height=40):
    """Frames [F, H, W, 3] of slow noise."""
    return drawn(frames, height, width, 3, seed=seed).sigmoid()


def sound(seed=2, seconds=1.0, rate=44_100, channels=2, batch=1):
    return {"waveform": drawn(batch, channels, round(seconds * rate), seed=seed) * 0.1, "sample_rate": rate}


def video_locked(vaes, mode=MODES[0], latent=None, images=None, rate=25.0):
    images = clip() if images is None else images
    return OviLockVideo.execute(vaes[0], latent or tiny.empty_latent(), images, rate, mode).result[0]


def audio_locked(vaes, mode=MODES[0], latent=None, audio=None, start=0.0):
    audio = sound() if audio is None else audio
    return OviLockAudio.execute(vaes[1], latent or tiny.empty_latent(), audio, start, mode).result[0]


def locked(tower, vaes, mode=MODES[0], seed=1, **more):
    """A LATENT with the video (0) or the audio (1) given."""
    if tower == 0:
        return video_locked(vaes, mode, images=clip(seed), **more)
    return audio_locked(vaes, mode, audio=sound(seed), **more)


def ovi(model, latent, solver="unipc", **more):
    settings = {"seed": 3, "steps": 3, "video_cfg": 4.0, "audio_cfg": 3.0, "shift": 5.0, "solver": solver} | more
    return OviSampler.execute(model, tiny.positive(), tiny.negative(), latent, skip_layers="1", **settings).result[0]


def stock(model, latent, sampler="euler", **more):
    settings = {"seed": 3, "steps": 3, "cfg": 4.0, "scheduler": "simple", "denoise": 1.0} | more
    prompts = {"positive": tiny.positive(), "negative": tiny.negative()}
    return KSampler().sample(model, sampler_name=sampler, latent_image=latent, **prompts, **settings)[0]


def advanced(model, latent, sampler="euler"):
    """Through SamplerCustomAdvanced with the stock guider."""
    sampler = KSamplerSelect.execute(sampler).result[0]
    return tiny.run_both(tiny.stock_guider(model), latent, sampler=sampler)[0]


SAMPLERS = {
    "unipc": ovi,
    "dpm++": lambda model, latent: ovi(model, latent, "dpm++"),
    "euler": lambda model, latent: ovi(model, latent, "euler"),
    "stock euler": stock,
    "stock uni_pc": lambda model, latent: stock(model, latent, "uni_pc"),
    "stock ancestral": lambda model, latent: stock(model, latent, "euler_ancestral"),
    "stock advanced": advanced,
}
each_sampler = pytest.mark.parametrize("sampler", SAMPLERS)


# -- what comes back ------------------------------------------------------------------------------------------------


@each_tower
@each_mode
@each_sampler
def test_the_latent_that_was_given_comes_back_exactly_and_the_other_is_made(model, vaes, sampler, mode, tower):
    before = locked(tower, vaes, mode)
    after = SAMPLERS[sampler](model, before)
    given, made = (after["samples"].unbind()[i] for i in (tower, 1 - tower))
    assert torch.equal(given, before["samples"].unbind()[tower])
    assert made.isfinite().all()
    assert (made - before["samples"].unbind()[1 - tower]).abs().mean() > 0.1


@each_mode
@pytest.mark.parametrize("sampler", ["unipc", "stock euler", "stock advanced"])
def test_frames_come_back_bit_for_bit_with_sound_of_their_length(model, vaes, sampler, mode):
    images = clip(frames=9)  # 0.36 s, 9 frames of Ovi's
    out = OviDecode.execute(SAMPLERS[sampler](model, video_locked(vaes, mode, images=images)), *vaes, "off").result
    assert torch.equal(out[0], images)
    assert torch.equal(out[2].get_components().images, images)
    assert out[2].get_components().frame_rate == 25
    assert out[1]["sample_rate"] == 16_000
    assert out[1]["waveform"].shape == (1, 1, 5760)
    assert out[1]["waveform"].std() > 0.01


@each_mode
@pytest.mark.parametrize("sampler", ["unipc", "stock euler", "stock advanced"])
def test_samples_come_back_bit_for_bit_with_pictures(model, vaes, sampler, mode):
    given = sound()
    out = OviDecode.execute(SAMPLERS[sampler](model, audio_locked(vaes, mode, audio=given)), *vaes, "off").result
    length = 16_538  # 9 frames at 24 a second are 16537.5 samples at 44.1 kHz
    for audio in (out[1], out[2].get_components().audio):
        assert audio["sample_rate"] == 44_100
        assert torch.equal(audio["waveform"], given["waveform"][..., :length])
    assert out[0].shape == (9, 64, 96, 3)
    assert out[0].std() > 0.01


@each_tower
def test_what_was_given_outlives_the_denoised_output_and_being_taken_apart(model, vaes, tower):
    latent = locked(tower, vaes)
    output, denoised = tiny.run_both(tiny.guider(model), latent)
    apart = LTXVSeparateAVLatent.execute(output).result
    again = LTXVConcatAVLatent.execute(*apart).result[0]
    wanted, *others = (OviDecode.execute(one, *vaes, "off").result[tower] for one in (output, denoised, again))
    for other in others:
        if tower == 0:
            assert torch.equal(other, wanted)
        else:
            assert torch.equal(other["waveform"], wanted["waveform"])
            assert other["sample_rate"] == 44_100


def test_each_clip_of_a_batch_has_what_was_given(model, vaes):
    images, two = clip(frames=9), sound(batch=2)
    made = ovi(model, video_locked(vaes, images=images, latent=tiny.empty_latent(2)))
    frames, audio, _ = OviDecode.execute(made, *vaes, "off").result
    assert torch.equal(frames, images.repeat(2, 1, 1, 1))
    assert not torch.allclose(audio["waveform"][0], audio["waveform"][1], atol=1e-3)
    made = ovi(model, audio_locked(vaes, audio=two, latent=tiny.empty_latent(2)))
    frames, audio, video = OviDecode.execute(made, *vaes, "off").result
    assert frames.shape[0] == 18
    assert torch.equal(audio["waveform"], two["waveform"][..., :16_538])
    assert video.get_components().audio["waveform"].shape == (1, 2, 33_075)


@each_tower
def test_a_part_that_was_changed_since_is_decoded_from_the_latent(model, vaes, tower):
    """Without its mask the sampler regenerates both parts."""
    unmasked = locked(tower, vaes)
    del unmasked["noise_mask"]
    made = ovi(model, unmasked)
    plain = {"samples": made["samples"]}
    ours, expected = (OviDecode.execute(latent, *vaes, "off").result for latent in (made, plain))
    assert torch.equal(ours[0], expected[0])
    assert torch.equal(ours[1]["waveform"], expected[1]["waveform"])


# -- what the model sees --------------------------------------------------------------------------------------------


class Seen:
    """What reaches the transformer in each forward: both latents, the timestep, the shares of it."""

    def __init__(self, model):
        self.model, self.forwards = model.clone(), []
        self.model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "seen", self._look)

    def _look(self, executor, x, timestep, context, options, **more):
        shares = [more.get(name) for name in ("video_shares", "audio_shares")]
        self.forwards.append(([part.clone() for part in x], float(timestep[0]) / 1000, shares))
        return executor(x, timestep, context, options, **more)


def normalised(latent):
    video, audio = latent["samples"].unbind()
    return [comfy.latent_formats.Wan22().process_in(video), audio]


@each_tower
@pytest.mark.parametrize("sampler", ["euler", "stock euler"])
def test_clean_shows_what_is_given_as_it_is_at_timestep_zero(model, vaes, sampler, tower):
    seen, latent = Seen(model), locked(tower, vaes, "clean")
    SAMPLERS[sampler](seen.model, latent)
    assert len(seen.forwards) >= 3
    for x, _, shares in seen.forwards:
        assert torch.allclose(x[tower][:1], normalised(latent)[tower], atol=1e-6)
        assert (shares[tower].values == 0).all()
        assert shares[1 - tower] is None


@each_tower
@pytest.mark.parametrize("sampler", ["euler", "stock euler"])
def test_follow_the_noise_shows_it_at_the_level_and_timestep_of_each_step(model, vaes, sampler, tower):
    seen, latent = Seen(model), locked(tower, vaes)
    SAMPLERS[sampler](seen.model, latent)
    noise = tiny.noise_for(latent, 3).unbind()[tower]
    assert len({sigma for _, sigma, _ in seen.forwards}) == 3
    for x, sigma, shares in seen.forwards:
        expected = sigma * noise + (1 - sigma) * normalised(latent)[tower]
        assert torch.allclose(x[tower][:1], expected, atol=1e-4)
        assert shares == [None, None]


@each_tower
@pytest.mark.parametrize("batch", [1, 2])
def test_follow_the_noise_equals_a_loop_written_by_hand(model, vaes, tower, batch):
    latent = locked(tower, vaes, latent=tiny.empty_latent(batch))
    noise = list(tiny.noise_for(latent, 3).unbind())
    sigmas = tiny.sigmas("euler", 4)
    network, x = model.model.diffusion_model, list(noise)
    texts = [tiny.text(name).repeat(batch, 1, 1) for name in ("positive", "video negative", "audio negative")]
    positive, *negatives = (torch.nn.functional.pad(text, (0, 0, 0, 500)) for text in texts)
    for sigma, then in pairwise(sigmas):
        x[tower] = sigma * noise[tower] + (1 - sigma) * normalised(latent)[tower]
        timestep = (sigma * 1000).expand(batch)
        pos = network(x, timestep, positive, {})
        neg = network(x, timestep, negatives[0], {}, audio_context=negatives[1])
        other = 1 - tower
        velocity = neg[other] + (4.0, 3.0)[other] * (pos[other] - neg[other])
        x[other] = x[other] + (then - sigma) * velocity
    settings = {"solver": "euler", "steps": 4}
    made = OviSampler.execute(
        model, tiny.positive(), tiny.negative(), latent, seed=3, video_cfg=4.0, audio_cfg=3.0, shift=tiny.SHIFT,
        skip_layers="", **settings,
    ).result[0]  # fmt: skip
    ours = normalised(made)[1 - tower]
    assert float((ours - x[1 - tower]).norm() / x[1 - tower].norm()) < 1e-4


@each_tower
@each_mode
@pytest.mark.parametrize("sampler", ["unipc", "stock euler"])
def test_the_answer_depends_on_what_is_given(model, vaes, sampler, mode, tower):
    made = [
        SAMPLERS[sampler](model, locked(tower, vaes, mode, seed))["samples"].unbind()[1 - tower] for seed in (1, 5, 1)
    ]
    assert torch.equal(made[0], made[2])
    assert float((made[0] - made[1]).norm() / made[0].norm()) > 1e-3


def test_the_modes_differ(model, vaes):
    follow, clean = (ovi(model, video_locked(vaes, mode))["samples"].unbind()[1] for mode in MODES)
    assert float((follow - clean).norm() / clean.norm()) > 1e-3


# -- together with others -------------------------------------------------------------------------------------------


def test_a_start_picture_on_top_is_shown_clean_and_kept(model, vaes):
    seen, images = Seen(model), clip(frames=9)
    latent = OviImageToVideo.execute(vaes[0], video_locked(vaes, images=images), clip(9, 1)).result[0]
    made = ovi(seen.model, latent)
    before = normalised(latent)[0]
    for x, sigma, (shares, _) in seen.forwards:
        timesteps = shares.values[shares.index][0]
        assert timesteps.tolist() == [0.0, 1.0, 1.0]
        assert torch.allclose(x[0][:1, :, 0], before[:, :, 0], atol=1e-6)
        if sigma > 0.5:
            assert not torch.allclose(x[0][:1, :, 1:], before[:, :, 1:], atol=0.1)
    assert torch.equal(made["samples"].unbind()[0], latent["samples"].unbind()[0])
    shown = OviDecode.execute(made, *vaes, "off").result[0]
    assert shown.shape == (9, 64, 96, 3)  # another clip than the given one, so it is decoded


@each_mode
@pytest.mark.parametrize("voice_first", [True, False])
def test_a_start_picture_and_a_voice_are_both_kept(model, vaes, mode, voice_first):
    """A talking photo: the first frame is clean in both modes, the voice as its mode says."""
    seen, picture, latent = Seen(model), clip(9, 1), tiny.empty_latent()
    if voice_first:
        latent = OviImageToVideo.execute(vaes[0], audio_locked(vaes, mode, latent), picture).result[0]
    else:
        latent = audio_locked(vaes, mode, OviImageToVideo.execute(vaes[0], latent, picture).result[0])
    before, after = (one["samples"].unbind() for one in (latent, ovi(seen.model, latent)))
    assert torch.equal(after[0][:, :, 0], before[0][:, :, 0])
    assert torch.equal(after[1], before[1])
    assert (after[0][:, :, 1:] - before[0][:, :, 1:]).abs().mean() > 0.1
    for _, _, (video, audio) in seen.forwards:
        assert video.values[video.index][0].tolist() == [0.0, 1.0, 1.0]
        assert audio is None if mode == MODES[0] else (audio.values == 0).all()


@each_mode
@each_tower
def test_two_stages_equal_one_run(model, vaes, tower, mode):
    settings = (3, 6, 4.0, "euler", "simple", tiny.positive(), tiny.negative())  # seed, steps, cfg, ...

    def stage(latent, add_noise, start, end, leftover):
        return KSamplerAdvanced().sample(model, add_noise, *settings, latent, start, end, leftover)[0]

    latent = locked(tower, vaes, mode)
    one = stage(latent, "enable", 0, 10000, "disable")["samples"]
    two = stage(stage(latent, "enable", 0, 3, "enable"), "disable", 3, 10000, "disable")["samples"]
    assert tiny.same(two, one)
    assert torch.equal(two.unbind()[tower], latent["samples"].unbind()[tower])


@each_mode
@each_tower
def test_a_cache_spares_forwards_and_keeps_what_is_given(model, vaes, tower, mode):
    """ComfyUI's cache goes by how much the video changes: not at all where it is given clean, so it never skips."""
    latent, runs = locked(tower, vaes, mode), []
    cached = EasyCacheNode.execute(model, 1.0, 0.1, 0.95, False).result[0]

    def count(args, extra):
        runs.append(1)
        return extra["original_block"](args)

    cached.set_model_patch_replace(count, "dit", "double_block", 0)
    made = ovi(cached, latent, "euler", steps=12)["samples"].unbind()
    if (tower, mode) == (0, "clean"):
        assert len(runs) == 12
    else:
        assert 3 <= len(runs) <= 9
    assert torch.equal(made[tower], latent["samples"].unbind()[tower])
    assert made[1 - tower].isfinite().all()


def test_both_towers_can_be_given(model, vaes):
    """A clip shorter than the sound that was given before shortens the sound too."""
    images, given = clip(frames=12), sound(seconds=2.0)
    latent = audio_locked(vaes, audio=given, latent=tiny.empty_latent(seconds=1.0))
    latent = video_locked(vaes, images=images, latent=latent)
    assert [part.shape[2] for part in latent["samples"].unbind()] == [4, 16]
    frames, audio, _ = OviDecode.execute(ovi(model, latent), *vaes, "off").result
    assert torch.equal(frames, images)
    assert torch.equal(audio["waveform"], given["waveform"][..., : round(12 / 25 * 44_100)])


# -- a sound shorter than the clip ----------------------------------------------------------------------------------


@each_mode
def test_the_model_goes_on_from_a_sound_that_ends_early(model, vaes, mode):
    """0.5 s are 15 of the 31 latent steps of a second."""
    given = sound(seconds=0.5, rate=48_000)
    latent = audio_locked(vaes, mode, audio=given, latent=tiny.empty_latent(seconds=1.0))
    mask = latent["noise_mask"].unbind()[1][0, 0]
    steps = latent["samples"].unbind()[1].shape[-1]
    assert steps == 31
    assert (mask[:15] < 1e-5).all()
    assert (mask[15:] == 1).all()
    made = [ovi(model, latent, seed=seed) for seed in (3, 4)]
    audios = [OviDecode.execute(one, *vaes, "off").result[1] for one in made]
    end, fade = 15 * 512 * 3, 960
    for one, audio in zip(made, audios, strict=True):
        waveform = audio["waveform"]
        assert audio["sample_rate"] == 48_000
        assert waveform.shape[1] == 2
        assert torch.equal(waveform[..., : end - fade], given["waveform"][..., : end - fade])
        decoded = OviDecode.execute({"samples": one["samples"]}, *vaes, "off").result[1]["waveform"]
        rest = resampling.resampled(decoded, 16_000, 48_000)[..., end : waveform.shape[-1]]
        assert torch.allclose(waveform[..., end:], rest.expand(1, 2, -1))
    after = [audio["waveform"][..., end:] for audio in audios]
    assert not torch.allclose(*after, atol=1e-3)


def test_the_crossfade_keeps_the_power_of_sounds_that_have_nothing_in_common():
    first, second = drawn(400, 1, 1000, seed=1), drawn(400, 1, 1600, seed=2)
    joined = crossfade.crossfaded_audio(first, second, 0.02, 16_000)
    assert joined.shape == second.shape
    assert torch.equal(joined[..., :680], first[..., :680])
    assert torch.equal(joined[..., 1000:], second[..., 1000:])
    power = joined[..., 680:1000].pow(2).mean(dim=0)
    assert (power.unflatten(-1, (10, 32)).mean(dim=-1) - 1).abs().max() < 0.05
