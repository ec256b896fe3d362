"""What the model takes of ComfyUI beyond the classes that it is made of; see ``tests/test_comfyui_interface.py``."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import comfy.lora
import comfy.model_management
from torch import Tensor


def known_options(function: Callable, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``options`` that a function of this version of ComfyUI takes by name."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return dict(options)
    names = {parameter.name for parameter in parameters}
    return {name: value for name, value in options.items() if name in names}


def patcher_options(patcher: type, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """What later versions of ComfyUI tell a patcher of the file: whether it is on a fast disk, to be read again."""
    try:
        storage = importlib.import_module("comfy.storage")
        options = {"fast_disk": storage.state_dict_fast_disk(weights)}
    except Exception:  # other versions have no such module, or ask it in another way; it is only about speed
        return {}
    return known_options(patcher, options)


def lora_patches(weights: Mapping[str, Tensor], layers: Iterable[str]) -> dict[str, Any]:
    """ComfyUI's patches for the weights and biases of ``layers``, from a LoRA in its own spelling.

    Args:
        weights: by ``<layer>.<part>``.
        layers: names of layers as they are in the keys of ``weights``.
    """
    return comfy.lora.load_lora(weights, {layer: f"{layer}.weight" for layer in layers}, log_missing=False)


FULL_PRECISION = "_full_precision_mm"
"""Attribute of ComfyUI's quantized layers: whether they multiply in the type of the activations."""


def fp8_layout_of(layer: Any) -> str | None:
    """The layout of a layer with ComfyUI's scaled fp8 weights; None for any other layer."""
    layout = getattr(layer, "layout_type", None)
    return layout if isinstance(layout, str) and "FP8E4M3" in layout and "MX" not in layout else None


def supports_fp8(device: Any) -> bool:
    """Whether ComfyUI multiplies in fp8 on a device."""
    return bool(comfy.model_management.supports_fp8_compute(device))
