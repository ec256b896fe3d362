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


def joined(first: Tensor, second: Tensor, seconds: float, rate: int) -> Tensor:
    """Sound [..., S] that goes over from ``first`` to ``second`` within ``seconds`` before the end of ``first``.

    Both begin at the same time; what they share in that span is crossfaded in equal power, be they the same sound, two
    renderings of it, or sounds that have nothing in common. Before it, the result is ``first`` bit for bit, after it
    ``second``.
    """
    end = min(first.shape[-1], second.shape[-1])
    start = max(0, end - round(seconds * rate))
    angle = (torch.arange(end - start, device=first.device) + 0.5) / max(1, end - start) * (math.pi / 2)
    before, after = first[..., start:end], second[..., start:end]
    power = 1 + _likeness(before, after) * (2 * angle).sin()  # of the sum of both, each of power 1
    fade = (before * angle.cos() + after * angle.sin()) / power.sqrt()
    return torch.cat((first[..., :start], fade, second[..., end:]), dim=-1)


def _likeness(first: Tensor, second: Tensor) -> float:
    """Correlation of two sounds of one shape: 0 for nothing in common, 1 for the same; not below -0.5."""
    a, b = first.double().flatten(), second.double().flatten()
    norms = float(a.norm() * b.norm())
    return max(-0.5, float(a @ b) / norms) if norms else 0.0
