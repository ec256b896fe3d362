"""Clips of one frame rate brought to another."""

from __future__ import annotations

from fractions import Fraction
from numbers import Real
from typing import Any

from torch import Tensor

from ..errors import OviError
from . import resampling

MAX_FRAME_RATE = 1000  # frames a second
COMMON_RATES = (8, 10, 12, 15, 16, 20, 24, 25, 30, 48, 50, 60)
APART = 0.03  # relative, from where frames and audio are of another rate
ALIKE = 0.005  # relative


def checked_frame_rate(frame_rate: Any, input: str = "frame_rate") -> Fraction:
    """A frame rate as an exact fraction; raises OviError unless it is a number from 1 to 1000."""
    if not isinstance(frame_rate, Real) or not 1 <= float(frame_rate) <= MAX_FRAME_RATE:
        raise OviError(
            input=input,
            found=f"{float(frame_rate):g}" if isinstance(frame_rate, Real) else type(frame_rate).__name__,
            accepted=f"1 to {MAX_FRAME_RATE} frames a second",
            remedy="Set it to the clip's own frame rate, as Get Video Components gives it.",
        )
    return resampling.exact_rate(float(frame_rate))


def shown_at(count: int, rate: Fraction, new_rate: int) -> list[int]:
    """Which of ``count`` frames at ``rate`` a second a clip at ``new_rate`` shows, as many as fit into their time."""
    shown = max(1, resampling.frames_within(count / rate, Fraction(new_rate)))
    return resampling.nearest_frames(count, rate, shown, new_rate)


def converted(images: Tensor, rate: Fraction, new_rate: int) -> Tensor:
    """Images [F, H, W, 3] at ``rate`` a second as those at ``new_rate``; the same where they are."""
    return images if rate == new_rate else images[shown_at(images.shape[0], rate, new_rate)]


def notes_of_rate(images: Tensor, audio: tuple[Tensor, int] | None, frame_rate: float) -> list[str]:
    """A note where a clip's frames and audio last equally long only at another common frame rate.

    Args:
        images: [F, H, W, 3].
        audio: waveform [1, C, S] and its rate in Hz.
    """
    if audio is None:
        return []
    waveform, sample_rate = audio
    apparent = images.shape[0] * sample_rate / waveform.shape[-1]
    likely = min(COMMON_RATES, key=lambda rate: abs(apparent / rate - 1))
    if abs(apparent / frame_rate - 1) < APART or abs(apparent / likely - 1) > ALIKE:
        return []
    note = (
        f"{images.shape[0]} frames last {images.shape[0] / frame_rate:.2f} s at {frame_rate:g} a second, their sound "
        f"{waveform.shape[-1] / sample_rate:.2f} s: the clip seems to have {likely} frames a second. If so, set "
        "frame_rate to that, or frames and sound drift apart."
    )
    return [note]
