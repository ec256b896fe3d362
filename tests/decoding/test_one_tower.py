"""One tower alone: what it makes, what it costs, and what ComfyUI's nodes and ours do with its latent."""

from __future__ import annotations

import comfy.utils
import folder_paths
import latent_preview
import pytest
import tiny_ovi as tiny
import torch
from comfy.cli_args import LatentPreviewMethod
from comfy_extras.nodes_audio import VAEDecodeAudio
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from comfy_extras.nodes_lt import LTXVConcatAVLatent, LTXVSeparateAVLatent
from fusion_cases import published_weights, write_model
from native_cases import drawn, loaded, sample, small_vaes, text
from ovi_native.nodes.decoding import OviDecode
from ovi_native.nodes.latents import EmptyOviLatent, OviImageToVideo
from ovi_native.nodes.locked_media import OviLockAudio, OviLockVideo
from ovi_native.ovi_core.latents.denoise_mask import FOLLOW, with_parts
from ovi_native.ovi_core.latents.joint import VIDEO_ALONE, join, parts, split
from ovi_native.ovi_core.loading.loader import load_model
from refusals import refusal
from torch.utils.flop_counter import FlopCounterMode

from nodes import KSampler, KSamplerAdvanced, LatentUpscale, SaveLatent, SetLatentNoiseMask, VAEDecode, VAEDecodeTiled

VIDEO, AUDIO = "video only", "audio only"
each_tower = pytest.mark.parametrize("towers", [VIDEO, AUDIO])


pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    """The MODEL of the same weights whose towers answer each other with nothing: values of the fusion are 0."""
    weights = published_weights(tiny.SIZES)
    silent = {key: w * 0 if ".v_fusion." in key else w for key, w in weights.items()}
    assert any(".v_fusion." in key for key in silent)
    return load_model(str(write_model(tmp_path_factory.mktemp("apart"), silent)))


@pytest.fixture(scope="module")
def vaes():
    return small_vaes()


def empty(towers, batch=1, seconds=0.4):
    return EmptyOviLatent.execute(96, 64, seconds, batch, towers).result[0]


def part(samples, towers):
    """The part of a latent that is there."""
    return samples.unbind()[1] if towers == AUDIO else samples.unbind()[0] if samples.is_nested else samples


def alone(joint, towers):
    """That part of a joint latent, as a latent of its own."""
    video, audio = joint.unbind()
    if towers == VIDEO:
        setattr(video, VIDEO_ALONE, True)  # as Empty Ovi Latent marks it, which later ComfyUI asks for
    return join(video, None) if towers == VIDEO else join(None, audio)


# -- what it makes and costs ----------------------------------------------------------------------------------------


@each_tower
@pytest.mark.parametrize("kept", [False, True])
def test_a_tower_alone_makes_what_it_makes_beside_one_it_does_not_look_at(model, apart, towers, kept):
    joint = tiny.drawn_latent(3) if kept else tiny.empty_latent()
    noise = tiny.noise_for(joint)
    own = {**joint, "samples": alone(joint["samples"], towers)}
    if kept:
        video, audio = joint["samples"].unbind()
        masks = torch.ones(1, 1, 3, 1, 1), torch.ones(1, 1, 10)
        masks[0][:, :, 0], masks[1][..., :4] = 0, FOLLOW
        joint = with_parts(joint, video, audio, *masks)
        own = with_parts(own, *parts(own["samples"], ""), masks[0] if towers == VIDEO else None, None)
        if towers == AUDIO:
            own = with_parts(own, None, audio, audio_mask=masks[1])
    together = tiny.run(tiny.guider(apart), joint, noise)[towers == AUDIO]
    made = tiny.run_both(tiny.guider(model), own, alone(noise, towers))[0]["samples"]
    assert tiny.same([part(made, towers)], [together])
    assert not tiny.same([together], [tiny.run(tiny.guider(model), joint, noise)[towers == AUDIO]], 1e-2)


def flops(model, *given):
    x = [torch.zeros(shape) for shape in given]
    context = torch.zeros(1, 512, tiny.SIZES["text_dim"])
    with FlopCounterMode(display=False) as counter:
        loaded(tiny.with_pytorch_attention(model)).model.diffusion_model(x, torch.tensor([500.0]), context)
    return counter.get_total_flops()


def test_the_work_of_the_absent_tower_and_of_the_fusion_is_not_spent(model):
    video, audio, cell = (1, 48, 3, 4, 6), (1, 20, 10), (1, 48, 1, 1, 1)
    both, pictures, sound = flops(model, video, audio), flops(model, video), flops(model, cell, audio)
    dim, tokens, steps = tiny.SIZES["dim"], 3 * 2 * 3, 10
    projections = 2 * (tokens + steps) * 2 * dim * dim  # of key and value, 2 operations each
    attention = 2 * 2 * 2 * tokens * steps * dim  # scores and sums, both ways
    assert both - pictures - sound == tiny.SIZES["num_layers"] * (projections + attention)
    assert pictures < 0.75 * both
    assert sound < 0.75 * both


