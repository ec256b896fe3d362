"""What the model takes of ComfyUI beyond the classes that it is made of; see ``tests/test_comfyui_interface.py``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import comfy.lora
from torch import Tensor


def lora_patches(weights: Mapping[str, Tensor], layers: Iterable[str]) -> dict[str, Any]:
    """ComfyUI's patches for the weights and biases of ``layers``, from a LoRA in its own spelling.

    Args:
        weights: by ``<layer>.<part>``.
        layers: names of layers as they are in the keys of ``weights``.
    """
    return comfy.lora.load_lora(weights, {layer: f"{layer}.weight" for layer in layers}, log_missing=False)
