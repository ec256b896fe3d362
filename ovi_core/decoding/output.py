"""What decoding gives, and as what a player can take it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from einops import rearrange
from torch import Tensor

from ..media import resampling
from ..media.crossfade import cut_or_padded
from ..media.encodable import encodable_audio, encodable_images
from ..media.provenance import GENERATED
from ..spec import FPS, SAMPLE_RATE


@dataclass(frozen=True)
class Decoded:
    """A decoded LATENT.

    Attributes:
        images: [B F, H, W, 3] in 0..1, the clips of a batch one after the other.
        frame_rate: of the images, frames a second.
        audio: [B, C, S], one for each clip.
        clip_audio: [1, C, S'], one after the other, lasting exactly as long as the images.
        sample_rate: of both, Hz.
        source: the IPTC digital source type of the clip.
        notes: for the user.
    """

    images: Tensor
    frame_rate: Fraction
    audio: Tensor
    clip_audio: Tensor
    sample_rate: int
    source: str = GENERATED
    notes: tuple[str, ...] = ()


def decoded(
    frames: Tensor,
    audio: Tensor,
    frame_rate: Fraction | int = FPS,
    sample_rate: int = SAMPLE_RATE,
    source: str = GENERATED,
    notes: tuple[str, ...] = (),
) -> Decoded:
    """:class:`Decoded` of frames [B, F, H, W, 3] and audio [B, C, S]."""
    images, clip_audio = as_one_clip(frames, audio, frame_rate, sample_rate)
    return Decoded(images, Fraction(frame_rate), audio, clip_audio, sample_rate, source, notes)


def as_one_clip(
    frames: Tensor, audio: Tensor, frame_rate: Fraction | int = FPS, sample_rate: int = SAMPLE_RATE
) -> tuple[Tensor, Tensor]:
    """Clips of a batch one after the other, audio cut or followed by silence to last exactly as long as its frames.

    The model's audio is 18 ms shorter than 5 s of its video and 6 ms longer than 10 s, which would add up.

    Returns:
        frames [B F, H, W, 3] and audio [1, C, S] with S = frames / frame_rate at sample_rate, rounded up.
    """
    batch, count = frames.shape[:2]
    ends = [resampling.samples_within(i * count / Fraction(frame_rate), sample_rate) for i in range(batch + 1)]
    parts = [cut_or_padded(wave, end - start) for wave, start, end in zip(audio, ends, ends[1:], strict=False)]
    return rearrange(frames, "b f h w c -> (b f) h w c"), torch.cat(parts, dim=-1).unsqueeze(0)


def playable(clip: Decoded) -> Decoded:
    """``clip`` as H.264 and AAC can hold it (:mod:`..media.encodable`); the same where they can."""
    audio, rate = encodable_audio(clip.clip_audio, clip.sample_rate)
    return replace(clip, images=encodable_images(clip.images), clip_audio=audio, sample_rate=rate)
