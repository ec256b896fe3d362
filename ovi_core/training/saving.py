"""What training that ended early has learned: written where there is room, else held until there is."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch

from ..safe_write import new_file
from ..weights.files import Weights

INTERRUPTED = "ovi_interrupted"

_unsaved: list[tuple[Weights, int]] = []
"""LoRAs and their steps that no folder would take; the next training writes them first."""


def save_interrupted(lora: Weights, steps: int, folders: Sequence[Path]) -> Path | None:
    """Write a LoRA into the first of ``folders`` that takes it.

    Args:
        lora: tensors by ComfyUI's names, on the CPU.
        steps: how many it was trained, for the file's name, from which later training reads them.

    Returns:
        The file; None where no folder takes it. Then the LoRA is held, for :func:`save_held`.
    """
    size = sum(value.numel() * value.element_size() for value in lora.values())
    for folder in folders:
        try:
            path = free_name(folder, f"{INTERRUPTED}_{steps}_steps")
            with new_file(path, input="steps", needed=size) as part:
                safetensors.torch.save_file(lora, part)
            return path
        except Exception as error:  # whatever it is: the next folder may take it, and the interrupt goes on
            logging.warning("The LoRA of an interrupted training could not be saved: %s", error)
    _unsaved.append((lora, steps))
    return None


def save_held(folders: Sequence[Path]) -> list[Path]:
    """Write the LoRAs that no folder took before; returns the files."""
    held, _unsaved[:] = list(_unsaved), []
    return [path for lora, steps in held if (path := save_interrupted(lora, steps, folders)) is not None]


def free_name(folder: Path, prefix: str) -> Path:
    """A file ``<prefix>_<number>_.safetensors`` that is not there, not even in other letter case."""
    try:
        taken = {name.lower() for name in os.listdir(folder)}
    except FileNotFoundError:
        taken = set()
    names = (f"{prefix}_{number:05}_.safetensors" for number in itertools.count(1))
    return Path(folder, next(name for name in names if name.lower() not in taken))
