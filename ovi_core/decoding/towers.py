"""Each part of a joint latent through its VAE, checked before and after."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import torch
from einops import rearrange
from torch import Tensor

from ..errors import OviError
from ..latents import joint
from ..latents.source_media import Lead
from ..media.images import all_finite
from ..spec import SPATIAL, frames_for
from ..vae.checks import compute_dtype
from . import tiles

INPUT = "samples"
TILED = ("auto", "on", "off")


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
        tiled: ``on`` decodes in overlapping tiles of 512 px, or smaller ones where memory is short; ``off`` at once;
            ``auto`` at once where memory allows, else in tiles as large as it allows.

    Raises:
        OviError: the VAE gives NaN.
    """
    free = _memory_once_free(vae) if tiled != "off" else 0.0
    if tiled == "auto" and vae.memory_used_decode(video.shape, vae.vae_dtype) <= free:
        tiled = "off"
    if tiled == "off":
        frames = vae.decode(video)
    else:

        def fits(rows: int, columns: int) -> bool:
            return _memory_of_tile(vae, (1, *video.shape[1:3], rows, columns)) <= free

        frames = vae.decode_tiled(video, **tiles.tiles(video.shape, fits, tiles.DEFAULT if tiled == "on" else None))
    _check_decoded(frames.flatten(0, -4), vae, "vae")
    return frames if frames.ndim == 5 else rearrange(frames, "(b f) h w c -> b f h w c", b=video.shape[0])


def decode_after(vae: Any, video: Tensor, tiled: str, lead: Lead | None) -> Tensor:
    """As :func:`decode_video`, without the frames of what stands before the clip."""
    if lead is None:
        return decode_video(vae, video, tiled)
    if lead.clip_begins:
        return decode_video(vae, video[:, :, lead.latent_frames :], tiled)
    return decode_video(vae, video, tiled)[:, lead.frames :]


def decode_audio(vae: Any, audio: Tensor) -> Tensor:
    """Audio latent [B, 20, L] to audio [B, 1, 512 L] at 16 kHz, as the vocoder gives it.

    Raises:
        OviError: the VAE gives NaN.
    """
    decoded = rearrange(vae.decode(audio), "b s c -> b c s")
    _check_decoded(decoded, vae, "audio_vae")
    return decoded


def _memory_of_tile(vae: Any, shape: tuple[int, ...]) -> float:
    """Bytes that decoding a latent of this shape takes, with all of its frames, which are copied as they grow."""
    _, _, frames, rows, columns = shape
    pixels = frames_for(frames) * rows * columns * SPATIAL**2
    return vae.memory_used_decode(shape, vae.vae_dtype) + 2 * 3 * pixels * vae.vae_dtype.itemsize


def _memory_once_free(vae: Any) -> float:
    """Bytes of the VAE's device when ComfyUI has put everything else away, less the VAE's own weights.

    Of a card: what is free now, and what ComfyUI's models hold; other programs may hold the rest.
    """
    manager = comfy.model_management
    memory = manager.get_total_memory(vae.device)
    if not manager.is_device_cpu(vae.device):
        held = (some.model_loaded_memory() for some in manager.current_loaded_models if some.device == vae.device)
        memory = min(memory, manager.get_free_memory(vae.device) + sum(held))
    return memory * 0.9 - vae.model_size()


def _check_decoded(values: Tensor, vae: Any, input: str) -> None:
    if not all_finite(values):
        raise OviError(
            input=input,
            found=f"a VAE that computes in {str(compute_dtype(vae)).removeprefix('torch.')} and gives NaN",
            accepted="a VAE that gives finite numbers for this latent",
            remedy="Start ComfyUI without --fp16-vae, or with --fp32-vae. If it stays, download the VAE's file again.",
        )
