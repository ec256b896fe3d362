"""Spans of seconds, as *Ovi Keep Span* takes them."""

from __future__ import annotations

from pathlib import Path
from random import Random

from ovi_native.ovi_core.conditioning import inpaint

from ..mutate import mutated_text
from ..text import to_bytes, to_text

SUFFIX = ".txt"
STARTS = ("1.2-2.0, 3.5-end", "0-end", "0.5-0.75;1-2\n3-4", "", "end-end", "0.0-0.1")
WORDS = ("-", "end", ",", ";", "\n", "1.5", " - ", "–")


def make(random: Random) -> bytes:
    return to_bytes(mutated_text(random, random.choice(STARTS), WORDS))


def run(data: bytes, folder: Path) -> None:
    inpaint.parse_spans(to_text(data), "video_spans", 5.0)
