"""The noise mask of a joint latent: what is kept, at which noise level, and until when."""

from __future__ import annotations

from typing import Any

import comfy.utils
import torch
from torch import Tensor

from ..errors import OviError
from .joint import join, parts

FOLLOW = 2.0**-20
"""Noise mask value of what is kept and shown to the model at the noise level of each step, as training saw it.

0 keeps clean: the model sees the kept latent as it is, at timestep 0. Nothing but the mask's values reaches every
sampler of ComfyUI, so the way of keeping is told by them. To ComfyUI FOLLOW is as good as 0: it blends by the mask.
"""


HELD = 2.0**-18
"""Noise mask values HELD (1 + d), 0 < d < 1: kept and following the noise until the last share d of the run."""


def check_mask(mask: Any, input: str) -> None:
    """Raise OviError unless ComfyUI can fit a noise mask to a joint latent.

    Args:
        mask: None; a ``NestedTensor`` of a video [B, 1, T, H, W] and an audio part [B, 1, L]; or one tensor for the
            video alone, which may lack leading axes. Sizes may be others, ComfyUI scales them.
    """
    if mask is None:
        return
    video, *audio = mask.unbind() if getattr(mask, "is_nested", False) else [mask]
    if not 2 <= video.ndim <= 5 or any(part.ndim != 3 for part in audio[:1]):
        shapes = " and ".join(str(list(part.shape)) for part in (video, *audio))
        raise OviError(
            input=input,
            found=f"a noise mask of shape {shapes}",
            accepted="[batch, 1, frames, height, width] for the video and [batch, 1, steps] for the sound",
            remedy="Set Latent Noise Mask fits the video part alone: leave it away from the audio part.",
        )


def follows(mask: Tensor) -> Tensor:
    """Where a noise mask says :data:`FOLLOW`, with some room, since ComfyUI may have scaled it, or :data:`HELD`."""
    return (mask > FOLLOW / 2) & (mask < HELD * 2)


def is_held(mask: Tensor) -> Tensor:
    """Where a noise mask keeps the latent until later in the run."""
    return (mask >= HELD) & (mask < HELD * 2)


def is_kept(mask: Tensor) -> Tensor:
    """Where a noise mask keeps the latent to the end, in either way."""
    return mask < FOLLOW * 2


def with_parts(
    latent: dict,
    video: Tensor | None,
    audio: Tensor | None,
    video_mask: Tensor | None = None,
    audio_mask: Tensor | None = None,
) -> dict:
    """A copy of a LATENT with new parts, and, where given, a new noise mask for the video, the audio or both.

    Args:
        video, audio: None for the part that the LATENT lacks.
        video_mask: [B or 1, 1, T, H or 1, W or 1], 1 where the sampler makes the video, 0 or :data:`FOLLOW` where it
            keeps it. Without it that part's mask stays, or is all ones.
        audio_mask: [B or 1, 1, L], the same for the audio.
    """
    out = {**latent, "samples": join(video, audio)}
    if video_mask is None and audio_mask is None:
        return out
    old_video, old_audio = _masks(latent)
    if video_mask is None:
        free = (1, 1, 1) if video is None else video.shape[2:]
        video_mask = torch.ones(1, 1, *free) if old_video is None else old_video
    if audio_mask is None and audio is not None:
        audio_mask = audio.new_ones(1, 1, audio.shape[-1]) if old_audio is None else old_audio
    out["noise_mask"] = join(video_mask, audio_mask)
    return out


def _masks(latent: dict) -> tuple[Tensor | None, Tensor | None]:
    """The parts of a LATENT's noise mask that are there."""
    mask: Any = latent.get("noise_mask")
    video, *audio = mask.unbind() if getattr(mask, "is_nested", False) else [mask]
    return video, audio[0] if audio else None


def video_mask(latent: dict) -> Tensor:
    """The video part [B, 1, T, H, W] of a LATENT's noise mask, at the latent's own size; ones where there is none."""
    video, _ = parts(latent["samples"], "latent")
    return _fitted(_masks(latent)[0], video)


def audio_mask(latent: dict) -> Tensor:
    """The audio part [B, 1, L] of a LATENT's noise mask, at the latent's own length; ones where there is none."""
    _, audio = parts(latent["samples"], "latent")
    return _fitted(_masks(latent)[1], audio)


def _fitted(mask: Tensor | None, part: Any) -> Tensor:
    """A noise mask for ``part`` [B, C, ...], as ComfyUI would scale it: [B, 1, ...]."""
    shape = (part.shape[0], 1, *part.shape[2:])
    return part.new_ones(shape) if mask is None else comfy.utils.reshape_mask(mask.to(part), shape)[:, :1]
