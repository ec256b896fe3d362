"""A step whose large matrices are ComfyUI's scaled fp8, with inputs in fp8 too: time, and error against bf16."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from ..cases import Case, difference, gigabytes, measured
from .kernels import set_clip
from .size import Measure, Size

FORMAT = "float8_e4m3fn"


def fp8(size: Size) -> Iterator[tuple[str, Measure]]:
    """For each clip a step in both types, of the same random weights."""
    case = Case(size.model, next(iter(size.clips.values())), size.device, size.dtype)
    plain, quantised = case.transformer, _quantised(case, size)
    for name, clip in size.clips.items():
        yield name, partial(_both, case, clip, plain, quantised)


def _quantised(case: Case, size: Size) -> Any:
    """The case's transformer with its block pairs' matrices in fp8, as ComfyUI loads such a file."""
    import comfy.model_management
    import comfy.ops
    from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor
    from ovi_native.ovi_core.network.transformer import OviTransformer

    native = case.device != "cuda" or comfy.model_management.supports_fp8_compute(torch.device(case.device))
    operations = comfy.ops.mixed_precision_ops({}, size.dtype, disabled=() if native else (FORMAT,))
    made = OviTransformer(dtype=size.dtype, device=size.device, operations=operations, **size.model)
    mark = torch.tensor(list(json.dumps({"format": FORMAT}).encode()), dtype=torch.uint8)
    weights: dict[str, torch.Tensor] = {}
    for key, value in case.transformer.state_dict().items():
        if ".blocks." not in f".{key}" or value.ndim != 2:
            weights[key] = value
            continue
        layout = QUANT_ALGOS[FORMAT]["comfy_tensor_layout"]
        weights |= QuantizedTensor.from_float(value, layout, scale="recalculate").state_dict(key)
        weights[key.removesuffix("weight") + "comfy_quant"] = mark
    made.load_state_dict(weights, strict=False)
    return made.requires_grad_(False)


def _both(case: Case, clip: tuple[int, int, int], plain: Any, quantised: Any) -> dict[str, Any]:
    out: dict[str, Any] = {}
    results = {}
    for name, transformer in (("bf16", plain), ("fp8", quantised)):
        case.transformer = transformer
        set_clip_of(case, clip)
        results[name] = case.ours()
        seconds, _ = measured(case.ours, case.device)
        out[name] = {
            "seconds_per_step": round(seconds, 4),
            "weights_gb": gigabytes(sum(stored_bytes(weight) for weight in transformer.parameters())),
        }
    case.transformer = plain
    out["relative_difference"] = difference(results["fp8"], results["bf16"])
    out["fp8 / bf16"] = round(out["fp8"]["seconds_per_step"] / out["bf16"]["seconds_per_step"], 3)
    return out


def set_clip_of(case: Case, clip: tuple[int, int, int]) -> None:
    """The same inputs for whichever transformer the case has."""
    torch.manual_seed(0)
    set_clip(case, clip)


def stored_bytes(weight: torch.Tensor) -> int:
    """Bytes of a weight as it lies there."""
    packed = getattr(weight, "_qdata", None)
    return packed.nbytes if packed is not None else weight.nbytes
