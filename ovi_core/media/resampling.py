"""Clocks other than Ovi's: pictures of any frame rate at 24 a second, sound of any sample rate at 16 kHz."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
import torchaudio.functional
from torch import Tensor

from ..spec import FPS, SAMPLE_RATE

MARGIN = 0.05  # s of sound beyond a cut, so that the resampling filter does not see the cut
LOUDEST = 1.0  # peak the audio VAE was trained on


def exact_rate(frame_rate: float) -> Fraction:
    """Frames a second as a fraction: 23.976, 29.97 and 59.94 are 24000, 30000 and 60000 over 1001."""
    broadcast = Fraction(round(frame_rate * 1.001) * 1000, 1001)
    return broadcast if abs(broadcast - Fraction(frame_rate)) < 5e-4 else Fraction(frame_rate).limit_denominator(1000)


def frames_within(seconds: Fraction, rate: Fraction) -> int:
    """Whole frames at ``rate`` a second that fit into ``seconds``."""
    return math.floor(seconds * rate)


def samples_within(seconds: Fraction, rate: int) -> int:
    """Samples at ``rate`` Hz that fill ``seconds``, the last one perhaps in part."""
    return math.ceil(seconds * rate)


def at_own_rate(count: int, rate: Fraction, wanted: int) -> list[int]:
    """For ``wanted`` frames at 24 a second, which of ``count`` frames at ``rate`` a second to show.

    Frame i, at i / 24 s, is the one nearest in time, the later of two; past the end it is the last one.
    """
    return [min(count - 1, math.floor(i * rate / FPS + Fraction(1, 2))) for i in range(wanted)]


def resampled(waveform: Tensor, rate: int, new_rate: int) -> Tensor:
    """Sound [..., S] at ``rate`` Hz as [..., ceil(S new_rate / rate)] at ``new_rate`` Hz."""
    return waveform if rate == new_rate else torchaudio.functional.resample(waveform, rate, new_rate)


def as_ovi_hears(waveform: Tensor, rate: int, samples: int) -> Tensor:
    """The beginning of a sound [B, C, S] at ``rate`` Hz as [B, S'] at 16 kHz, with S' = ``samples`` or fewer.

    Channels are averaged. What is louder than full scale is made quieter as a whole, the rest keeps its loudness.
    """
    own = math.ceil((samples / SAMPLE_RATE + MARGIN) * rate)
    mono = resampled(waveform[..., :own].float().mean(dim=1), rate, SAMPLE_RATE)[..., :samples]
    peak = mono.abs().amax(dim=-1, keepdim=True)
    return mono * (LOUDEST / torch.clamp(peak, min=LOUDEST))
