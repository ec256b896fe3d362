"""What joint latents take from Ovi: channels, sizes and clocks. No other module of this package imports ``spec``."""

from __future__ import annotations

import comfy.latent_formats
import torch
from torch import Tensor

from ..spec import (
    AUDIO_CHANNELS,
    FPS,
    FRAMES_PER_LATENT,
    MIN_LATENT_FRAMES,
    SAMPLE_RATE,
    SPATIAL,
    VIDEO_CHANNELS,
    ClipShape,
    samples_of,
)

__all__ = [
    "AUDIO_CHANNELS",
    "MIN_LATENT_FRAMES",
    "TIME",
    "VIDEO_CHANNELS",
    "ClipShape",
    "clip_of",
    "empty_like",
    "frames_after_start",
    "length",
    "samples_at",
    "samples_of",
    "span",
]

TIME = 2  # axis of time in both parts, [B, 48, T, H, W] and [B, 20, L]


def length(part: Tensor) -> int:
    """Latent frames of a video part, audio frames of an audio part, of either's noise mask too."""
    return part.shape[TIME]


def span(part: Tensor, start: int, end: int) -> Tensor:
    """A view of a part from frame ``start`` to before ``end``, both counted in the part's own latent frames."""
    return part.narrow(TIME, start, max(0, min(end, length(part)) - start))


def clip_of(video: Tensor, latent_frames: int) -> ClipShape:
    """The clip of ``latent_frames`` that has the size of a video latent [B, 48, T, h, w]."""
    return ClipShape(video.shape[4] * SPATIAL, video.shape[3] * SPATIAL, latent_frames)


def empty_like(video: Tensor) -> Tensor:
    """What ComfyUI's shift of the video latent turns into zeros, of the shape of ``video``."""
    return comfy.latent_formats.Wan22().process_out(torch.zeros_like(video))


def frames_after_start(latent_frames: int) -> int:
    """Frames of that many latent frames, none of which is a clip's first."""
    return FRAMES_PER_LATENT * latent_frames


def samples_at(frame: int) -> int:
    """The sample at 16 kHz nearest to the beginning of a frame at 24 per second."""
    return round(frame * SAMPLE_RATE / FPS)
