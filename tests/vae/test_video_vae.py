"""The video VAE: ComfyUI's own network and settings at any width, errors an artist can read."""

import comfy.sd
import pytest
import safetensors.torch
import torch
from comfy.ldm.wan.vae2_2 import WanVAE
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.vae.video_vae import load_video_vae, read_video_vae
from seeded_weights import draw_weights, relative_error, shapes_of

from nodes import VAEDecode, VAEDecodeTiled, VAEEncode

FIRST_CONV = "encoder.downsamples.{}.downsamples.0.residual.2.weight"
TEMPORAL = [False, True, True]


def host_network(**sizes):
    return WanVAE(z_dim=48, temperal_downsample=TEMPORAL, **sizes)


def weights_of(network):
    drawn = draw_weights(shapes_of(network), 3)
    return {key: value.abs() + 0.5 if key.endswith("gamma") else value for key, value in drawn.items()}


def latents(steps=2, height=4, width=6):
    return torch.randn(1, 48, steps, height, width, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def small():
    network = host_network(dim=8, dec_dim=16, num_res_blocks=1)
    network.load_state_dict(weights_of(network))
    return network.eval()


@pytest.fixture(scope="module")
def small_vae(small):
    return load_video_vae(small.state_dict())


@pytest.mark.parametrize(
    "sizes",
    [
        {"dim": 8, "dec_dim": 8, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2},
        {"dim": 4, "dec_dim": 16, "dim_mult": [1, 1, 2, 2], "num_res_blocks": 1},
        {"dim": 8, "dec_dim": 4, "dim_mult": [2, 4, 4, 4], "num_res_blocks": 1},
    ],
)
def test_pictures_are_those_of_the_hosts_network_of_that_size(sizes):
    network = host_network(**sizes)
    weights = weights_of(network)
    network.load_state_dict(weights)
    vae = load_video_vae(weights)
    pictures = torch.rand(5, 64, 96, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        decoded = network.decode(latents()).add(1).div(2).clamp(0, 1)
        encoded = network.encode(pictures.movedim(-1, 0)[None] * 2 - 1)
    assert torch.equal(vae.decode(latents()), decoded.movedim(1, -1))
    assert torch.equal(vae.encode(pictures), encoded)


def test_settings_are_those_the_host_gives_the_published_vae(small_vae):
    with torch.device("meta"):
        host = comfy.sd.VAE(sd=host_network(dim=160, dec_dim=256).state_dict())
    for name in ("latent_channels", "latent_dim", "output_channels", "working_dtypes", "vae_dtype", "crop_input"):
        assert getattr(small_vae, name) == getattr(host, name)
    assert small_vae.upscale_index_formula == host.upscale_index_formula
    assert [small_vae.upscale_ratio[0](steps) for steps in (1, 31, 61)] == [1, 121, 241]
    assert type(small_vae.patcher) is type(host.patcher)
    assert small_vae.patcher.model is small_vae.first_stage_model
    shape = (1, 48, 31, 45, 45)
    for ours, published in (
        (small_vae.memory_used_decode, host.memory_used_decode(shape, torch.float32) * 16 / 256),
        (small_vae.memory_used_encode, host.memory_used_encode(shape, torch.float32) * 8 / 160),
    ):
        assert ours(shape, torch.float32) == published
    assert small_vae.model_size() == sum(value.nbytes for value in small_vae.first_stage_model.state_dict().values())


def test_stock_nodes_decode_encode_and_tile(small_vae):
    with torch.inference_mode():
        (images,) = VAEDecode().decode(small_vae, {"samples": latents(3, 8, 8)})
        assert images.shape == (9, 128, 128, 3)
        (tiled,) = VAEDecodeTiled().decode(small_vae, {"samples": latents(3, 8, 8)}, 64, 16)
        assert tiled.shape == images.shape
        assert relative_error(tiled, images) < 0.5
        (latent,) = VAEEncode().encode(small_vae, images)
        assert latent["samples"].shape == (1, 48, 3, 8, 8)


def test_weights_under_model_and_in_half_precision_are_read(small, small_vae, tmp_path):
    weights = {f"model.{key}": value.bfloat16() for key, value in small.state_dict().items()}
    safetensors.torch.save_file(weights, tmp_path / "vae.safetensors")
    vae = read_video_vae(str(tmp_path / "vae.safetensors"))
    assert relative_error(vae.decode(latents()), small_vae.decode(latents())) < 0.02
    reload, arguments = vae.patcher.cached_patcher_init
    copy = reload(*arguments, disable_dynamic=True)  # as ComfyUI calls it for another device
    assert copy.model is not vae.patcher.model
    assert all(torch.equal(a, b) for a, b in zip(copy.model.parameters(), vae.patcher.model.parameters(), strict=True))


def error_of(weights):
    with pytest.raises(OviError) as caught:
        load_video_vae(weights)
    assert caught.value.input == "vae_name"
    return caught.value


@pytest.mark.parametrize(
    ("shapes", "found"),
    [
        ({"decoder.middle.0.residual.0.gamma": (4,), "conv2.weight": (16, 16)}, "Wan 2.1 video VAE (16"),
        ({"decoder.conv_in.weight": (512, 4, 3, 3)}, "image or video VAE of another family"),
        ({"encoder.conv_in.weight": (384, 80, 3)}, "MMAudio 16 kHz VAE"),
        ({"vae.x": (1,), "vocoder.x": (1,)}, "audio VAE with a vocoder"),
        ({"blocks.0.self_attn.q.weight": (4, 4), "patch_embedding.weight": (4, 4)}, "Wan transformer"),
        ({"video_model.x": (1,), "audio_model.x": (1,)}, "Ovi transformer"),
        ({}, "unknown kind (0 weights"),
    ],
)
def test_another_file_is_named_and_the_right_one_asked_for(shapes, found):
    error = error_of({key: torch.zeros(shape) for key, shape in shapes.items()})
    assert found in error.found
    assert "wan2.2_vae.safetensors" in error.remedy


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda w: w.pop("decoder.head.2.bias"), "1 missing: decoder.head.2.bias"),
        (lambda w: w.update(extra=torch.zeros(1)), "1 not part of it: extra"),
        (lambda w: w.update({"conv1.bias": torch.zeros(7)}), "conv1.bias [7] instead of [96]"),
        (lambda w: w.update({FIRST_CONV.format(2): torch.zeros(12, 16)}), "1.5"),
        (lambda w: w.update({FIRST_CONV.format(3): torch.zeros(24, 16)}), "[1, 2, 4, 3]"),
        (lambda w: w.pop("encoder.conv1.weight"), "encoder.conv1.weight"),
        (lambda w: [w.pop(key) for key in list(w) if key.startswith("encoder.downsamples.3.")], "3 levels"),
        (lambda w: [w.pop(key) for key in list(w) if key.startswith("encoder.")], "encoder.conv1.weight"),
    ],
)
def test_incomplete_weights_are_named(small, change, told):
    weights = dict(small.state_dict())
    change(weights)
    assert told in error_of(weights).found
