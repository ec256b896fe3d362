"""Scripts of the storyboard, to the plans of their shots."""

from __future__ import annotations

from pathlib import Path
from random import Random

import torch
from ovi_native.ovi_core.story import script
from ovi_native.ovi_core.story.plan import Settings, Voice, plan_shots

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
CAST = """cast Anna: face a.png, voice a.wav from 1.5 s
  A woman of thirty.
cast Tom: face t.png

shot
with: Anna, Tom
scene: Anna looks at Tom.
speech: anna: Hello.
reference: 1.5, 2
"""
STARTS = (TWO_SHOTS, COMMENTED, CAST, "shot 5 s, cut\nscene: A lighthouse.\nguidance: 1, 1\npicture: a.png\n", "")
WORDS = (
    "shot 2 s\n", "shot ", ", go on", ", cut", "scene: ", "speech: ", "sound: ", "seed: ", "guidance: ", "picture: ",
    "\n", "\n\n", "#", " s", "shot 1e9 s\n", "shot 0.01 s\n", "  ", "\t", "<S>", "\ufeff",
    "cast ", "face ", "voice ", " from ", "with: ", "Anna", "Tom", "reference: ", "<sub1>", "<img1>",
)  # fmt: skip
MOST_SHOTS = 50  # that are planned, for each takes a hash of everything


def make(random: Random) -> bytes:
    return to_bytes(mutated_text(random, random.choice(STARTS), WORDS))


def run(data: bytes, folder: Path) -> None:
    shots = script.parse(to_text(data))
    variant = "dreamid_omni" if len(data) % 2 else "mini"
    settings = Settings(variant=variant, width=64, height=64, overlap_seconds=0.2, steps=2, skip_layers=(1,))
    plan_shots(shots[:MOST_SHOTS], settings, "models", False, lambda name: torch.zeros(1, 32, 32, 3), voice)


def voice(name: str, start: float) -> Voice:
    return Voice({"waveform": torch.full((1, 1, 64_000), 0.1), "sample_rate": 16_000}, start % 2, start - start % 2)
