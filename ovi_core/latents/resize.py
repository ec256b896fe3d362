"""Joint latents made longer or shorter in time."""

from __future__ import annotations

import torch
from torch import Tensor

from . import denoise_mask, joint, layout


def of_length(latent: dict, clip: layout.ClipShape) -> dict:
    """A LATENT as long as ``clip``: its end is cut off, or free frames are added; the same if it is as long."""
    video, audio = latent["samples"].unbind()
    more = clip.latent_frames - layout.length(video)
    return padded(latent, (0, 0), (more, clip.audio_frames - layout.length(audio))) if more else latent


def padded(latent: dict, before: tuple[int, int], after: tuple[int, int]) -> dict:
    """A LATENT with free latent and audio frames before and after its parts.

    Args:
        before, after: how many of the video and of the audio; as many are taken away where negative.
    """
    parts = latent["samples"].unbind()
    video, audio = (_padded(*counted) for counted in zip(parts, before, after, strict=True))
    if latent.get("noise_mask") is None:
        return denoise_mask.with_parts(latent, video, audio)
    both = (denoise_mask.video_mask(latent), denoise_mask.audio_mask(latent))
    video_mask, audio_mask = (_padded(*counted, is_mask=True) for counted in zip(both, before, after, strict=True))
    return denoise_mask.with_parts(latent, video, audio, video_mask, audio_mask)


def _padded(part: Tensor, before: int, after: int, is_mask: bool = False) -> Tensor:
    """``part`` [B, C, T or L, ...] with empty frames, or a noise mask with free ones, at both ends."""
    rest = layout.span(part, max(0, -before), layout.length(part) - max(0, -after))

    def free(count: int) -> Tensor:
        empty = part.new_zeros(*part.shape[:2], max(0, count), *part.shape[3:])
        if is_mask:
            return denoise_mask.mask_of(empty)
        return joint.free_video(empty) if part.ndim == 5 and part.any() else empty

    return torch.cat((free(before), rest, free(after)), dim=layout.TIME)
