"""Numbers of block pairs, as every guider and sampler takes them."""

from __future__ import annotations

from pathlib import Path
from random import Random

from ovi_native.ovi_core.sampling import guidance

from ..mutate import mutated_text
from ..text import to_bytes, to_text

SUFFIX = ".txt"
STARTS = ("11", "10, 11", "", "0", "1;2 3", "29")
WORDS = (",", " ", ";", "11", "-1", "30", "０", "①")
LAYERS = 30


def make(random: Random) -> bytes:
    return to_bytes(mutated_text(random, random.choice(STARTS), WORDS))


def run(data: bytes, folder: Path) -> None:
    layers = guidance.parse_skip_layers(to_text(data), LAYERS)
    if not all(0 < layer < LAYERS for layer in layers):
        raise AssertionError(f"taken: {layers}")
