"""Which LoRAs fit Ovi, judged by their headers."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator

import torch

from ..model import checkpoint
from ..model.lora import place
from ..model.lora_keys import parts_of
from ..network.transformer import OviConfig
from ..weights.files import Weights, read_header
from ..weights.identify import describe_weights
from .folders import MINI
from .loader import read_model_file

MOST_KEYS = 200  # of each tower that are looked at: all layers of a LoRA are alike
MOST_LAYERS = 3


def changed(path: str) -> str:
    """What a LoRA changes, in the user's words; empty where it does not fit Ovi or cannot be read."""
    try:
        stat = os.stat(path)
        return _changed(path, (stat.st_mtime_ns, stat.st_ctime_ns), stat.st_size)
    except Exception:  # whatever a file holds, it is no LoRA for Ovi
        return ""


@functools.lru_cache(maxsize=4096)
def _changed(path: str, changed: tuple[int, int], size: int) -> str:
    header = read_header(path, input="lora_name", accepted="a LoRA")
    if describe_weights(header.weights) != "a LoRA":
        return ""
    for config, model in _configs():
        towers = [name for name, some in _towers(header.weights).items() if _fits(some, config, path)]
        if towers:
            return f"the {' and '.join(towers)} tower{'s' * (len(towers) - 1)}{model}"
    return ""


def _configs() -> Iterator[tuple[OviConfig, str]]:
    yield OviConfig(), ""
    small = MINI / "diffusion_models" / "ovi_mini.safetensors"
    if small.is_file():
        yield _config(str(small)), " of the small model"


@functools.lru_cache(maxsize=1)
def _config(path: str) -> OviConfig:
    return checkpoint.read_config(checkpoint.named_by_tower(read_model_file(path, header_only=True).weights))


def _towers(weights: Weights) -> dict[str, Weights]:
    """Some of a file's tensors by the tower whose names they have, without their values."""
    keys: dict[str, list[str]] = {"video": [], "audio": []}
    for key in weights:
        keys["audio" if "audio_model" in key else "video"].append(key)
    return {tower: {key: weights[key] for key in some[:MOST_KEYS]} for tower, some in keys.items()}


def _fits(weights: Weights, config: OviConfig, path: str) -> bool:
    """Whether some of the tensors are for layers of this transformer, and of their shapes."""
    found = parts_of(weights, config)
    layers = list(dict.fromkeys(part.layer for part in found.values()))[:MOST_LAYERS]
    some = {key: torch.zeros(()).expand(weights[key].shape) for key, part in found.items() if part.layer in layers}
    return bool(place(some, config, os.path.basename(path)).patches)
