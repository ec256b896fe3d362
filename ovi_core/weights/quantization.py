"""Quantized layers in every spelling that published files have, turned into ComfyUI's present one.

ComfyUI wants, beside a layer's ``weight``, its scales and a ``comfy_quant``: JSON as bytes that names the format.
Older and foreign files say less. A weight stands for its stored value times its scale.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from ..errors import OviError
from . import comfyui

SUFFIXES = ("comfy_quant", "weight_scale", "weight_scale_2", "input_scale", "pre_quant_scale")
"""What a quantized layer has beside its weight and bias, in the formats of ComfyUI 0.30."""

OLD_SUFFIXES = {"scale_weight": "weight_scale", "scale_input": "input_scale"}
FP8 = {torch.float8_e4m3fn: "float8_e4m3fn", torch.float8_e5m2: "float8_e5m2"}
VALUES_PER_ELEMENT = {"nvfp4": 2, "convrot_w4a4": 2, "asym_w4a8_int8": 2, "awq_w4a16": 2}
MARK = ".comfy_quant"
FILE_MARK = "scaled_fp8"  # an older file's word that its fp8 is scaled; two elements mean "multiply in full precision"
LIST = "_quantization_metadata"
"""Under this name a header may list layers and their formats, as JSON."""
SETTINGS: dict[str, type | tuple[type, ...]] = {
    "format": str,
    "full_precision_matrix_mult": (bool, int),
    "convrot": (bool, int),
    "convrot_groupsize": int,
    "linear_dtype": str,
}
"""What a layer's ``comfy_quant`` may say that ComfyUI reads, and of which types."""
LONGEST_GROUP = 1 << 16
ACCEPTED = "bf16, fp16, fp32, fp8 (plain or scaled), ComfyUI's int8, mxfp8 and nvfp4, GGUF"
INSTEAD = "Use the bf16, the scaled fp8 or a GGUF file of the same model."


@functools.cache
def suffixes() -> frozenset[str]:
    """What a quantized layer has beside its weight and bias, in the formats of the ComfyUI that runs."""
    return frozenset(SUFFIXES).union(*comfyui.quantized_formats().values())


def is_beside_weight(key: str) -> bool:
    """Whether a key names a scale or mark of a quantized layer."""
    layer, _, name = key.rpartition(".")
    return bool(layer) and name in suffixes()


def comfyui_spelling(
    weights: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None, wrappings: Iterable[str], *, input: str
) -> dict[str, torch.Tensor]:
    """Weights (no prefix around the model) with ComfyUI's marks at every quantized layer.

    Args:
        metadata: the file's header, which may name layers and their formats, with one of the ``wrappings`` or without.

    Layers that are no matrices, or scaled in a way ComfyUI's formats are not, are multiplied out to bfloat16.

    Raises:
        OviError: a layer in a format that this ComfyUI does not know, or whose mark or scales do not fit it.
    """
    mark = weights.get(FILE_MARK)
    named = {_spelled(key): value for key, value in weights.items() if key != FILE_MARK}
    common = {"full_precision_matrix_mult": True} if mark is not None and mark.numel() == 2 else {}
    listed = listed_layers(metadata, wrappings, input=input)
    for layer in [key.removesuffix(".weight_scale") for key in named if key.endswith(".weight_scale")]:
        weight = named.get(f"{layer}.weight")
        if weight is None or f"{layer}.comfy_quant" in named or layer in listed:
            continue
        format = _format_of(weight, named[f"{layer}.weight_scale"], f"{layer}.weight_scale_2" in named)
        if format:
            listed[layer] = {"format": format, **common}
        else:
            _multiply_out(named, layer, input)
    marked = named | {f"{layer}.comfy_quant": _as_bytes(conf) for layer, conf in listed.items()}
    check_layers(marked, input=input)
    return marked


def is_quantized(weights: Iterable[str]) -> bool:
    """Whether keys in ComfyUI's spelling have a quantized layer among them."""
    return any(key.endswith(MARK) for key in weights)


def values_per_element(weights: Mapping[str, torch.Tensor], layer: str) -> int:
    """How many values of a row each stored element of a layer's weight holds."""
    conf = weights.get(f"{layer}.comfy_quant")
    if conf is None or conf.is_meta:
        return 1
    return VALUES_PER_ELEMENT.get(_settings(conf, layer, "").get("format", ""), 1)


def as_values(weights: Mapping[str, torch.Tensor], layer: str) -> torch.Tensor:
    """A layer's weight in the shape of the values that it stands for, without memory (meta device)."""
    shape = list(weights[f"{layer}.weight"].shape)
    if shape:  # a damaged file may have a number instead; its shape is reported by who checks the layer
        shape[-1] *= values_per_element(weights, layer)
    return torch.empty(shape, device="meta")


