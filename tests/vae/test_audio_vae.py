"""The audio VAE: the reference's numbers at the published size, every spelling, readable errors."""

import math
import re

import comfy.cli_args
import comfy.sd
import numpy as np
import pytest
import torch
from comfy_extras.nodes_audio import VAEDecodeAudio, VAEDecodeAudioTiled, VAEEncodeAudio
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.vae.audio_vae import AudioAutoencoder, load_audio_vae, mel_filters, read_audio_vae
from ovi_native.ovi_core.vae.mmaudio_weights import AudioSizes
from seeded_weights import GOLDEN, draw_weights, golden_json, relative_error

SEED = 11
TOLERANCE = 1e-4
SMALL = AudioSizes(hidden=16, vocoder_channels=64, upsample_kernels=(8, 8, 4, 4, 4, 4), resblock_kernels=(3, 7, 11))


def published(shapes, network, prefix):
    """Seeded weights for published keys; the values no training changes are those of ComfyUI's own layers."""
    fixed = {key: value for key, value in network.state_dict().items() if key.endswith((".filter", "mean", "_std"))}
    drawn = draw_weights({key: shape for key, shape in shapes.items() if prefix + key not in fixed}, SEED)
    return drawn | {key: fixed[prefix + key].clone() for key in shapes if prefix + key in fixed}


def split(network):
    """Published tables of keys for a network of any size: the VAE's, and the vocoder's with weight norm."""
    vae, vocoder = {}, {}
    for key, value in network.state_dict().items():
        half, _, name = key.partition(".")
        if half == "vae":
            vae[name] = list(value.shape)
        elif half == "vocoder" and name.endswith(".weight"):
            stem = name.removesuffix(".weight") + ".parametrizations.weight.original"
            vocoder[stem + "0"] = [value.shape[0], 1, 1]
            vocoder[stem + "1"] = list(value.shape)
        elif half == "vocoder":
            vocoder[name] = list(value.shape)
    return vae, vocoder


@pytest.fixture(scope="module")
def golden():
    return {key: torch.from_numpy(value) for key, value in np.load(GOLDEN / "audio_vae.npz").items()}


@pytest.fixture(scope="module")
def published_vae():
    tables = golden_json("audio_vae_keys.json")
    network = AudioAutoencoder(SMALL)  # what no training changes is alike in all sizes
    weights = published(tables["v1-16.pth"], network, "vae.")
    return load_audio_vae(weights, published(tables["best_netG.pt[generator]"], network, "vocoder."))


@pytest.fixture(scope="module")
def small():
    """A small pair of state dicts in the published spelling."""
    network = AudioAutoencoder(SMALL)
    vae, vocoder = split(network)
    return published(vae, network, "vae."), published(vocoder, network, "vocoder.")


@pytest.fixture(scope="module")
def small_vae(small):
    return load_audio_vae(*small)


def latents(steps, seed=0, batch=1):
    return torch.randn(batch, 20, steps, generator=torch.Generator().manual_seed(seed))


def sound(samples, channels=1, seed=0):
    return torch.randn(1, channels, samples, generator=torch.Generator().manual_seed(seed)) * 0.3


def slaney_filters(bands=80, bins=513, rate=16_000):
    """Slaney's bank by its definition (Auditory Toolbox, 1998), in float64.

    The scale is linear below 1 kHz, 3 mel per 200 Hz, and logarithmic above, 27 mel per factor 6.4. Band m is a
    triangle of area 1 Hz from mel point m over m + 1 to m + 2.
    """
    knee, per_log = 1000.0, 27 / math.log(6.4)
    highest = 15 + math.log(rate / 2 / knee) * per_log
    points = np.linspace(0, highest, bands + 2)
    hertz = np.where(points < 15, points * 200 / 3, knee * np.exp((points - 15) / per_log))
    low, peak, high = hertz[:-2, None], hertz[1:-1, None], hertz[2:, None]
    at = np.linspace(0, rate / 2, bins)
    return np.minimum((at - low) / (peak - low), (high - at) / (high - peak)).clip(min=0) * 2 / (high - low)


