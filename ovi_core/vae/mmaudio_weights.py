"""MMAudio's published audio weights turned into those of ComfyUI's layers, and the sizes read from them.

Published are ``v1-16.pth`` (the spectrogram VAE) and ``best_netG.pt`` (the BigVGAN vocoder, under ``generator``); one
file with both names them ``vae.…`` and ``vocoder.…`` as ComfyUI does. Two things are not as ComfyUI computes:

- the VAE's convolutions are magnitude-preserving (MPConv of EDM2, Karras et al. 2024): each output channel's filter is
  brought to unit length when used. ComfyUI uses weights as they are, so that is done here, once;
- the vocoder's are weight-normalised (Salimans and Kingma 2016): w = g v / |v|, spelled ``weight_g, weight_v`` or
  ``parametrizations.weight.original0, original1``. That is multiplied out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count

import torch

from ..errors import OviError
from ..weights.checks import axis, without_prefix, wrong_file
from ..weights.files import Weights

INPUT, VOCODER_INPUT = "vae_name", "vocoder_name"
KIND = "an MMAudio 16 kHz VAE with its vocoder"
MEL_BANDS = 80
MEL_HOP = 256  # samples per spectrogram column, which the vocoder's upsampling must give back
MP_EPSILON = 1e-4  # of MPConv
BAKED_TOLERANCE = 1e-3

_G_AND_V = ((".weight_g", ".weight_v"), (".parametrizations.weight.original0", ".parametrizations.weight.original1"))


@dataclass(frozen=True)
class AudioSizes:
    """What may differ from file to file: channels, levels and kernels; all else is MMAudio's 16 kHz design."""

    hidden: int  # channels of the spectrogram VAE's first level; the others have 2 and 4 times as many
    vocoder_channels: int  # channels before the vocoder's first upsampling; halved by each
    upsample_kernels: tuple[int, ...]  # each level upsamples by half its kernel
    resblock_kernels: tuple[int, ...]  # the parallel residual blocks of every level

    def vocoder_config(self) -> dict:
        """ComfyUI's BigVGAN settings."""
        return {
            "resblock": "1",
            "num_mels": MEL_BANDS,
            "upsample_rates": [kernel // 2 for kernel in self.upsample_kernels],
            "upsample_kernel_sizes": list(self.upsample_kernels),
            "upsample_initial_channel": self.vocoder_channels,
            "resblock_kernel_sizes": list(self.resblock_kernels),
            "resblock_dilation_sizes": [[1, 3, 5]] * len(self.resblock_kernels),
            "activation": "snakebeta",
            "snake_logscale": True,
        }


def audio_weights(
    vae_weights: Mapping[str, torch.Tensor], vocoder_weights: Mapping[str, torch.Tensor] | None
) -> tuple[AudioSizes, Weights]:
    """Sizes, and float32 weights named ``vae.…`` and ``vocoder.…``, from one or two state dicts.

    Raises OviError if either is another kind of file.
    """
    baked = "mel_converter.mel_basis" in vae_weights  # saved by ComfyUI from its own layers
    vae = _half(vae_weights, "vae.")
    vocoder = _half(vae_weights if vocoder_weights is None else vocoder_weights, "vocoder.")
    first = vae.get("encoder.conv_in.weight")
    if first is None or first.ndim != 3 or first.shape[1] != MEL_BANDS:
        raise wrong_file(
            vae_weights,
            input=INPUT,
            accepted="MMAudio's 16 kHz VAE (v1-16.pth), alone or in one file with its vocoder",
            remedy="Pick v1-16.pth here; image VAEs and MMAudio's 44.1 kHz VAE do not fit Ovi's audio latents.",
        )
    vocoder = {key: value.float() for key, value in fold_weight_norm(vocoder).items()}
    first = vocoder.get("conv_pre.weight")
    if first is None or first.ndim != 3 or first.shape[1] != MEL_BANDS:
        raise wrong_file(
            vae_weights if vocoder_weights is None else vocoder_weights,
            input=VOCODER_INPUT,
            accepted="the 16 kHz BigVGAN vocoder of MMAudio (best_netG.pt)",
            remedy="Pick best_netG.pt here.",
        )
    vae = {key: value.float() for key, value in vae.items()}
    if not baked and not _has_unit_filters(vae):
        vae = {key: _unit_filters(value) if _is_filter(key, value) else value for key, value in vae.items()}
    weights = {f"vae.{key}": value for key, value in vae.items()}
    weights |= {f"vocoder.{key}": value for key, value in vocoder.items()}
    return _read_sizes(vae, vocoder), weights


def fold_weight_norm(weights: Mapping[str, torch.Tensor]) -> Weights:
    """The same weights with each weight-normalised pair multiplied out to ``weight``; others untouched."""
    folded = dict(weights)
    for key in weights:
        for g_name, v_name in _G_AND_V:
            stem = key.removesuffix(g_name)
            if stem != key and stem + v_name in weights:
                g, v = folded.pop(key).float(), folded.pop(stem + v_name).float()
                length = torch.linalg.vector_norm(v, dim=list(range(1, v.ndim)), keepdim=True)
                folded[stem + ".weight"] = v * (g / length)
    return folded


def _half(weights: Mapping[str, torch.Tensor], prefix: str) -> Weights:
    return without_prefix(weights, prefix) or dict(weights)


def _is_filter(key: str, value: torch.Tensor) -> bool:
    return value.ndim == 3 and key.endswith(".weight")


def _unit_filters(weight: torch.Tensor) -> torch.Tensor:
    """MPConv's weight [out, in, kernel] as its convolution uses it: w / (eps sqrt(n) + |w|), n = in · kernel."""
    length = torch.linalg.vector_norm(weight, dim=(1, 2), keepdim=True)
    return weight / (MP_EPSILON * math.sqrt(weight[0].numel()) + length)


def _has_unit_filters(weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether a conversion has baked MPConv in already: trained filters have length sqrt(n), baked ones 1."""
    filters = [value for key, value in weights.items() if _is_filter(key, value)]
    return all(
        (torch.linalg.vector_norm(value, dim=(1, 2)) - 1).abs().max().item() < BAKED_TOLERANCE for value in filters
    )


def _read_sizes(vae: Mapping[str, torch.Tensor], vocoder: Mapping[str, torch.Tensor]) -> AudioSizes:
    levels = next(level for level in count() if f"ups.{level}.0.weight" not in vocoder)
    blocks = next(block for block in count() if f"resblocks.{block}.convs1.0.weight" not in vocoder)

    def kernel_of(stem: str) -> int:
        return axis(vocoder, f"{stem}.weight", 2, input=VOCODER_INPUT, what=KIND)

    kernels = tuple(kernel_of(f"ups.{level}.0") for level in range(levels))
    channels = axis(vocoder, "conv_pre.weight", 0, input=VOCODER_INPUT, what=KIND)
    parallel = blocks // levels if levels else 0
    if math.prod(kernel // 2 for kernel in kernels) != MEL_HOP or not parallel or channels % 2**levels:
        raise OviError(
            input=VOCODER_INPUT,
            found=f"a BigVGAN vocoder of {channels} channels, {levels} upsamplings with kernels {list(kernels)}"
            f" and {blocks} residual blocks",
            accepted=f"one that makes {MEL_HOP} samples of each spectrogram column, as best_netG.pt does",
            remedy="Pick best_netG.pt here; if it is that file, it is cut short: fetch it again.",
        )
    return AudioSizes(
        hidden=axis(vae, "encoder.conv_in.weight", 0, input=INPUT, what=KIND),
        vocoder_channels=channels,
        upsample_kernels=kernels,
        resblock_kernels=tuple(kernel_of(f"resblocks.{block}.convs1.0") for block in range(parallel)),
    )
