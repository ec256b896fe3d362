"""What this package uses of ComfyUI beyond its documented interface; ``tests/test_comfyui_interface.py`` holds it."""

from __future__ import annotations

import comfy.quant_ops
import comfy.utils
import torch
from comfy.lora import calculate_weight
from comfy.model_patcher import LowVramPatch, get_key_weight
from comfy.ops import mixed_precision_ops
from comfy.quant_ops import QuantizedLayout, QuantizedTensor, register_layout_class
from comfy_kitchen.tensor.base import BaseLayoutParams
from comfyui_version import __version__ as VERSION

__all__ = [
    "VERSION",
    "BaseLayoutParams",
    "LowVramPatch",
    "QuantizedLayout",
    "QuantizedTensor",
    "calculate_weight",
    "get_key_weight",
    "load_safetensors",
    "mixed_precision_ops",
    "quantized_formats",
    "register_layout_class",
]


def load_safetensors(path: str) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file, mapped the way ComfyUI wants weights; it knows the file by its ending."""
    return comfy.utils.load_torch_file(path)


def quantized_formats() -> dict[str, frozenset[str]]:
    """The formats that this ComfyUI computes with, each with what a layer has beside weight, bias and scales."""
    return {name: frozenset(entry["parameters"]) for name, entry in comfy.quant_ops.QUANT_ALGOS.items()}
