"""What can be heard and seen where two parts of a clip meet: clicks, steps of loudness, cuts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEAR, AROUND = 0.005, 0.5  # s on either side of a seam, and of what it is compared with
SPAN = 0.25  # s on either side of a seam whose loudness is compared
SILENCE = 1e-4  # rms, 80 dB below full scale, that counts as loud as anything below it
FRAMES_AROUND = 12


def jump(sound: NDArray, rate: int, at: float) -> float:
    """How much more a sound [S] jumps at a seam than near it; a click gives 2 and more.

    The largest bend (second difference of the samples) within 5 ms of second ``at``, over the largest within 0.5 s
    around.
    """
    bends = np.abs(np.diff(np.asarray(sound, dtype=np.float64), n=2))
    middle, near, around = (round(seconds * rate) for seconds in (at, NEAR, AROUND))
    seam = bends[max(0, middle - near) : middle + near]
    others = np.concatenate((bends[max(0, middle - around) : max(0, middle - near)], bends[middle + near :][:around]))
    return float(seam.max() / max(others.max(), 1e-12))


def level_step(sound: NDArray, rate: int, at: float, span: float = SPAN) -> float:
    """By how many dB a sound [S] is louder in the ``span`` seconds after second ``at`` than in those before."""
    middle, length = round(at * rate), round(span * rate)
    before, after = sound[max(0, middle - length) : middle], sound[middle : middle + length]
    return 20 * float(np.log10(max(_rms(after), SILENCE) / max(_rms(before), SILENCE)))


def cut(frames: NDArray, at: int) -> float:
    """How much more frame ``at`` of [F, H, W, 3] differs from the one before it than its neighbours do from theirs."""
    first = max(1, at - FRAMES_AROUND)
    near = np.asarray(frames[first - 1 : at + FRAMES_AROUND], dtype=np.float64)
    changes = np.abs(np.diff(near, axis=0)).mean(axis=(1, 2, 3))
    return float(changes[at - first] / max(np.median(np.delete(changes, at - first)), 1e-12))


def _rms(sound: NDArray) -> float:
    return float(np.sqrt(np.mean(np.square(sound, dtype=np.float64)))) if len(sound) else 0.0