def test_absent_and_present_towers_cost_nothing_and_something_in_a_whole_run(model):
    """No layer of the absent tower is called, whatever guidance and skipped layers ask for."""
    called = set()
    network = model.model.diffusion_model
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: called.add(name))
        for name, module in network.named_modules()
        if name
    ]
    try:
        tiny.run_both(tiny.guider(model), empty(VIDEO))
        assert "blocks.2.ffn" in called
        assert not any(name.startswith("audio_model") or "fusion" in name for name in called)
        called.clear()
        tiny.run_both(tiny.guider(model), empty(AUDIO))
        assert "audio_model.blocks.2.ffn" in called
        assert all(name.startswith("audio_model") and "fusion" not in name for name in called)
    finally:
        for hook in hooks:
            hook.remove()


# -- ComfyUI's nodes -----------------------------------------------------------------------------------------------


def ksampler(model, latent, sampler="euler", steps=2):
    out = KSampler().sample(model, 1, steps, 4.0, sampler, "simple", tiny.positive(), tiny.negative(), latent)
    return out[0]["samples"]


@each_tower
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("sampler", ["Ovi", "euler", "uni_pc", "dpmpp_2m_sde", "dpm_adaptive"])
def test_samplers_take_it(model, towers, batch, sampler):
    latent = empty(towers, batch)
    made = sample(model, latent, text(5), text(6)) if sampler == "Ovi" else ksampler(model, latent, sampler)
    assert part(made, towers).shape == part(latent["samples"], towers).shape
    assert part(made, towers).isfinite().all()
    assert (part(made, towers).flatten(1).std(dim=1) > 0.1).all()
    if towers == AUDIO:
        assert made.unbind()[0].shape == (batch, 48, 1, 1, 1)
        assert not made.unbind()[0].any()


@each_tower
def test_two_stages_make_what_one_run_makes(model, towers):
    def stage(latent, noise, start, end, left):
        settings = ("euler", "simple", tiny.positive(), tiny.negative(), latent, start, end, left)
        return KSamplerAdvanced().sample(model, noise, 1, 4, 4.0, *settings)[0]

    whole = stage(empty(towers), "enable", 0, 10000, "disable")["samples"]
    two = stage(stage(empty(towers), "enable", 0, 2, "enable"), "disable", 2, 10000, "disable")["samples"]
    assert tiny.same([part(two, towers)], [part(whole, towers)])


@each_tower
@pytest.mark.parametrize("node", [EasyCacheNode, LazyCacheNode])
def test_a_cache_goes_by_the_tower_that_is_there(model, towers, node):
    def run(threshold):
        counted = tiny.Forwards(node.execute(model, threshold, 0.1, 0.95, False).result[0])
        blocks = []
        counted.model.set_model_patch_replace(
            lambda args, extra: (blocks.append(1), extra["original_block"](args))[1], "dit", "double_block", 0
        )
        out = tiny.run_both(tiny.guider(counted.model), empty(towers), steps=12)[0]["samples"]
        return part(out, towers), len(blocks)

    whole = part(tiny.run_both(tiny.guider(model), empty(towers), steps=12)[0]["samples"], towers)
    idle, forwards = run(0.0)
    assert forwards == 12
    assert tiny.same([idle], [whole])
    cached, forwards = run(1.0)
    assert 2 <= forwards <= 9
    unlike = part(tiny.noise_for(empty(towers), 9), towers)
    assert 0 < tiny.differences([cached], [whole])[0] < tiny.differences([unlike], [whole])[0] * 0.75


@pytest.mark.parametrize(("towers", "size"), [(VIDEO, (6, 4)), (AUDIO, (160, 20))])
def test_every_step_has_its_progress(model, monkeypatch, towers, size):
    seen: list = []
    monkeypatch.setattr(latent_preview.args, "preview_method", LatentPreviewMethod.Latent2RGB)
    monkeypatch.setattr(
        comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, preview, node_id=None: seen.append((value, preview))
    )
    ksampler(model, empty(towers), steps=3)
    assert [(step, preview[1].size) for step, preview in seen] == [(1, size), (2, size), (3, size)]


@each_tower
def test_a_mask_keeps_what_it_kept_beside_the_other_tower(model, towers):
    latent = {**empty(towers), "samples": tiny.noise_for(empty(towers), 3)}
    video, audio = parts(latent["samples"], "")
    if towers == VIDEO:
        mask = torch.ones(1, 64, 96)
        mask[:, :, :32] = 0
        (latent,) = SetLatentNoiseMask().set_mask(latent, mask)
        kept = torch.zeros(1, 48, 3, 4, 6, dtype=torch.bool)
        kept[..., :2] = True
    else:
        kept = torch.zeros(1, 20, 10, dtype=torch.bool)
        kept[..., :4] = True
        latent = with_parts(latent, video, audio, audio_mask=1 - kept[:, :1].float())
    made = part(ksampler(model, latent), towers)
    assert torch.equal(made == part(latent["samples"], towers), kept)