def test_mel_bank_is_librosas():
    assert relative_error(mel_filters(), torch.from_numpy(slaney_filters())) < 1e-5


@pytest.mark.parametrize("flag", ["bf16_vae", "fp16_vae"])
def test_the_spectrogram_is_float32_whatever_type_comfyui_was_told(small, small_vae, monkeypatch, flag):
    monkeypatch.setattr(comfy.cli_args.args, flag, True)
    vae = load_audio_vae(*small)
    half = {"bf16_vae": torch.bfloat16, "fp16_vae": torch.float16}[flag]
    assert {weight.dtype for weight in vae.first_stage_model.vocoder.parameters()} == {half}
    seen = []
    vae.first_stage_model.mel_converter.register_forward_hook(lambda _, given, mel: seen.append((given[0], mel)))
    waveform = sound(16_384) * torch.logspace(0, -4, 16_384)  # down to -80 dB, where half precision is noise
    latent = vae.encode(waveform.movedim(1, -1))
    assert torch.equal(seen[0][0], waveform[:, 0])
    assert torch.equal(seen[0][1], small_vae.first_stage_model.mel_converter(waveform[:, 0]))
    assert relative_error(latent, small_vae.encode(waveform.movedim(1, -1))) < 0.02
    tiled = vae.encode_tiled(sound(80_000).movedim(1, -1), tile_x=16_384, tile_y=1, overlap=4096)
    assert tiled.isfinite().all()
    assert relative_error(vae.decode(latents(8)), small_vae.decode(latents(8))) < 0.1


def test_decoding_gives_the_references_spectrogram_and_sound(published_vae, golden):
    with torch.no_grad():
        mel = published_vae.first_stage_model.vae.decode(golden["latent"])
    assert relative_error(mel, golden["mel"]) < TOLERANCE
    decoded = published_vae.decode(golden["latent"])
    assert decoded.shape == (1, 512 * 12, 1)
    assert relative_error(decoded.movedim(-1, 1), golden["waveform"]) < TOLERANCE


def test_encoding_gives_the_references_spectrogram_and_latents(published_vae, golden):
    waveform = golden["input_waveform"]
    assert relative_error(published_vae.first_stage_model.mel_converter(waveform), golden["input_mel"]) < TOLERANCE
    assert relative_error(published_vae.encode(waveform[..., None]), golden["encoded_mean"]) < TOLERANCE


def test_stock_nodes_meet_the_reference_at_16_khz(published_vae, golden):
    audio = VAEDecodeAudio.execute(published_vae, {"samples": golden["latent"]}).result[0]
    assert golden["waveform"].std() * 5 < 1  # louder sound is scaled down by the node
    assert audio["sample_rate"] == 16_000
    assert relative_error(audio["waveform"], golden["waveform"]) < TOLERANCE
    given = {"waveform": golden["input_waveform"][None], "sample_rate": 16_000}
    latent = VAEEncodeAudio.execute(published_vae, given).result[0]["samples"]
    assert relative_error(latent, golden["encoded_mean"]) < TOLERANCE


def test_published_size_is_read_from_the_weights(published_vae):
    assert isinstance(published_vae, comfy.sd.VAE)
    tables = golden_json("audio_vae_keys.json")
    not_trained = ("data_mean", "data_std", ".filter", ".original0")
    shapes = [shape for table in tables.values() for key, shape in table.items() if not key.endswith(not_trained)]
    trained = sum(value.numel() for value in published_vae.first_stage_model.parameters())
    assert trained == sum(math.prod(shape) for shape in shapes)
    assert published_vae.model_size() > 4 * trained


