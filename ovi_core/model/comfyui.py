"""What the model takes of ComfyUI beyond the classes that it is made of; see ``tests/test_comfyui_interface.py``."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import comfy.lora
import comfy.model_management
import comfy.ops
import torch
from torch import Tensor

from ..network.comfyui import fp8_layout_of


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


def supports_fp8(device: Any) -> bool:
    """Whether ComfyUI multiplies in fp8 on a device."""
    try:
        return bool(comfy.model_management.supports_fp8_compute(device))
    except (RuntimeError, ValueError, AssertionError):  # it asks for the properties of a card, whatever the device is
        return False


def multiplies_plain_fp8(layer: Any) -> bool:
    """Whether a layer is of ComfyUI's kind that multiplies plain fp8 weights in fp8."""
    kind = getattr(getattr(comfy.ops, "fp8_ops", None), "Linear", None)
    return kind is not None and isinstance(layer, kind) and layer.weight.dtype is torch.float8_e4m3fn


def multiplies_in_fp8(layer: Any) -> bool:
    """Whether a layer multiplies in fp8 on ComfyUI's device, or does unless a node switches that off."""
    scaled = fp8_layout_of(layer) is not None and supports_fp8(comfy.model_management.get_torch_device())
    return scaled or multiplies_plain_fp8(layer)