def test_a_video_alone_is_any_video_latent_of_the_host(model, vaes, tmp_path, monkeypatch):
    made = {"samples": ksampler(model, empty(VIDEO))}
    images = OviDecode.execute(made, *vaes, "off").result[0]
    assert torch.equal(VAEDecode().decode(vaes[0], made)[0], images)
    assert VAEDecodeTiled().decode(vaes[0], made, 512, 64, 64, 8)[0].shape == images.shape
    (larger,) = LatentUpscale().upscale(made, "nearest-exact", 64, 64, "disabled")  # of 8 px a cell
    assert ksampler(model, larger).shape == (1, 48, 3, 8, 8)
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    SaveLatent().save(made, "video")
    assert [*tmp_path.glob("video_*")]


def test_sound_alone_can_be_taken_apart_decoded_and_joined_with_a_video(model, vaes):
    made = {"samples": ksampler(model, empty(AUDIO))}
    _, sound = LTXVSeparateAVLatent.execute(made).result
    own = OviDecode.execute(made, *vaes, "off").result[1]["waveform"]
    for latent in (made, sound):
        stock = VAEDecodeAudio.execute(vaes[1], latent).result[0]
        assert torch.equal(stock["waveform"], own)
    both = LTXVConcatAVLatent.execute(empty(VIDEO), sound).result[0]
    assert split(both["samples"], "")[1].shape == (1, 20, 10)
    assert len(ksampler(model, both).unbind()) == 2


# -- our nodes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2])
def test_pictures_alone_are_decoded_beside_silence_of_their_length(vaes, save, batch):
    latent = {"samples": tiny.noise_for(empty(VIDEO, batch), 3)}
    images, audio, video = OviDecode.execute(latent, vaes[0], None, "off").result
    assert images.shape == (9 * batch, 64, 96, 3)
    assert audio["waveform"].shape == (batch, 1, 6000)
    assert audio["sample_rate"] == 16_000
    assert not audio["waveform"].any()
    facts = save(video)
    assert (facts.frames, facts.fps, facts.width, facts.height) == (9 * batch, 24, 96, 64)
    assert abs(facts.audio_seconds - facts.video_seconds) < 1 / 24


@pytest.mark.parametrize(("seconds", "frames"), [(0.4, 8), (5.0, 121), (10.0, 242)])
def test_sound_alone_is_decoded_beside_black_frames_of_its_length(vaes, save, seconds, frames):
    latent = {"samples": tiny.noise_for(empty(AUDIO, seconds=seconds), 3)}
    images, audio, video = OviDecode.execute(latent, None, vaes[1], "off").result
    steps = latent["samples"].unbind()[1].shape[-1]
    assert audio["waveform"].shape == (1, 1, steps * 512)
    assert audio["waveform"].std() > 0.01
    assert images.shape == (frames, 64, 64, 3)
    assert not images.any()
    facts = save(video)
    assert (facts.frames, facts.fps, facts.sample_rate) == (frames, 24, 16_000)
    assert 0 <= facts.video_seconds - steps * 512 / 16_000 < 1 / 24


def test_a_picture_begins_a_video_without_sound(model, vaes):
    picture = drawn(1, 64, 96, 3, seed=3).sigmoid()
    latent = OviImageToVideo.execute(vaes[0], empty(VIDEO), picture).result[0]
    joint = OviImageToVideo.execute(vaes[0], tiny.empty_latent(), picture).result[0]
    assert torch.equal(latent["samples"], joint["samples"].unbind()[0])
    assert torch.equal(latent["noise_mask"], joint["noise_mask"].unbind()[0])
    made = sample(model, latent, text(5), text(6))
    assert torch.equal(made[:, :, 0], latent["samples"][:, :, 0])
    assert not torch.equal(made[:, :, 1], latent["samples"][:, :, 1])


@each_tower
def test_a_tower_cannot_answer_one_that_is_absent(vaes, towers):
    found = {VIDEO: "1 part(s)", AUDIO: "audio alone"}[towers]
    expected = {"input": "latent", "found": found, "remedy": "Set towers of Empty Ovi Latent"}
    images, audio = torch.zeros(9, 64, 96, 3), {"waveform": torch.zeros(1, 1, 16_000), "sample_rate": 16_000}
    refusal(OviLockVideo.execute, vaes[0], empty(towers), images, node="Ovi Lock Video", **expected)
    refusal(OviLockAudio.execute, vaes[1], empty(towers), audio, node="Ovi Lock Audio", **expected)
    if towers == AUDIO:
        expected |= {"node": "Ovi Image To Video", "remedy": "video only"}
        refusal(OviImageToVideo.execute, vaes[0], empty(towers), images[:1], **expected)


def test_the_vae_of_what_is_there_is_asked_for(vaes):
    expected = {"node": "Ovi AV Decode", "found": "no VAE"}
    refusal(OviDecode.execute, empty(VIDEO), None, vaes[1], input="vae", remedy="wan2.2_vae", **expected)
    refusal(OviDecode.execute, empty(AUDIO), vaes[0], None, input="audio_vae", remedy="Load Ovi Audio VAE", **expected)