@pytest.mark.parametrize("spelling", ["weight_g", "folded", "one file", "as ComfyUI saves it"])
def test_every_spelling_gives_the_same_sound(small, small_vae, spelling):
    vae, vocoder = small
    if spelling == "weight_g":
        new = {"0": ".weight_g", "1": ".weight_v"}
        old = re.compile(r"\.parametrizations\.weight\.original([01])")
        loaded = load_audio_vae(vae, {old.sub(lambda m: new[m[1]], k): v for k, v in vocoder.items()})
    elif spelling == "folded":
        folded = small_vae.first_stage_model.vocoder.state_dict()
        loaded = load_audio_vae(vae, folded)
    elif spelling == "one file":
        both = {f"vae.{k}": v for k, v in vae.items()} | {f"vocoder.{k}": v for k, v in vocoder.items()}
        loaded = load_audio_vae(both)
    else:
        loaded = load_audio_vae(small_vae.get_sd())
    assert torch.equal(loaded.decode(latents(8)), small_vae.decode(latents(8)))
    assert torch.equal(loaded.encode(sound(8192).movedim(1, -1)), small_vae.encode(sound(8192).movedim(1, -1)))


def test_a_vae_converted_with_filters_of_unit_length_is_not_scaled_again(small, small_vae):
    vae, vocoder = small
    trained = {key: value * value[0].numel() ** 0.5 if value.ndim == 3 else value for key, value in vae.items()}
    trained |= {key: vae[key] for key in ("data_mean", "data_std")}
    reference = load_audio_vae(trained, vocoder)
    converted = {key: value.clone() for key, value in reference.first_stage_model.vae.state_dict().items()}
    again = load_audio_vae(converted, vocoder)
    assert torch.equal(again.decode(latents(8)), reference.decode(latents(8)))


def test_weights_under_generator_and_both_file_types_are_read(small, small_vae, tmp_path):
    import safetensors.torch

    torch.save(small[0], tmp_path / "v1-16.pth")
    torch.save({"generator": small[1], "steps": 5}, tmp_path / "best_netG.pt")
    safetensors.torch.save_file(small[1], tmp_path / "vocoder.safetensors")
    for name in ("best_netG.pt", "vocoder.safetensors"):
        vae = read_audio_vae(str(tmp_path / "v1-16.pth"), str(tmp_path / name))
        assert torch.equal(vae.decode(latents(4)), small_vae.decode(latents(4)))


def test_the_host_can_make_a_second_copy(small, tmp_path):
    torch.save(small[0], tmp_path / "v1-16.pth")
    torch.save(small[1], tmp_path / "best_netG.pt")
    vae = read_audio_vae(str(tmp_path / "v1-16.pth"), str(tmp_path / "best_netG.pt"))
    reload, arguments = vae.patcher.cached_patcher_init
    copy = reload(*arguments, disable_dynamic=True)  # as ComfyUI calls it for another device
    assert copy.model is not vae.patcher.model
    assert all(torch.equal(a, b) for a, b in zip(copy.model.parameters(), vae.patcher.model.parameters(), strict=True))


@pytest.mark.parametrize("steps", [1, 157, 314])
def test_sound_is_512_samples_a_step(small_vae, steps):
    assert small_vae.decode(latents(steps, batch=2)).shape == (2, 512 * steps, 1)
    assert small_vae.encode(sound(max(512 * steps, 1024)).movedim(1, -1)).shape == (1, 20, max(steps, 2))


def test_five_seconds_of_sound_are_156_whole_steps(small_vae):
    assert small_vae.encode(sound(80_000).movedim(1, -1)).shape[-1] == 156
    longer = sound(80_384 + 500).movedim(1, -1)
    assert small_vae.encode_tiled(longer, tile_x=16_384, tile_y=1, overlap=4096).shape[-1] == 157


def test_tiled_decoding_is_close_to_whole_decoding(small_vae):
    latent = {"samples": latents(96)}
    with torch.inference_mode():  # as ComfyUI runs nodes
        whole = VAEDecodeAudio.execute(small_vae, latent).result[0]["waveform"]
        tiled = VAEDecodeAudioTiled.execute(small_vae, latent, 64, 32).result[0]["waveform"]
    assert tiled.shape == whole.shape == (1, 1, 96 * 512)
    assert relative_error(tiled[..., :8192], whole[..., :8192]) < 0.2


def test_stereo_is_mixed_not_cut(small_vae):
    stereo = sound(16_384, channels=2)
    mixed, mono, left = (
        VAEEncodeAudio.execute(small_vae, {"waveform": waveform, "sample_rate": 16_000}).result[0]["samples"]
        for waveform in (stereo, stereo.mean(1, keepdim=True), stereo[:, :1])
    )
    assert torch.equal(mixed, mono)
    assert not torch.equal(mixed, left)


