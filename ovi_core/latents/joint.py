"""Joint latents: ComfyUI's ``NestedTensor`` of a video [B, 48, T, H, W] and an audio part [B, 20, L].

One part alone: a video is the plain tensor that every video node of ComfyUI takes. Audio has a single video cell,
[B, 48, 1, 1, 1], before it, for ComfyUI expects a video in the first place; no clip is that small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import comfy.model_management
import torch
from comfy.nested_tensor import NestedTensor
from torch import Tensor

from ..errors import OviError
from . import layout
from .layout import AUDIO_CHANNELS, MIN_LATENT_FRAMES, VIDEO_CHANNELS, ClipShape

TOWERS = ("video + audio", "video only", "audio only")
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
"""Types of a latent's values that can be computed with."""
VIDEO_ALONE = "ovi_video_alone"
"""Attribute of empty video latents that are to stay without audio: later versions of ComfyUI add it to others."""


def join(video: Tensor | None, audio: Tensor | None) -> Any:
    """The latent of both parts, or of the one that is not None."""
    if audio is None:
        return video
    if video is None:
        video = audio.new_zeros(audio.shape[0], VIDEO_CHANNELS, 1, 1, 1)
    return NestedTensor([video, audio])


def empty(clip: ClipShape, batch: int, towers: str) -> Any:
    """The latent of zeros of ``clip``, with what ``towers``, one of :data:`TOWERS`, names."""
    device = comfy.model_management.intermediate_device()
    video = None if towers == "audio only" else torch.zeros(clip.video_shape(batch), device=device)
    audio = None if towers == "video only" else torch.zeros(clip.audio_shape(batch), device=device)
    if audio is None:
        setattr(video, VIDEO_ALONE, True)
    return join(video, audio)


def is_video_alone(latent: Tensor) -> bool:
    """Whether a plain empty latent is one of :func:`empty`, without audio on purpose."""
    return getattr(latent, VIDEO_ALONE, False)


def is_absent(shape: Sequence[int]) -> bool:
    """Whether ``shape`` is that of the cell that stands for no video."""
    return tuple(shape[2:]) == (1, 1, 1)


def samples_of(latent: Any, input: str) -> Any:
    """The samples of a LATENT; raises OviError where ``latent`` is none, or of values that nothing computes with."""
    samples: Any = latent.get("samples") if isinstance(latent, Mapping) else None
    found = _unbound(samples)
    if not found or not all(isinstance(part, Tensor) for part in found):
        raise OviError(
            input=input,
            found="nothing" if latent is None else f"a {type(latent).__name__} with samples of type {_kinds(found)}",
            accepted="a LATENT",
            remedy="Connect Empty Ovi Latent, a sampler, or another node that gives a LATENT.",
        )
    _check_values(found, input)
    return samples


def _kinds(parts: Sequence[Any]) -> str:
    return " and ".join(type(part).__name__ for part in parts) or "NestedTensor without parts"


def parts(latent: Any, input: str) -> tuple[Tensor | None, Tensor | None]:
    """The video and the audio part of a latent, None for the one that it lacks.

    Args:
        latent: what a node was given as the ``samples`` of a LATENT.
        input: name of that input, for the error.

    Raises:
        OviError: parts that are not Ovi's, of unequal batch size, or of values that nothing computes with.
    """
    found = _unbound(latent)
    check_shapes([part.shape for part in found], input)
    _check_values(found, input)
    return unpacked(latent)


def _check_values(parts: Sequence[Tensor], input: str) -> None:
    for part in parts:
        if not is_plain(part) or part.dtype not in DTYPES:
            raise OviError(
                input=input,
                found=f"a latent of {storage(part)}",
                accepted="floating-point numbers of 16 bits or more, as samplers and VAEs give them",
                remedy="Look at the node that made the latent.",
            )


def storage(tensor: Tensor) -> str:
    """Type, layout and device of a tensor, for errors."""
    return f"{tensor.dtype}, {tensor.layout}, on {tensor.device}".replace("torch.", "")


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor's values lie in memory one after the other: not sparse, not packed, not on the meta device."""
    return tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_meta


def unpacked(latent: Any) -> tuple[Tensor | None, Tensor | None]:
    """As :func:`parts`, of samples that are checked already."""
    video, *audio = _unbound(latent)
    return None if is_absent(video.shape) else video, audio[0] if audio else None


def _unbound(latent: Any) -> list[Tensor]:
    return [*latent.unbind()] if getattr(latent, "is_nested", False) else [latent]


def split(latent: Any, input: str) -> tuple[Tensor, Tensor]:
    """As :func:`parts`, for what needs both: raises OviError where one is lacking."""
    video, audio = parts(latent, input)
    if video is None or audio is None:
        raise OviError(
            input=input,
            found="a latent of audio alone" if audio is not None else f"a latent of 1 part(s), shape {[*latent.shape]}",
            accepted="a joint latent of video and audio",
            remedy="Set towers of Empty Ovi Latent to video + audio, or join a video and an audio latent with Concat "
            "AV Latent.",
        )
    return video, audio


def check_shapes(shapes: Sequence[Sequence[int]], input: str) -> None:
    """Raise OviError unless ``shapes`` are those of the video and the audio part of one of Ovi's latents, or of one."""
    if any(0 in shape for shape in shapes):
        raise OviError(
            input=input,
            found="a latent of shape " + " and ".join(str(list(shape)) for shape in shapes),
            accepted="a latent of at least one clip, frame and cell",
            remedy="Look at the node that cut the latent, or use Empty Ovi Latent.",
        )
    video, *audio = shapes
    is_video = len(video) == 5 and video[1] == VIDEO_CHANNELS
    if len(audio) != 1 and not (is_video and not audio and video[2] >= MIN_LATENT_FRAMES):
        raise OviError(
            input=input,
            found=f"a latent of {len(shapes)} part(s), shape {list(video)}",
            accepted=f"a joint latent of video and audio, or video alone of {MIN_LATENT_FRAMES} latent frames or more",
            remedy="Use Empty Ovi Latent, or join a video and an audio latent with Concat AV Latent.",
        )
    if audio and not (is_video and len(audio[0]) == 3 and audio[0][1] == AUDIO_CHANNELS):
        raise OviError(
            input=input,
            found=f"a joint latent with parts of shape {list(video)} and {list(audio[0])}",
            accepted=f"[batch, {VIDEO_CHANNELS}, frames, height, width] and [batch, {AUDIO_CHANNELS}, frames]",
            remedy="Encode the video with the Wan 2.2 VAE and the audio with the VAE of Load Ovi Audio VAE.",
        )
    if audio and video[0] != audio[0][0]:
        raise OviError(
            input=input,
            found=f"{video[0]} video part(s) and {audio[0][0]} audio part(s) in one batch",
            accepted="as many audio parts as video parts",
            remedy="Give both parts the same batch size.",
        )


def free_video(video: Tensor) -> Tensor:
    """The video part of a LATENT of which something is masked.

    The sampler shifts a latent that holds anything: what is empty and stays free must be the shift's zero.
    """
    return video if video.any() else layout.empty_like(video)
