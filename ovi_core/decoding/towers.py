"""Each part of a joint latent through its VAE, checked before and after."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import torch
from einops import rearrange
from torch import Tensor

from ..errors import OviError
from ..latents import joint
from ..vae.checks import compute_dtype

INPUT = "samples"
TILED = ("auto", "on", "off")
# ComfyUI's own defaults for tiled decoding: 512 px and 64 frames with 64 px and 8 frames of overlap, in latent cells.
TILES = {"tile_x": 32, "tile_y": 32, "overlap": 4, "tile_t": 16, "overlap_t": 2}
CHECKED_AT_ONCE = 16  # frames: PyTorch copies what it looks at


def checked_parts(latent: Any) -> tuple[Tensor | None, Tensor | None]:
    """Video [B, 48, T, H, W] and audio [B, 20, L] of a LATENT, None for the one that it lacks.

    Raises:
        OviError: no LATENT of Ovi's, or one with values that are not finite.
    """
    parts = joint.parts(joint.samples_of(latent, INPUT), INPUT)
    for name, part in zip(("video", "audio"), parts, strict=True):
        if part is not None and not bool(torch.isfinite(part).all()):
            raise OviError(
                input=INPUT,
                found=f"NaN or infinite values in the {name} part of the latent",
                accepted="finite numbers: sampling has failed before",
                remedy="Likely causes are a model in fp16 (start ComfyUI without --force-fp16 or --fp16-unet, and load "
                "the model in bf16 or fp8), a LoRA or a model file that holds NaN (leave the LoRA out, download the "
                "file again), and guidance that is too high (the reference takes 4 and 3). Change one of them and "
                "sample again.",
            )
    return parts


def decode_video(vae: Any, video: Tensor, tiled: str) -> Tensor:
    """Video latent [B, 48, T, H, W] to frames [B, F, 16 H, 16 W, 3] in 0..1.

    Args:
        tiled: ``on`` decodes in overlapping tiles, ``off`` at once, ``auto`` at once where memory allows.

    Raises:
        OviError: the VAE gives NaN.
    """
    if tiled == "auto":
        needed = vae.memory_used_decode(video.shape, vae.vae_dtype)
        tiled = "on" if needed > _memory_once_free(vae) else "off"
    frames = vae.decode_tiled(video, **TILES) if tiled == "on" else vae.decode(video)
    _check_decoded(frames.flatten(0, -4), vae, "vae")
    return frames if frames.ndim == 5 else rearrange(frames, "(b f) h w c -> b f h w c", b=video.shape[0])


def decode_audio(vae: Any, audio: Tensor) -> Tensor:
    """Audio latent [B, 20, L] to audio [B, 1, 512 L] at 16 kHz, as the vocoder gives it.

    Raises:
        OviError: the VAE gives NaN.
    """
    decoded = rearrange(vae.decode(audio), "b s c -> b c s")
    _check_decoded(decoded, vae, "audio_vae")
    return decoded


def _memory_once_free(vae: Any) -> float:
    """Bytes of the VAE's device when ComfyUI has put everything else away: in all, less the VAE's own weights."""
    return comfy.model_management.get_total_memory(vae.device) * 0.9 - vae.model_size()


def _check_decoded(values: Tensor, vae: Any, input: str) -> None:
    if not all(bool(torch.isfinite(part).all()) for part in values.split(CHECKED_AT_ONCE)):
        raise OviError(
            input=input,
            found=f"a VAE that computes in {str(compute_dtype(vae)).removeprefix('torch.')} and gives NaN",
            accepted="a VAE that gives finite numbers for this latent",
            remedy="Start ComfyUI without --fp16-vae, or with --fp32-vae. If it stays, download the VAE's file again.",
        )