def test_44_khz_sound_is_resampled_by_the_stock_node(small_vae):
    audio = {"waveform": sound(44_100, channels=2), "sample_rate": 44_100}
    assert VAEEncodeAudio.execute(small_vae, audio).result[0]["samples"].shape == (1, 20, 16_000 // 512)


@pytest.mark.parametrize(("waveform", "found"), [(sound(300), "300 samples"), (sound(2048) * float("nan"), "NaN")])
def test_sound_that_cannot_be_encoded_is_refused(small_vae, waveform, found):
    with pytest.raises(OviError, match=found):
        VAEEncodeAudio.execute(small_vae, {"waveform": waveform, "sample_rate": 16_000})


def error_of(vae, vocoder=None):
    with pytest.raises(OviError) as caught:
        load_audio_vae(vae, vocoder)
    return caught.value


def weights_like(**shapes):
    return {key.replace("__", "."): torch.zeros(shape) for key, shape in shapes.items()}


@pytest.mark.parametrize(
    ("weights", "found"),
    [
        (weights_like(encoder__conv_in__weight=(512, 128, 3)), "44.1 kHz VAE"),
        (weights_like(conv_pre__weight_v=(1536, 80, 7)), "BigVGAN vocoder"),
        (weights_like(decoder__middle__0__residual__0__gamma=(4,), conv2__weight=(16, 16)), "Wan 2.1 video VAE"),
        (weights_like(decoder__conv_in__weight=(512, 4, 3, 3)), "image or video VAE"),
        (weights_like(video_model__x=(1,), audio_model__x=(1,)), "an Ovi transformer"),
        (weights_like(blocks__0__self_attn__q__lora_A__weight=(4, 4)), "a LoRA"),
        (weights_like(something=(1,)), "unknown kind"),
        ({}, "unknown kind"),
    ],
)
def test_another_file_is_named_and_the_right_one_asked_for(small, weights, found):
    error = error_of(weights, small[1])
    assert found in error.found
    assert error.input == "vae_name"
    assert "v1-16.pth" in error.remedy


def test_a_missing_or_wrong_vocoder_is_asked_for(small):
    for vocoder in (None, small[0], weights_like(conv_pre__weight=(1536, 128, 7))):
        error = error_of(small[0], vocoder)
        assert error.input == "vocoder_name"
        assert "best_netG.pt" in error.remedy


@pytest.mark.parametrize(
    ("half", "change", "told"),
    [
        (0, lambda w: w.pop("decoder.mid.attn_1.qkv.weight"), "1 missing: decoder.mid.attn_1.qkv.weight"),
        (0, lambda w: w.update(extra=torch.zeros(1)), "1 not part of it: extra"),
        (0, lambda w: w.update({"encoder.conv_out.weight": torch.zeros(40, 64, 5)}), "conv_out.weight [40, 64, 5]"),
        (1, lambda w: w.pop("conv_post.bias"), "1 missing: conv_post.bias"),
        (1, lambda w: w.pop("ups.3.0.parametrizations.weight.original1"), "3 upsamplings"),
    ],
)
def test_incomplete_weights_are_named(small, half, change, told):
    halves = [dict(weights) for weights in small]
    change(halves[half])
    error = error_of(*halves)
    assert told in error.found
    assert error.input == ("vae_name", "vocoder_name")[half]


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("v1-16.pth", b"", "an empty file"),
        ("v1-16.safetensors", b"<!DOCTYPE html><html></html>", "a web page"),
        ("v1-16.safetensors", b"\x40\x00\x00\x00\x00\x00\x00\x00{", "damaged"),
        ("v1-16.pth", b"PK\x03\x04 cut short", "damaged"),
    ],
)
def test_a_broken_file_is_refused_in_words(tmp_path, name, content, found):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(OviError, match=found) as caught:
        read_audio_vae(str(tmp_path / name))
    assert name in str(caught.value)
