"""Captions of a dataset, as files of any bytes, and the folder that they lie in."""

from __future__ import annotations

from pathlib import Path
from random import Random

from ovi_native.ovi_core.spec import VARIANTS
from ovi_native.ovi_core.text import prompt
from ovi_native.ovi_core.training import dataset

from ..mutate import mutated, mutated_text
from ..text import to_bytes

SUFFIX = ".caption"
STARTS = ("A ball bounces. Audio: Thuds.", "A face says <S>bee bee<E>. Audio: A voice.", "", "\ufeff A lamp.")
WORDS = ("<S>", "<E>", "Audio:", "\n", "\ufeff", "<AUDCAP>")


def make(random: Random) -> bytes:
    text = mutated_text(random, random.choice(STARTS), WORDS)
    data = text.encode("utf-16" if random.random() < 0.1 else "utf-8", "surrogatepass")
    return mutated(random, data) if random.random() < 0.5 else to_bytes(text)


def run(data: bytes, folder: Path) -> None:
    clips = folder / "clips"
    clips.mkdir(exist_ok=True)
    (clips / "a.mp4").touch()
    (clips / "a.txt").write_bytes(data)
    for item in dataset.Item.all_in(clips):
        for variant in VARIANTS.values():
            prompt.problems(item.caption, variant)
            prompt.format_for(item.caption, variant)
