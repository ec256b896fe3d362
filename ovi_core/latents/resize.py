"""Joint latents made longer or shorter in time."""

from __future__ import annotations

import torch
from torch import Tensor

from ..spec import SPATIAL, ClipShape
from . import denoise_mask, joint


def clip_of(video: Tensor, latent_frames: int) -> ClipShape:
    """The clip of ``latent_frames`` latent steps and the size of a video latent [B, 48, T, h, w]."""
    return ClipShape(video.shape[4] * SPATIAL, video.shape[3] * SPATIAL, latent_frames)


def of_length(latent: dict, clip: ClipShape) -> dict:
    """A LATENT as long as ``clip``: its end is cut off, or free steps are put there; the same if it is as long."""
    video, audio = joint.split(latent["samples"], "latent")
    more = clip.latent_frames - video.shape[2]
    return padded(latent, (0, 0), (more, clip.audio_frames - audio.shape[-1])) if more else latent


def padded(latent: dict, before: tuple[int, int], after: tuple[int, int]) -> dict:
    """A LATENT with free steps put before and after its parts.

    Args:
        before, after: how many steps of the video and of the audio; as many are taken away where negative.
    """
    parts = joint.split(latent["samples"], "latent")
    video, audio = (_padded(*counted) for counted in zip(parts, before, after, strict=True))
    if latent.get("noise_mask") is None:
        return denoise_mask.with_parts(latent, video, audio)
    both = (denoise_mask.video_mask(latent), denoise_mask.audio_mask(latent))
    video_mask, audio_mask = (_padded(*counted, ones=True) for counted in zip(both, before, after, strict=True))
    return denoise_mask.with_parts(latent, video, audio, video_mask, audio_mask)


def _padded(part: Tensor, before: int, after: int, ones: bool = False) -> Tensor:
    """``part`` [B, C, T or L, ...] with empty steps, or with ones, at both ends."""
    kept = part[:, :, max(0, -before) : part.shape[2] - max(0, -after)]

    def free(count: int) -> Tensor:
        shape = (*part.shape[:2], max(0, count), *part.shape[3:])
        if ones:
            return part.new_ones(shape)
        empty = part.new_zeros(shape)
        return joint.free_video(empty) if part.ndim == 5 and part.any() else empty

    return torch.cat((free(before), kept, free(after)), dim=2)
