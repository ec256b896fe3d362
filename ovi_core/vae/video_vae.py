"""Wan 2.2's video VAE at the sizes of its file: [B, 48, T, H/16, W/16] to and from 4 (T - 1) + 1 frames."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count

import comfy.ldm.wan.vae2_2
import comfy.model_patcher
import torch

from ..errors import OviError
from ..spec import VIDEO_CHANNELS
from ..weights.checks import axis, check_weights, without_prefix, wrong_file
from ..weights.files import read_weights
from .sized_vae import SizedVAE

MOST_BLOCKS = 16  # in a row; Wan 2.2 has 2
LEVELS = 4  # three halvings and the 2x2 patch make the 16x of the latent grid
TEMPORAL_DOWNSAMPLE = [False, True, True]  # four frames per latent step
PUBLISHED = {"dim": 160, "dec_dim": 256, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2}

INPUT = "vae_name"
KIND = "a Wan 2.2 video VAE"
ACCEPTED = "the Wan 2.2 video VAE, with 48 latent channels (wan2.2_vae.safetensors)"


def build_network(sizes: Mapping) -> comfy.ldm.wan.vae2_2.WanVAE:
    """ComfyUI's network of ``sizes``: ``dim``, ``dec_dim``, ``dim_mult`` (channels per level), ``num_res_blocks``."""
    return comfy.ldm.wan.vae2_2.WanVAE(z_dim=VIDEO_CHANNELS, temperal_downsample=TEMPORAL_DOWNSAMPLE, **sizes)


def load_video_vae(weights: Mapping[str, torch.Tensor], disable_dynamic: bool = False) -> SizedVAE:
    """Wan 2.2's VAE from its state dict (keys as published, also under ``model.``), whatever its width.

    The result is a ``comfy.sd.VAE``: ``decode`` takes latents [B, 48, T, H/16, W/16] and gives [B, 4 (T - 1) + 1, H, W,
    3] in 0..1, ``encode`` the reverse. Raises OviError for another kind of file and for missing, surplus or misshapen
    weights.
    """
    sizes, weights = recognise(weights)
    network = build_network(sizes)
    vae = SizedVAE(lambda: build_network(PUBLISHED), network, weights, disable_dynamic)
    vae.scale_memory(encode=sizes["dim"] / PUBLISHED["dim"], decode=sizes["dec_dim"] / PUBLISHED["dec_dim"])
    return vae


def recognise(weights: Mapping[str, torch.Tensor]) -> tuple[dict, dict[str, torch.Tensor]]:
    """Sizes of Wan 2.2's VAE, and its weights as published; raises OviError unless they are all there."""
    weights = without_prefix(weights, "model.") or dict(weights)
    sizes = _read_sizes(weights)
    try:
        with torch.device("meta"):
            expected = build_network(sizes).state_dict()
    except AssertionError as error:  # ComfyUI's shortcuts average whole groups of channels
        raise _unusable(sizes) from error
    check_weights(expected, weights, input=INPUT, what=KIND)
    return sizes, weights


def read_video_vae(path: str, disable_dynamic: bool = False) -> SizedVAE:
    """:func:`load_video_vae` from a file."""
    vae = load_video_vae(read_weights(path, input=INPUT, accepted=ACCEPTED), disable_dynamic)
    vae.patcher.cached_patcher_init = (_reload, (path,))
    return vae


def _reload(path: str, disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    """What ComfyUI calls for a second, untouched copy (another device, no dynamic VRAM)."""
    return read_video_vae(path, disable_dynamic).patcher


def _read_sizes(weights: Mapping[str, torch.Tensor]) -> dict:
    nested = any(key.startswith("decoder.upsamples.0.upsamples.") for key in weights)
    last = weights.get("conv2.weight")
    if not nested or last is None or last.shape[:1] != (VIDEO_CHANNELS,):
        remedy = "Pick wan2.2_vae.safetensors: Ovi's video latents are those of Wan 2.2 5B."
        raise wrong_file(weights, input=INPUT, accepted=ACCEPTED, remedy=remedy)

    def width(key: str) -> int:
        return axis(weights, key, 0, input=INPUT, what=KIND)

    dim = width("encoder.conv1.weight")
    conv = "encoder.downsamples.{}.downsamples.{}.residual.2.weight"
    levels = next(level for level in count() if conv.format(level, 0) not in weights)
    blocks = next(block for block in count() if conv.format(0, block) not in weights)
    multiples = [width(conv.format(level, 0)) / dim for level in range(levels)]
    sizes = {"dim": dim, "dim_mult": [int(multiple) for multiple in multiples], "num_res_blocks": blocks}
    if levels != LEVELS or not 0 < blocks <= MOST_BLOCKS or sizes["dim_mult"] != multiples:
        raise _unusable({**sizes, "dim_mult": multiples})
    return {**sizes, "dec_dim": width("decoder.head.0.gamma") // sizes["dim_mult"][0]}


def _unusable(sizes: Mapping) -> OviError:
    found = f"{KIND} of {len(sizes['dim_mult'])} levels, {sizes['dim']} channels times {sizes['dim_mult']}"
    return OviError(
        input=INPUT,
        found=found,
        accepted=f"{LEVELS} levels of whole multiples of the first one's channels, as 160 times [1, 2, 4, 4]",
        remedy="The file is cut short or of another make: fetch wan2.2_vae.safetensors again.",
    )
