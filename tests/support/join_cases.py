"""Clips for the tests of extending and joining: random frames and audio of exact counts."""

from __future__ import annotations

import math
from fractions import Fraction

from native_cases import drawn
from ovi_native.nodes.clips import OviJoin

# seconds as set, frames as taken
OVERLAPS = [(0.0, 0), (0.04, 1), (0.12, 1), (0.2, 5), (0.5, 13), (1.0, 25), (2.0, 49), (0.7, 17)]


def clip(frames, seed=1, height=32, width=64):
    """Frames [F, H, W, 3]."""
    return drawn(frames, height, width, 3, seed=seed).sigmoid()


def sound(samples, rate=16_000, channels=1, seed=2, batch=1):
    return {"waveform": drawn(batch, channels, samples, seed=seed) * 0.1, "sample_rate": rate}


def filling(frames, rate):
    """Samples at ``rate`` Hz that last as long as ``frames``."""
    return math.ceil(Fraction(frames, 24) * rate)


def join(images_a, audio_a, images_b, audio_b, seconds=0.5, correct="off"):
    """Images and AUDIO of Ovi Join Clips."""
    return OviJoin.execute(images_a, audio_a, images_b, audio_b, seconds, correct).result
