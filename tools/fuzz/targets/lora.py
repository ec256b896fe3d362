"""LoRAs: whatever is taken must be applicable by ComfyUI, to finite weights of the right shape."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from random import Random
from typing import Any

import comfy.lora
import safetensors.torch
import torch
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.model import lora

from .. import files
from ..adapters import lora_bytes

SUFFIX = ".safetensors"


@functools.cache
def _model() -> Any:
    path = files.tiny_folder() / "model.safetensors"
    safetensors.torch.save_file(files.tiny_model(), path)
    return load_model(str(path))


def make(random: Random) -> bytes:
    return lora_bytes(random)


def run(data: bytes, folder: Path) -> None:
    path = folder / "lora.safetensors"
    path.write_bytes(data)
    patched, _ = lora.with_lora(_model(), str(path), 1.0, 0.5)
    weights = patched.model.state_dict()
    complaints: list[str] = []
    logged, logging.error = logging.error, lambda *said: complaints.append(" ".join(map(str, said)))
    try:
        for key, patches in patched.patches.items():
            result = comfy.lora.calculate_weight(patches, weights[key].float(), key)
            if result.shape != weights[key].shape or not torch.isfinite(result).all():
                raise AssertionError(f"{key}: {tuple(result.shape)}, finite: {bool(torch.isfinite(result).all())}")
    finally:
        logging.error = logged
    if complaints:
        raise AssertionError(f"taken, and ComfyUI cannot apply it: {complaints[0][:300]}")
