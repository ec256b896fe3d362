"""Joint latents: the host's ``NestedTensor`` of a video [B, 48, T, H, W] and an audio part [B, 20, L]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.latent_formats
import comfy.utils
import torch
from comfy.nested_tensor import NestedTensor
from torch import Tensor

from .errors import OviError
from .spec import AUDIO_CHANNELS, VIDEO_CHANNELS

FOLLOW = 2.0**-20
"""Noise mask value of what is kept and shown to the model at the noise level of each step, as training saw it.

0 keeps clean: the model sees the kept latent as it is, at timestep 0. Nothing but the mask's values reaches every
sampler of the host, so the way of keeping is told by them. To the host FOLLOW is as good as 0: it blends by the mask.
"""


def join(video: Tensor, audio: Tensor) -> NestedTensor:
    """The joint latent of both parts."""
    return NestedTensor([video, audio])


def split(latent: Any, input: str) -> tuple[Tensor, Tensor]:
    """The video and the audio part of a joint latent.

    Args:
        latent: what a node was given as the ``samples`` of a LATENT.
        input: name of that input, for the error.

    Raises:
        OviError: a latent of one modality, parts that are not Ovi's, or of unequal batch size.
    """
    parts = latent.unbind() if getattr(latent, "is_nested", False) else [latent]
    check_shapes([part.shape for part in parts], input)
    return parts[0], parts[1]


def check_shapes(shapes: Sequence[Sequence[int]], input: str) -> None:
    """Raise OviError unless ``shapes`` are those of the video and the audio part of one of Ovi's joint latents."""
    if len(shapes) != 2:
        raise OviError(
            input=input,
            found=f"a latent of {len(shapes)} part(s), shape {list(shapes[0])}",
            accepted="a joint latent of video and audio",
            remedy="Use Empty Ovi Latent, or join a video and an audio latent with Concat AV Latent.",
        )
    video, audio = shapes
    if len(video) != 5 or video[1] != VIDEO_CHANNELS or len(audio) != 3 or audio[1] != AUDIO_CHANNELS:
        raise OviError(
            input=input,
            found=f"a joint latent with parts of shape {list(video)} and {list(audio)}",
            accepted=f"[batch, {VIDEO_CHANNELS}, frames, height, width] and [batch, {AUDIO_CHANNELS}, steps]",
            remedy="Encode the video with the Wan 2.2 VAE and the sound with the VAE of Load Ovi Audio VAE.",
        )
    if video[0] != audio[0]:
        raise OviError(
            input=input,
            found=f"{video[0]} video(s) and {audio[0]} sound(s) in one batch",
            accepted="as many sounds as videos",
            remedy="Give both parts the same batch size.",
        )


def check_mask(mask: Any, input: str) -> None:
    """Raise OviError unless the host can fit a noise mask to a joint latent.

    Args:
        mask: None; a ``NestedTensor`` of a video [B, 1, T, H, W] and an audio part [B, 1, L]; or one tensor for the
            video alone, which may lack leading axes. Sizes may be others, the host scales them.
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
    """Where a noise mask says :data:`FOLLOW`; with some room, since the host may have scaled it."""
    return (mask > FOLLOW / 2) & (mask < FOLLOW * 2)


def is_kept(mask: Tensor) -> Tensor:
    """Where a noise mask keeps the latent, in either way."""
    return mask < FOLLOW * 2


def free_video(video: Tensor) -> Tensor:
    """The video part of a LATENT of which something is to be kept.

    The sampler shifts a latent that holds anything: what is empty and stays free must be the shift's zero.
    """
    return video if video.any() else comfy.latent_formats.Wan22().process_out(torch.zeros_like(video))


def with_parts(
    latent: dict, video: Tensor, audio: Tensor, video_mask: Tensor | None = None, audio_mask: Tensor | None = None
) -> dict:
    """A copy of a LATENT with new parts, and, where given, a new noise mask for the video, the audio or both.

    Args:
        video_mask: [B or 1, 1, T, H or 1, W or 1], 1 where the sampler makes the video, 0 or :data:`FOLLOW` where it
            keeps it. Without it that part's mask stays, or is all ones.
        audio_mask: [B or 1, 1, L], the same for the audio.
    """
    out = {**latent, "samples": join(video, audio)}
    if video_mask is None and audio_mask is None:
        return out
    old: Any = latent.get("noise_mask")
    old_video, *old_audio = old.unbind() if getattr(old, "is_nested", False) else [old]
    if video_mask is None:
        video_mask = video.new_ones(1, 1, *video.shape[2:]) if old_video is None else old_video
    if audio_mask is None:
        audio_mask = old_audio[0] if old_audio else audio.new_ones(1, 1, audio.shape[-1])
    out["noise_mask"] = join(video_mask, audio_mask)
    return out


def video_mask(latent: dict) -> Tensor:
    """The video part [B, 1, T, H, W] of a LATENT's noise mask, at the latent's own size; ones where there is none."""
    video = latent["samples"].unbind()[0]
    mask = latent.get("noise_mask")
    if mask is None:
        return video.new_ones(video.shape[0], 1, *video.shape[2:])
    part = mask.unbind()[0] if getattr(mask, "is_nested", False) else mask
    return comfy.utils.reshape_mask(part.to(video), (video.shape[0], 1, *video.shape[2:]))[:, :1]


def audio_mask(latent: dict) -> Tensor:
    """The audio part [B, 1, L] of a LATENT's noise mask, at the latent's own length; ones where there is none."""
    audio = latent["samples"].unbind()[1]
    mask: Any = latent.get("noise_mask")
    parts = mask.unbind()[1:] if getattr(mask, "is_nested", False) else []
    if not parts:
        return audio.new_ones(audio.shape[0], 1, audio.shape[-1])
    return comfy.utils.reshape_mask(parts[0].to(audio), (audio.shape[0], 1, audio.shape[-1]))[:, :1]
