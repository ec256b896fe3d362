"""Torch files, zipped and not: what is pickled in them, their ZIP directory, and code that must not run."""

from __future__ import annotations

import pickle
from pathlib import Path
from random import Random

from .. import files
from ..mutate import mutated

SUFFIX = ".pth"
MARKER = "code-was-run"


class _Code:
    """Pickled, it asks whoever unpickles it to make a file."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (self.path, "w")


def make(random: Random) -> bytes:
    zipped = random.random() < 0.7
    data = files.torch_bytes(files.structure(random), zipped)
    kind = random.random()
    if kind < 0.1:
        nested: object = _Code(str(files.tiny_folder() / MARKER))
        return pickle.dumps({"state_dict": nested}, protocol=random.choice((2, 4)))
    if zipped and kind < 0.6:
        member = random.choice((".pkl", "version", "byteorder", "/data/"))
        return files.rezipped(
            data, lambda name, old: mutated(random, old) if member in name else old, random.random() < 0.3
        )
    return mutated(random, data) if kind < 0.95 else data


def run(data: bytes, folder: Path) -> None:
    path = folder / "weights.pth"
    path.write_bytes(data)
    try:
        files.try_everything(path)
    finally:
        if (files.tiny_folder() / MARKER).exists():
            (files.tiny_folder() / MARKER).unlink()
            raise AssertionError("code in the file was run")
