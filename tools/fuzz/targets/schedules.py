"""Points of a schedule, as *Ovi Guidance Options* takes them."""

from __future__ import annotations

from pathlib import Path
from random import Random

from ovi_native.ovi_core.sampling import schedules

from ..mutate import mutated_text
from ..text import to_bytes, to_text

SUFFIX = ".txt"
STARTS = ("0:4, 0.5:3, 1:1", "0:1", "", "0:0,1:30", "0.25:2;0.75:3")
WORDS = (":", ",", ";", "0:", ":1", "1:1", "nan:nan", "0.5:3")


def make(random: Random) -> bytes:
    return to_bytes(mutated_text(random, random.choice(STARTS), WORDS))


def run(data: bytes, folder: Path) -> None:
    points = schedules.parse_points(to_text(data))
    shares = [share for share, _ in points]
    if shares != sorted(set(shares)) or not all(0 <= share <= 1 and 0 <= value <= 30 for share, value in points):
        raise AssertionError(f"taken: {points}")