def listed_layers(
    metadata: Mapping[str, str] | None, wrappings: Iterable[str] = (), *, input: str
) -> dict[str, dict[str, Any]]:
    """The layers that a file's header lists, with their settings; their names without ``wrappings``.

    Raises:
        OviError: the list is damaged.
    """
    text = (metadata or {}).get(LIST)
    if text is None:
        return {}
    try:
        found = json.loads(text)
        layers = found.get("layers", {})
        listed = {layer: dict(conf) for layer, conf in layers.items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise _damaged(f"weights whose list of quantized layers cannot be read ({text[:40]!r})", input) from None
    for wrapping in wrappings:
        listed = {layer.removeprefix(wrapping): conf for layer, conf in listed.items()}
    return listed


def check_layers(weights: Mapping[str, torch.Tensor], *, input: str) -> None:
    """Raise OviError unless every quantized layer (ComfyUI's spelling) is one that ComfyUI can compute with."""
    known = comfyui.quantized_formats()
    for key in weights:
        if not key.endswith(MARK) or weights[key].is_meta:
            continue
        layer = key.removesuffix(MARK)
        format = _settings(weights[key], layer, input)["format"]
        if format not in known:
            raise OviError(
                input=input,
                found=f"weights quantized as {format}, which this ComfyUI does not compute with",
                accepted=ACCEPTED,
                remedy=f"Update ComfyUI if a later one knows {format}, or: {INSTEAD}",
            )
        weight = weights.get(f"{layer}.weight")
        if weight is not None:
            _check_layer(weights, layer, weight, format, input)


def _check_layer(
    weights: Mapping[str, torch.Tensor], layer: str, weight: torch.Tensor, format: str, input: str
) -> None:
    """Raise OviError unless a layer's weight and scales have the sizes of its format; unknown formats pass."""
    if weight.ndim != 2 or weight.dtype.itemsize != 1:
        shape, type = list(weight.shape), str(weight.dtype).removeprefix("torch.")
        raise _damaged(f"weights marked as {format} whose '{layer}.weight' is {shape} of {type}", input)
    rows, columns = weight.shape[0], weight.shape[1] * VALUES_PER_ELEMENT.get(format, 1)
    accepted: dict[str, Iterable[int | None]] = {
        "float8_e4m3fn": (None, 1),
        "float8_e5m2": (None, 1),
        "mxfp8": (_blocks(rows, columns, 32),),
        "nvfp4": (_blocks(rows, columns, 16),),
        "int8_tensorwise": (1, rows),
        "convrot_w4a4": (rows,),
    }
    sizes = {"weight_scale": accepted.get(format)}
    if format == "nvfp4":
        sizes["weight_scale_2"] = (1,)
    for name, numbers in sizes.items():
        scale = weights.get(f"{layer}.{name}")
        found = None if scale is None else scale.numel()
        if numbers is not None and found not in numbers:
            raise _damaged(f"weights as {format} with {found or 'no'} numbers as '{layer}.{name}'", input)


def _blocks(rows: int, columns: int, group: int) -> int:
    """Scales of a matrix with one for each ``group`` values of a row, laid out in tiles of 128 x 4."""
    return 128 * math.ceil(rows / 128) * 4 * math.ceil(columns / group / 4)


def _settings(mark: torch.Tensor, layer: str, input: str) -> dict[str, Any]:
    """What a layer's ``comfy_quant`` says; OviError where that is not what ComfyUI reads."""
    try:
        conf = json.loads(mark.contiguous().numpy().tobytes())
        inner = conf.get("params", {})
        said = {**(inner if isinstance(inner, dict) else {}), **conf}
        right = "format" in conf and all(isinstance(said[k], t) for k, t in SETTINGS.items() if k in said)
        right = right and 0 < said.get("convrot_groupsize", 1) <= LONGEST_GROUP
    except (ValueError, TypeError, AttributeError, RuntimeError):  # deep nesting and foreign tensors are the last
        right = False
    if not right:
        raise _damaged(f"weights whose '{layer}.comfy_quant' cannot be read", input)
    return conf


def _damaged(found: str, input: str) -> OviError:
    return OviError(input=input, found=found, accepted=ACCEPTED, remedy=f"Fetch the file again, or: {INSTEAD}")


def _spelled(key: str) -> str:
    layer, _, name = key.rpartition(".")
    return f"{layer}.{OLD_SUFFIXES[name]}" if name in OLD_SUFFIXES else key


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


def _multiply_out(weights: dict[str, torch.Tensor], layer: str, input: str) -> None:
    weight, scale = weights[f"{layer}.weight"], weights.pop(f"{layer}.weight_scale")
    weights.pop(f"{layer}.input_scale", None)
    kept = weight.dtype if weight.dtype in (torch.float32, torch.float16) else torch.bfloat16
    weights[f"{layer}.weight"] = _values(weight, scale, layer, input).to(kept)


def _values(weight: torch.Tensor, scale: torch.Tensor, layer: str, input: str) -> torch.Tensor:
    """What a layer's weight stands for, in float32; its scale is one number, or one for each row."""
    if scale.numel() not in (1, *weight.shape[:1]):
        raise _damaged(f"weights with {scale.numel()} numbers as '{layer}.weight_scale'", input)
    scale = scale.float().reshape(-1, *[1] * (weight.ndim - 1)) if weight.ndim else scale.float().reshape(())
    return weight.float() * scale


def fp8_in_float32(weights: Mapping[str, torch.Tensor], most_bytes: int) -> dict[str, torch.Tensor]:
    """Weights in ComfyUI's spelling, with layers of scaled fp8 multiplied out to the values ComfyUI computes with.

    As they are, if a layer is quantized in another way or these would take more than ``most_bytes``.
    """
    layers = [key.removesuffix(MARK) for key in weights if key.endswith(MARK)]
    formats = {_settings(weights[layer + MARK], layer, "")["format"] for layer in layers}
    values = sum(weights[f"{layer}.weight"].numel() for layer in layers)
    if not layers or not formats <= {*FP8.values()} or 4 * values > most_bytes:
        return dict(weights)
    full = {
        f"{layer}.weight": _values(weights[f"{layer}.weight"], weights[f"{layer}.weight_scale"], layer, "")
        for layer in layers
    }
    beside = {key for key in weights if is_beside_weight(key) and f"{key.rpartition('.')[0]}.weight" in full}
    return {key: full.get(key, value) for key, value in weights.items() if key not in beside}


def _as_bytes(conf: Mapping[str, Any]) -> torch.Tensor:
    return torch.tensor(list(json.dumps(conf).encode()), dtype=torch.uint8)
