"""LoRAs to train further."""

from __future__ import annotations

from pathlib import Path
from random import Random

import torch
from ovi_native.ovi_core.model import lora
from ovi_native.ovi_core.training import adapters

from .. import files
from ..adapters import lora_bytes

SUFFIX = ".safetensors"


def make(random: Random) -> bytes:
    return lora_bytes(random)


def run(data: bytes, folder: Path) -> None:
    path = folder / "lora.safetensors"
    path.write_bytes(data)
    weights, _ = lora.read_lora(str(path), "existing_lora")
    names = adapters.matrices(files.TINY, True, True)[:6]
    fresh = adapters.new_adapters(files.TINY, names, "LoRA", 2, 0)
    found = adapters.adapters_of(weights, files.TINY, fresh, path.name)
    kept = found.weights(torch.float32)
    if not all(torch.isfinite(value).all() for value in kept.values()):
        raise AssertionError("taken with values that are not finite")
