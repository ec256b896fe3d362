"""Scripts of the storyboard, to the plans of their shots."""

from __future__ import annotations

from pathlib import Path
from random import Random

import torch
from ovi_native.ovi_core.story import script
from ovi_native.ovi_core.story.plan import Settings, plan_shots

from ..mutate import mutated_text
from ..text import to_bytes, to_text

SUFFIX = ".txt"
TWO_SHOTS = """seed: 5
sound: waves

shot 2 s
scene: A pier.
speech: The woman: Good morning.

shot 1 s, go on
scene: She laughs.
"""
COMMENTED = """# a comment
shot
scene: Night.
seed: 9

shot 5 s, go on
scene: Day.
speech:
  He: words
  She: more
"""
STARTS = (TWO_SHOTS, COMMENTED, "shot 5 s, cut\nscene: A lighthouse.\nguidance: 1, 1\npicture: a.png\n", "")
WORDS = (
    "shot 2 s\n", "shot ", ", go on", ", cut", "scene: ", "speech: ", "sound: ", "seed: ", "guidance: ", "picture: ",
    "\n", "\n\n", "#", " s", "shot 1e9 s\n", "shot 0.01 s\n", "  ", "\t", "<S>", "\ufeff",
)  # fmt: skip
MOST_SHOTS = 50  # that are planned, for each takes a hash of everything


def make(random: Random) -> bytes:
    return to_bytes(mutated_text(random, random.choice(STARTS), WORDS))


def run(data: bytes, folder: Path) -> None:
    shots = script.parse(to_text(data))
    settings = Settings(variant="mini", width=64, height=64, overlap_seconds=0.2, steps=2, skip_layers=(1,))
    plan_shots(shots[:MOST_SHOTS], settings, "models", False, lambda name: torch.zeros(1, 8, 8, 3))
