"""The noise mask of a joint latent: what a sampling run does with each part of it.

Callers say an :class:`Intent`; this module alone knows its mask value. Nothing but the mask's values reaches every
sampler of ComfyUI, so they say how a part is masked:

- 1 and :data:`FREE`: generated. Between 0 and 1, :func:`approached`: ComfyUI blends at every step.
- 0 and :data:`CLEAN`: stays as it is. The model sees it without noise, at timestep 0.
- FOLLOW and :data:`FOLLOWING`: stays, and the model sees it at the noise level of each step, as training showed both
  towers. To ComfyUI, which blends by the mask, this small value is as good as 0.
- HELD (1 + d), 0 < d < 1, and :func:`held_until`: as FOLLOW until the last share d of the run, free from there on. A
  hook of the sampling run (``sampling.run_hook``) changes the mask on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.utils
import torch
from torch import Tensor

from ..errors import OviError
from . import layout
from .joint import DTYPES, is_plain, join, storage, unpacked

FOLLOW = 2.0**-20
HELD = 2.0**-18
WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
"""Types of whole numbers that a mask of 0 and 1 may have."""
OVERSHOOT = 0.1  # of a mask's values beyond 0 and 1, as filters that sharpen leave them


@dataclass(frozen=True)
class Intent:
    """What a run does with a part of a latent: :data:`FREE`, :data:`CLEAN`, :data:`FOLLOWING` or one of the functions.

    Attributes:
        mask_value: as ComfyUI's noise mask carries it; for this module and the hooks that read the mask.
    """

    mask_value: float


FREE, CLEAN, FOLLOWING = Intent(1.0), Intent(0.0), Intent(FOLLOW)


def held_until(share: float) -> Intent:
    """Following the noise until the last ``share`` of the run: :data:`FOLLOWING` for 0, :data:`FREE` for 1."""
    if share <= 0:
        return FOLLOWING
    return FREE if share >= 1 else Intent(HELD * (1 + share))


def approached(strength: float) -> Intent:
    """Shown with ``strength``, 0 to 1: the model sees the rest as noise, and the result is that share the model's."""
    return Intent(1 - strength)


def mask_of(part: Tensor, intent: Intent = FREE) -> Tensor:
    """The noise mask [B, 1, ...] of a part [B, C, ...] with one intent for all of it."""
    return torch.full_like(part[:, :1], intent.mask_value)


def with_span(mask: Tensor, start: int, end: int, intent: Intent) -> Tensor:
    """A copy of a part's noise mask with another intent for the latent frames from ``start`` to before ``end``."""
    mask = mask.clone()
    layout.span(mask, start, end)[:] = intent.mask_value
    return mask


def with_free_as(mask: Tensor, intent: Intent) -> Tensor:
    """A copy of a noise mask with another intent for what is free in it."""
    return torch.where(is_free(mask), intent.mask_value, mask)


def of_region(share: Tensor, intent: Intent) -> Tensor:
    """The noise mask that generates a region by its ``share``, [..] in 0..1, with ``intent`` where that is 0."""
    return torch.where(share > 0, share, intent.mask_value)


def both(old: Tensor, new: Tensor) -> Tensor:
    """A noise mask that generates only what two masks generate; what ``old`` masks stays masked in its way."""
    return torch.where(is_masked(old), old, torch.minimum(old, new))


def is_free(mask: Tensor) -> Tensor:
    """Where a noise mask lets the model generate without any hold."""
    return mask >= 1


def is_masked(mask: Tensor) -> Tensor:
    """Where a noise mask returns the latent unchanged, clean or following."""
    return mask < FOLLOW * 2


def is_held(mask: Tensor) -> Tensor:
    """Where a noise mask holds the latent until later in the run."""
    return (mask >= HELD) & (mask < HELD * 2)


def follows(mask: Tensor) -> Tensor:
    """Where a noise mask follows the noise, for all of the run or held; with some room, for ComfyUI may scale masks."""
    return (mask > FOLLOW / 2) & (mask < HELD * 2)


def check_mask(mask: Any, input: str) -> None:
    """Raise OviError unless ComfyUI can fit a noise mask to a joint latent, and its values are shares.

    Args:
        mask: None; a ``NestedTensor`` of a video [B, 1, T, H, W] and an audio part [B, 1, L]; or one tensor for the
            video alone, which may lack leading axes. Sizes may be others, ComfyUI scales them.
    """
    if mask is None:
        return
    parts = list(mask.unbind()) if getattr(mask, "is_nested", False) else [mask]
    shapes = [list(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in parts]
    if not _fits([part.ndim * (0 not in part.shape) if isinstance(part, Tensor) else 0 for part in parts]):
        raise OviError(
            input=input,
            found=f"a noise mask of shape {' and '.join(map(str, shapes)) or '[]'}",
            accepted="[batch, 1, frames, height, width] for the video and [batch, 1, frames] for the audio",
            remedy="Set Latent Noise Mask fits the video part alone: leave it away from the audio part.",
        )
    for part in parts:
        if found := _unusable_values(part):
            raise OviError(
                input=input,
                found=f"a noise mask {found}",
                accepted="numbers from 0 (stays) to 1 (generated)",
                remedy="Look at the node that made the mask; ComfyUI's own give float32 in 0..1.",
            )


def _fits(axes: list[int]) -> bool:
    """Whether a noise mask's parts have axes that ComfyUI takes; 0 for what is empty or no tensor."""
    return bool(axes) and 0 not in axes and 2 <= axes[0] <= 5 and axes[1:2] in ([], [3])


def _unusable_values(part: Tensor) -> str:
    """What is wrong with the values of a noise mask's part; "" where nothing is."""
    if not is_plain(part) or not (part.dtype in DTYPES or part.dtype == torch.bool or part.dtype in WHOLE):
        return f"of {storage(part)}"
    least, most = (float(end) for end in part.float().aminmax())
    if not (least >= -OVERSHOOT and most <= 1 + OVERSHOOT):  # NaN is in no range
        return f"with values from {least:g} to {most:g}"
    return ""


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
        video_mask: [B or 1, 1, T, H or 1, W or 1]. Without it that part's mask stays, or is free.
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
        audio_mask = mask_of(audio[:1]) if old_audio is None else old_audio
    out["noise_mask"] = join(video_mask, audio_mask)
    return out


def _masks(latent: dict) -> tuple[Tensor | None, Tensor | None]:
    """The parts of a LATENT's noise mask that are there."""
    mask: Any = latent.get("noise_mask")
    video, *audio = mask.unbind() if getattr(mask, "is_nested", False) else [mask]
    return video, audio[0] if audio else None


def video_mask(latent: dict) -> Tensor:
    """The video part [B, 1, T, H, W] of a checked LATENT's noise mask, at its own size; free where there is none."""
    video, _ = unpacked(latent["samples"])
    return _fitted(_masks(latent)[0], video)


def audio_mask(latent: dict) -> Tensor:
    """The audio part [B, 1, L] of a checked LATENT's noise mask, at its own length; free where there is none."""
    _, audio = unpacked(latent["samples"])
    return _fitted(_masks(latent)[1], audio)


def _fitted(mask: Tensor | None, part: Any) -> Tensor:
    """A noise mask for ``part`` [B, C, ...], as ComfyUI would scale it: [B, 1, ...]."""
    shape = (part.shape[0], 1, *part.shape[2:])
    return part.new_ones(shape) if mask is None else comfy.utils.reshape_mask(mask.to(part), shape)[:, :1]
