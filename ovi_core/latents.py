"""Joint latents: the host's ``NestedTensor`` of a video [B, 48, T, H, W] and an audio part [B, 20, L]."""

from __future__ import annotations

from typing import Any

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
    if len(parts) != 2:
        raise OviError(
            input=input,
            found=f"a latent of one part, shape {list(parts[0].shape)}",
            accepted="a joint latent of video and audio",
            remedy="Use Empty Ovi Latent, or join a video and an audio latent with Concat AV Latent.",
        )
    video, audio = parts
    if video.ndim != 5 or video.shape[1] != VIDEO_CHANNELS or audio.ndim != 3 or audio.shape[1] != AUDIO_CHANNELS:
        raise OviError(
            input=input,
            found=f"a joint latent with parts of shape {list(video.shape)} and {list(audio.shape)}",
            accepted=f"[batch, {VIDEO_CHANNELS}, frames, height, width] and [batch, {AUDIO_CHANNELS}, steps]",
            remedy="Encode the video with the Wan 2.2 VAE and the sound with the VAE of Load Ovi Audio VAE.",
        )
    if video.shape[0] != audio.shape[0]:
        raise OviError(
            input=input,
            found=f"{video.shape[0]} video(s) and {audio.shape[0]} sound(s) in one batch",
            accepted="as many sounds as videos",
            remedy="Give both parts the same batch size.",
        )
    return video, audio


def with_parts(latent: dict, video: Tensor, audio: Tensor, video_mask: Tensor | None = None) -> dict:
    """A copy of a LATENT with new parts, and, where given, a new noise mask for the video.

    Args:
        video_mask: [B or 1, 1, T, H or 1, W or 1], 1 where the sampler makes the video, 0 where it keeps it. The
            audio part's mask stays, or is all ones.
    """
    out = {**latent, "samples": join(video, audio)}
    if video_mask is not None:
        old = latent.get("noise_mask")
        audio_mask = old.unbind()[1] if getattr(old, "is_nested", False) else audio.new_ones(1, 1, audio.shape[-1])
        out["noise_mask"] = join(video_mask, audio_mask)
    return out
