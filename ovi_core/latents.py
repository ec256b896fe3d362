"""Joint latents: the host's ``NestedTensor`` of a video [B, 48, T, H, W] and an audio part [B, 20, L]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.utils
from comfy.nested_tensor import NestedTensor
from torch import Tensor

from .errors import OviError
from .spec import AUDIO_CHANNELS, VIDEO_CHANNELS


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


def with_parts(latent: dict, video: Tensor, audio: Tensor, video_mask: Tensor | None = None) -> dict:
    """A copy of a LATENT with new parts, and, where given, a new noise mask for the video.

    Args:
        video_mask: [B or 1, 1, T, H or 1, W or 1], 1 where the sampler makes the video, 0 where it keeps it. The
            audio part's mask stays, or is all ones.
    """
    out = {**latent, "samples": join(video, audio)}
    if video_mask is not None:
        old: Any = latent.get("noise_mask")
        audio_mask = old.unbind()[1:] if getattr(old, "is_nested", False) else []
        out["noise_mask"] = join(video_mask, audio_mask[0] if audio_mask else audio.new_ones(1, 1, audio.shape[-1]))
    return out


def video_mask(latent: dict) -> Tensor:
    """The video part [B, 1, T, H, W] of a LATENT's noise mask, at the latent's own size; ones where there is none."""
    video = latent["samples"].unbind()[0]
    mask = latent.get("noise_mask")
    if mask is None:
        return video.new_ones(video.shape[0], 1, *video.shape[2:])
    part = mask.unbind()[0] if getattr(mask, "is_nested", False) else mask
    return comfy.utils.reshape_mask(part.to(video), (video.shape[0], 1, *video.shape[2:]))[:, :1]
