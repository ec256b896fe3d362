"""Quantised layers in every spelling that published files have, turned into ComfyUI's present one.

ComfyUI wants, beside a layer's ``weight``, its scales and a ``comfy_quant``: JSON as bytes that names the format.
Older and foreign files say less. A weight stands for its stored value times its scale.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from .files import Weights

SUFFIXES = ("comfy_quant", "weight_scale", "weight_scale_2", "input_scale", "pre_quant_scale")
"""What a quantised layer has beside its weight and bias."""

OLD_SUFFIXES = {"scale_weight": "weight_scale", "scale_input": "input_scale"}
FP8 = {torch.float8_e4m3fn: "float8_e4m3fn", torch.float8_e5m2: "float8_e5m2"}
VALUES_PER_ELEMENT = {"nvfp4": 2, "convrot_w4a4": 2}
FILE_MARK = "scaled_fp8"  # an older file's word that its fp8 is scaled; two elements mean "multiply in full precision"


def host_spelling(weights: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None, wrappings: Iterable[str]):
    """Weights (no prefix around the model) with ComfyUI's marks at every quantised layer.

    Args:
        metadata: the file's header, which may name layers and their formats, with one of the ``wrappings`` or without.

    Layers that are no matrices, or scaled in a way ComfyUI's formats are not, are multiplied out to bfloat16.
    """
    mark = weights.get(FILE_MARK)
    named = {_spelled(key): value for key, value in weights.items() if key != FILE_MARK}
    common = {"full_precision_matrix_mult": True} if mark is not None and mark.numel() == 2 else {}
    told = _told_in_header(metadata, wrappings)
    for layer in [key.removesuffix(".weight_scale") for key in named if key.endswith(".weight_scale")]:
        weight = named.get(f"{layer}.weight")
        if weight is None or f"{layer}.comfy_quant" in named or layer in told:
            continue
        format = _format_of(weight, named[f"{layer}.weight_scale"], f"{layer}.weight_scale_2" in named)
        if format:
            told[layer] = {"format": format, **common}
        else:
            _multiply_out(named, layer)
    return named | {f"{layer}.comfy_quant": _as_bytes(conf) for layer, conf in told.items()}


def is_quantised(weights: Iterable[str]) -> bool:
    """Whether keys in ComfyUI's spelling have a quantised layer among them."""
    return any(key.endswith(".comfy_quant") for key in weights)


def values_per_element(weights: Mapping[str, torch.Tensor], layer: str) -> int:
    """How many values of a row each stored element of a layer's weight holds."""
    conf = weights.get(f"{layer}.comfy_quant")
    if conf is None or conf.is_meta:
        return 1
    return VALUES_PER_ELEMENT.get(json.loads(conf.numpy().tobytes()).get("format"), 1)


def _spelled(key: str) -> str:
    layer, _, name = key.rpartition(".")
    return f"{layer}.{OLD_SUFFIXES[name]}" if name in OLD_SUFFIXES else key


def _told_in_header(metadata: Mapping[str, str] | None, wrappings: Iterable[str]) -> dict[str, dict[str, Any]]:
    layers = json.loads((metadata or {}).get("_quantization_metadata", "{}")).get("layers", {})
    told = {}
    for layer, conf in layers.items():
        for wrapping in wrappings:
            layer = layer.removeprefix(wrapping)
        told[layer] = dict(conf)
    return told


def _format_of(weight: torch.Tensor, scale: torch.Tensor, second_scale: bool) -> str:
    """ComfyUI's name of the format a layer without a mark is in; empty if it is in none."""
    if weight.ndim != 2:
        return ""
    if weight.dtype in FP8 and scale.numel() == 1:
        return FP8[weight.dtype]
    if weight.dtype == torch.float8_e4m3fn and scale.dtype in (torch.uint8, torch.float8_e8m0fnu):
        return "mxfp8"
    if weight.dtype == torch.int8 and scale.numel() in (1, weight.shape[0]):
        return "int8_tensorwise"
    return "nvfp4" if weight.dtype == torch.uint8 and second_scale else ""


def _multiply_out(weights: Weights, layer: str) -> None:
    weight, scale = weights[f"{layer}.weight"], weights.pop(f"{layer}.weight_scale").float()
    weights.pop(f"{layer}.input_scale", None)
    if scale.numel() > 1:  # one for each output channel
        scale = scale.reshape(-1, *[1] * (weight.ndim - 1))
    kept = weight.dtype if weight.dtype in (torch.float32, torch.float16) else torch.bfloat16
    weights[f"{layer}.weight"] = (weight.float() * scale).to(kept)


def _as_bytes(conf: Mapping[str, Any]) -> torch.Tensor:
    return torch.tensor(list(json.dumps(conf).encode()), dtype=torch.uint8)
