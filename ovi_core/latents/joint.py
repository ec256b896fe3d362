"""Joint latents: the host's ``NestedTensor`` of a video [B, 48, T, H, W] and an audio part [B, 20, L].

One part alone: a video is the plain tensor that every video node of the host takes. Sound has a single video cell,
[B, 48, 1, 1, 1], before it, for the host looks for a video in the first place; no clip is that small.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.latent_formats
import comfy.model_management
import comfy.utils
import torch
from comfy.nested_tensor import NestedTensor
from torch import Tensor

from ..errors import OviError
from ..spec import AUDIO_CHANNELS, MIN_VIDEO_STEPS, VIDEO_CHANNELS, Clip

TOWERS = ("video + audio", "video only", "audio only")

FOLLOW = 2.0**-20
"""Noise mask value of what is kept and shown to the model at the noise level of each step, as training saw it.

0 keeps clean: the model sees the kept latent as it is, at timestep 0. Nothing but the mask's values reaches every
sampler of the host, so the way of keeping is told by them. To the host FOLLOW is as good as 0: it blends by the mask.
"""

HELD = 2.0**-18
"""Noise mask values HELD (1 + d), 0 < d < 1: kept and following the noise until the last share d of the run."""


def join(video: Tensor | None, audio: Tensor | None) -> Any:
    """The latent of both parts, or of the one that is not None."""
    if audio is None:
        return video
    if video is None:
        video = audio.new_zeros(audio.shape[0], VIDEO_CHANNELS, 1, 1, 1)
    return NestedTensor([video, audio])


def empty(clip: Clip, batch: int, towers: str) -> Any:
    """The latent of zeros of ``clip``, with what ``towers``, one of :data:`TOWERS`, names."""
    device = comfy.model_management.intermediate_device()
    video = None if towers == "audio only" else torch.zeros(clip.video_shape(batch), device=device)
    audio = None if towers == "video only" else torch.zeros(clip.audio_shape(batch), device=device)
    return join(video, audio)


def is_absent(shape: Sequence[int]) -> bool:
    """Whether ``shape`` is that of the cell that stands for no video."""
    return tuple(shape[2:]) == (1, 1, 1)


def parts(latent: Any, input: str) -> tuple[Tensor | None, Tensor | None]:
    """The video and the audio part of a latent, None for the one that it lacks.

    Args:
        latent: what a node was given as the ``samples`` of a LATENT.
        input: name of that input, for the error.

    Raises:
        OviError: parts that are not Ovi's, or of unequal batch size.
    """
    both = [*latent.unbind()] if getattr(latent, "is_nested", False) else [latent]
    check_shapes([part.shape for part in both], input)
    video, *audio = both
    return None if is_absent(video.shape) else video, audio[0] if audio else None


def split(latent: Any, input: str) -> tuple[Tensor, Tensor]:
    """As :func:`parts`, for what needs both: raises OviError where one is lacking."""
    video, audio = parts(latent, input)
    if video is None or audio is None:
        raise OviError(
            input=input,
            found="a latent of sound alone" if audio is not None else f"a latent of 1 part(s), shape {[*latent.shape]}",
            accepted="a joint latent of video and audio",
            remedy="Set towers of Empty Ovi Latent to video + audio, or join a video and an audio latent with Concat "
            "AV Latent.",
        )
    return video, audio


def check_shapes(shapes: Sequence[Sequence[int]], input: str) -> None:
    """Raise OviError unless ``shapes`` are those of the video and the audio part of one of Ovi's latents, or of one."""
    video, *audio = shapes
    is_video = len(video) == 5 and video[1] == VIDEO_CHANNELS
    if len(audio) != 1 and not (is_video and not audio and video[2] >= MIN_VIDEO_STEPS):
        raise OviError(
            input=input,
            found=f"a latent of {len(shapes)} part(s), shape {list(video)}",
            accepted=f"a joint latent of video and audio, or a video of {MIN_VIDEO_STEPS} latent steps or more alone",
            remedy="Use Empty Ovi Latent, or join a video and an audio latent with Concat AV Latent.",
        )
    if audio and not (is_video and len(audio[0]) == 3 and audio[0][1] == AUDIO_CHANNELS):
        raise OviError(
            input=input,
            found=f"a joint latent with parts of shape {list(video)} and {list(audio[0])}",
            accepted=f"[batch, {VIDEO_CHANNELS}, frames, height, width] and [batch, {AUDIO_CHANNELS}, steps]",
            remedy="Encode the video with the Wan 2.2 VAE and the sound with the VAE of Load Ovi Audio VAE.",
        )
    if audio and video[0] != audio[0][0]:
        raise OviError(
            input=input,
            found=f"{video[0]} video(s) and {audio[0][0]} sound(s) in one batch",
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
    """Where a noise mask says :data:`FOLLOW`, with some room, since the host may have scaled it, or :data:`HELD`."""
    return (mask > FOLLOW / 2) & (mask < HELD * 2)


def is_held(mask: Tensor) -> Tensor:
    """Where a noise mask keeps the latent until later in the run."""
    return (mask >= HELD) & (mask < HELD * 2)


def is_kept(mask: Tensor) -> Tensor:
    """Where a noise mask keeps the latent to the end, in either way."""
    return mask < FOLLOW * 2


def free_video(video: Tensor) -> Tensor:
    """The video part of a LATENT of which something is to be kept.

    The sampler shifts a latent that holds anything: what is empty and stays free must be the shift's zero.
    """
    return video if video.any() else comfy.latent_formats.Wan22().process_out(torch.zeros_like(video))


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
    """A noise mask for ``part`` [B, C, ...], as the host would scale it: [B, 1, ...]."""
    shape = (part.shape[0], 1, *part.shape[2:])
    return part.new_ones(shape) if mask is None else comfy.utils.reshape_mask(mask.to(part), shape)[:, :1]
