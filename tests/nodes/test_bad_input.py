"""What a user can get wrong: each is reported in one line, and nothing already made is lost."""

from __future__ import annotations

import copy

import comfy.ldm.models.autoencoder
import comfy.ldm.wan.model
import comfy.ldm.wan.vae
import comfy.sd
import pytest
import torch
from comfy.sd1_clip import SD1Tokenizer
from comfy_extras.nodes_audio import VAEEncodeAudio
from comfy_extras.nodes_custom_sampler import RandomNoise, SamplerCustomAdvanced
from comfy_extras.nodes_lt import LTXVConcatAVLatent
from native_cases import drawn, sample, small_vaes, text, tiny_wan, write_tiny
from ovi_native.nodes.conditioning import OviDualConditioning, OviTextEncode
from ovi_native.nodes.decoding import OviDecode
from ovi_native.nodes.latents import EmptyOviLatent, OviImageToVideo
from ovi_native.nodes.sampling.sampler import OviGuider, OviSamplerSelect, OviScheduler
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.latents import joint
from ovi_native.ovi_core.loading.loader import load_model
from refusals import refusal

from nodes import KSampler

pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(write_tiny(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def vaes():
    return small_vaes()


# -- latents ------------------------------------------------------------------------------------------------------


def empty(batch=1, width=64, height=64, seconds=0.4):
    return EmptyOviLatent.execute(width, height, seconds, batch).result[0]


def one_part(*shape):
    return {"samples": torch.zeros(shape)}


def parts(video, audio):
    return {"samples": joint.join(torch.zeros(video), torch.zeros(audio))}


def masked(video, audio):
    return {**empty(), "noise_mask": joint.join(torch.ones(video), torch.ones(audio))}


JOIN, CODEC, SIZE, PART = "Concat AV Latent", "Encode the video", "same batch size", "Set Latent Noise Mask"
WRONG_LATENTS = [
    pytest.param(one_part(1, 48, 1, 4, 4), "1 part(s), shape [1, 48, 1, 4, 4]", JOIN, id="one frame alone"),
    pytest.param(one_part(1, 4, 8, 8), "1 part(s), shape [1, 4, 8, 8]", JOIN, id="an image's"),
    pytest.param(parts((1, 128, 3, 4, 4), (1, 8, 10, 16)), "[1, 128, 3, 4, 4] and [1, 8, 10, 16]", CODEC, id="LTX's"),
    pytest.param(parts((1, 48, 3, 4, 4), (1, 20, 10, 1)), "and [1, 20, 10, 1]", CODEC, id="audio of four axes"),
    pytest.param(
        parts((2, 48, 3, 4, 4), (1, 20, 10)), "2 video part(s) and 1 audio part(s)", SIZE, id="unequal batches"
    ),
]
WRONG_MASKS = [
    pytest.param(masked((1, 1, 3, 4, 4), (1, 10)), "[1, 1, 3, 4, 4] and [1, 10]", PART, id="audio mask of two axes"),
    pytest.param(masked((1, 1, 3, 4, 4), (1, 1, 4, 4)), "and [1, 1, 4, 4]", PART, id="audio mask of four axes"),
]


def sampled(model, latent):
    return lambda: sample(model, latent)


def guided(model, latent):
    guider = OviGuider.execute(model, text(5), text(6), 4.0, 3.0, "1").result[0]
    sampler, sigmas = OviSamplerSelect.execute("euler").result[0], OviScheduler.execute("euler", 2, 5.0).result[0]
    return lambda: SamplerCustomAdvanced.execute(RandomNoise.execute(1).result[0], guider, sampler, sigmas, latent)


def stock(model, latent):
    return lambda: KSampler().sample(model, 1, 2, 4.0, "euler", "simple", text(5), text(6), latent)


@pytest.mark.parametrize(("latent", "found", "remedy"), [*WRONG_LATENTS, *WRONG_MASKS])
def test_a_latent_ovi_cannot_sample_is_refused(model, latent, found, remedy):
    node = "Ovi Dual-Tower Sampler"
    refusal(sampled(model, latent), node=node, input="latent", found=found, remedy=remedy)


@pytest.mark.parametrize(("latent", "found", "remedy"), [WRONG_LATENTS[0], *WRONG_LATENTS[2:], *WRONG_MASKS])
def test_a_latent_ovis_guider_cannot_sample_is_refused(model, latent, found, remedy):
    refusal(guided(model, latent), node="", input="latent_image", found=found, remedy=remedy)


@pytest.mark.parametrize(("latent", "found", "remedy"), WRONG_LATENTS[:-1])
def test_a_latent_the_stock_sampler_cannot_sample_is_refused(model, latent, found, remedy):
    if not getattr(latent["samples"], "is_nested", False):
        found = "1 part(s)"  # ComfyUI has given an empty latent the model's channels and a frame axis by then
    refusal(stock(model, latent), node="", input="latent_image", found=found, remedy=remedy)


@pytest.mark.parametrize(("latent", "found", "remedy"), WRONG_LATENTS)
def test_a_latent_ovi_cannot_decode_is_refused(vaes, latent, found, remedy):
    refusal(OviDecode.execute, latent, *vaes, node="Ovi AV Decode", input="samples", found=found, remedy=remedy)


@pytest.mark.parametrize(("latent", "found", "remedy"), [*WRONG_LATENTS, *WRONG_MASKS])
def test_a_latent_that_cannot_start_with_an_image_is_refused(vaes, latent, found, remedy):
    refusal(
        OviImageToVideo.execute,
        vaes[0],
        latent,
        torch.zeros(1, 64, 64, 3),
        node="Ovi Image To Video",
        input="latent",
        found=found,
        remedy=remedy,
    )


@pytest.mark.parametrize(
    ("size", "input", "found", "remedy"),
    [
        ((70, 64), "width", "70x64 px", "width to 64 or 96"),
        ((70, 65), "width and height", "70x65 px", "height to 64 or 96"),
        ((64, 20), "height", "20", "height to 32 or more"),
        ((0, 65), "width", "0", "width to 32 or more"),
    ],
)
def test_a_size_off_the_grid_or_its_limits_is_refused_with_the_nearest_ones(size, input, found, remedy):
    refusal(EmptyOviLatent.execute, *size, 0.4, node="Empty Ovi Latent", input=input, found=found, remedy=remedy)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_clip_without_length_is_refused(seconds):
    refusal(
        EmptyOviLatent.execute,
        64,
        64,
        seconds,
        node="Empty Ovi Latent",
        input="seconds",
        found=f"{seconds:g}",
        remedy="such as 10",
    )


# -- images, audio, VAEs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "found", "remedy"),
    [
        (torch.zeros(1, 64, 64, 4), "transparency", "background"),
        (torch.zeros(1, 64, 64, 1), "1 channel(s)", "background"),
        (torch.zeros(1, 1, 1, 3), "1x1 px", "larger image"),
        (torch.full((1, 64, 64, 3), float("nan")), "not numbers", "node that made it"),
        (torch.zeros(3, 64, 64, 3), "3 images for 2 clip(s)", "one image of the batch"),
        (torch.zeros(0, 64, 64, 3), "shape [0, 64, 64, 3]", "Load Image"),
    ],
)
def test_an_image_that_cannot_start_a_clip_is_refused(vaes, image, found, remedy):
    refusal(
        OviImageToVideo.execute,
        vaes[0],
        empty(batch=2),
        image,
        node="Ovi Image To Video",
        input="start_image",
        found=found,
        remedy=remedy,
    )


def other_vae(kind):
    """VAEs of other models, built by ComfyUI from weights without memory."""
    with torch.device("meta"):
        if kind == "SD":
            settings = {"z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128}
            settings |= {"ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "double_z": True}
            network = comfy.ldm.models.autoencoder.AutoencoderKL(ddconfig={**settings, "dropout": 0.0}, embed_dim=4)
        else:
            sizes = {"dim": 96, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_scales": []}
            network = comfy.ldm.wan.vae.WanVAE(**sizes, temperal_downsample=[False, True, True], dropout=0.0)
        return comfy.sd.VAE(sd=network.state_dict())


@pytest.mark.parametrize(("kind", "channels"), [("SD", 4), ("Wan 2.1", 16), ("audio", 20), ("none", None)])
def test_another_vae_in_the_video_vaes_place_is_named(vaes, kind, channels):
    vae = {"audio": vaes[1], "none": None}.get(kind) or (other_vae(kind) if channels else None)
    expected = {"input": "vae", "found": f"{channels} latent channels" if channels else "no VAE"}
    expected |= {"remedy": "Load wan2.2_vae with Load VAE"}
    image = torch.zeros(1, 64, 64, 3)
    refusal(OviImageToVideo.execute, vae, empty(), image, node="Ovi Image To Video", **expected)
    refusal(OviDecode.execute, empty(), vae, vaes[1], node="Ovi AV Decode", **expected)


@pytest.mark.parametrize(("kind", "found"), [("video", "48 latent channels"), ("SD", "4 latent"), ("none", "no VAE")])
def test_another_vae_in_the_audio_vaes_place_is_named(vaes, kind, found):
    vae = {"video": vaes[0], "SD": other_vae("SD"), "none": None}[kind]
    refusal(
        OviDecode.execute,
        empty(),
        vaes[0],
        vae,
        node="Ovi AV Decode",
        input="audio_vae",
        found=found,
        remedy="Connect Load Ovi Audio VAE",
    )


@pytest.mark.parametrize(
    ("waveform", "found", "remedy"),
    [
        (torch.full((1, 1, 16_000), float("nan")), "NaN", "Generate or load the audio again"),
        (torch.zeros(1, 2, 300), "300 samples", "Give a longer piece"),
        (torch.zeros(1, 1, 0), "0 samples", "Give a longer piece"),
    ],
)
def test_audio_that_the_vae_cannot_encode_is_refused(vaes, waveform, found, remedy):
    refusal(
        VAEEncodeAudio.execute,
        vaes[1],
        {"waveform": waveform, "sample_rate": 16_000},
        node="",
        input="audio",
        found=found,
        remedy=remedy,
    )


def test_stereo_at_44_khz_is_mixed_and_resampled(vaes):
    tone = torch.sin(torch.arange(44_100) / 44_100 * 440 * 6.2832)
    stereo = {"waveform": torch.stack((tone, 0.5 * tone))[None], "sample_rate": 44_100}
    there = torch.sin(torch.arange(16_000) / 16_000 * 440 * 6.2832)
    mono = {"waveform": 0.75 * there[None, None], "sample_rate": 16_000}
    ours, expected = (VAEEncodeAudio.execute(vaes[1], audio).result[0]["samples"] for audio in (stereo, mono))
    assert ours.shape == expected.shape == (1, 20, 31)
    assert (ours - expected)[..., 2:-2].norm() / expected[..., 2:-2].norm() < 0.1


# -- text, models, settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["clip_l", "none"])
def test_a_clip_of_another_family_is_named(given):
    clip, found = None, "no text encoder"
    if given == "clip_l":
        clip, found = comfy.sd.CLIP(no_init=True), "a CLIP of another family (SD1Tokenizer, l)"
        clip.tokenizer = SD1Tokenizer()
    refusal(
        OviTextEncode.execute,
        clip,
        "rain",
        "960x960_10s",
        node="Ovi Text Encode",
        input="clip",
        found=found,
        remedy="CLIPLoader, type 'wan'",
    )


@pytest.mark.parametrize("input", ["positive", "negative"])
@pytest.mark.parametrize(("words", "found"), [(text(width=768), "text of width 768"), ([[None, {}]], "no text")])
def test_text_of_another_encoder_is_refused_before_the_first_step(model, input, words, found):
    prompts = {"positive": text(5), "negative": text(6)} | {input: words}
    expected = {"input": input, "found": found, "remedy": "Load umt5_xxl with CLIPLoader (type wan)"}
    refusal(sample, model, **prompts, node="Ovi Dual-Tower Sampler", **expected)
    sampler = KSampler().sample
    refusal(sampler, model, 1, 2, 4.0, "euler", "simple", *prompts.values(), empty(), node="", **expected)


def test_the_audio_towers_text_is_held_to_the_same_width(model):
    dual = OviDualConditioning.execute(text(5), text(6, width=768)).result[0]
    found = "text of width 768"
    refusal(
        sample,
        model,
        positive=dual,
        node="Ovi Dual-Tower Sampler",
        input="positive",
        found=found,
        remedy="Load umt5_xxl",
    )


def test_prompts_that_cannot_be_paired_are_refused():
    refusal(
        OviDualConditioning.execute,
        text(1),
        text(2) + text(3),
        node="Ovi Dual Conditioning",
        input="audio",
        found="2 prompts for 1",
        remedy="Join each pair",
    )


@pytest.fixture(scope="module")
def wan():
    return comfy.sd.load_diffusion_model_state_dict(tiny_wan())


def test_a_model_of_another_family_is_named(wan):
    expected = {"input": "model", "found": "a WAN22 model", "remedy": "Connect Load Ovi Model"}
    refusal(sample, wan, node="Ovi Dual-Tower Sampler", **expected)
    refusal(OviGuider.execute, wan, text(), text(), 4.0, 3.0, node="Ovi Guider", **expected)


@pytest.mark.parametrize("steps", [0, -3])
def test_no_steps_are_refused(model, steps):
    expected = {"input": "steps", "found": str(steps), "remedy": "such as 50"}
    refusal(OviScheduler.execute, "unipc", steps, 5.0, node="Ovi Scheduler", **expected)
    refusal(sample, model, steps=steps, node="Ovi Dual-Tower Sampler", **expected)


@pytest.mark.parametrize(("layers", "found"), [("abc", "'abc'"), ("99", "'99'"), ("-1", "'-1'"), ("1, 2.5", "'2.5'")])
def test_block_pairs_the_model_has_not_are_refused(model, layers, found):
    expected = {"input": "skip_layers", "found": found, "remedy": "Correct the list"}
    refusal(sample, model, skip_layers=layers, node="Ovi Dual-Tower Sampler", **expected)
    refusal(OviGuider.execute, model, text(), text(), 4.0, 3.0, layers, node="Ovi Guider", **expected)


# -- nothing is lost ----------------------------------------------------------------------------------------------


def test_after_a_refusal_inputs_are_as_they_were_and_the_next_run_is_fine(model, vaes):
    """One good set of objects through every kind of refusal, then a run that equals the one before them all."""
    latent = OviImageToVideo.execute(vaes[0], empty(), torch.rand(1, 64, 64, 3)).result[0]
    positive, negative = text(5), OviDualConditioning.execute(text(6), text(7)).result[0]
    before = sample(model, latent, positive, negative)
    kept = copy.deepcopy((latent["samples"].tensors, latent["noise_mask"].tensors, positive, negative))
    weights = {key: value.clone() for key, value in model.model.state_dict().items()}
    options = copy.deepcopy(model.model_options)
    image = latent["samples"].unbind()[0][:, :, :1]
    for run in (
        lambda: sample(model, {**latent, "samples": image}, positive, negative),
        lambda: sample(model, latent, positive, text(width=768)),
        lambda: sample(model, latent, positive, negative, skip_layers="99"),
        lambda: sample(model, latent, positive, negative, steps=0),
        lambda: OviImageToVideo.execute(vaes[0], latent, torch.zeros(1, 1, 1, 3)),
        lambda: OviDecode.execute(latent, vaes[1], vaes[0]),
        stock(model, {"samples": image}),
    ):
        with pytest.raises(OviError):
            run()
    now = (latent["samples"].tensors, latent["noise_mask"].tensors, positive, negative)
    assert same(now, kept)
    assert model.model_options == options
    assert all(torch.equal(value, weights[key]) for key, value in model.model.state_dict().items())
    assert model.model.sampling_run is None
    assert same(sample(model, latent, positive, negative).tensors, before.tensors)


def same(a, b):
    """Equal tensors in equal lists, tuples and dicts."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def test_sampling_nothing_of_the_schedule_gives_the_latent_back(model):
    latent = LTXVConcatAVLatent.execute({"samples": drawn(1, 48, 3, 4, 4)}, {"samples": drawn(1, 20, 10)}).result[0]
    assert same(sample(model, latent, denoise=0.0).tensors, latent["samples"].tensors)
