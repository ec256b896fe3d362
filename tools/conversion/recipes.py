"""What is written for each weight of a transformer in another type, and how it is made when its turn comes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import comfy.ops
import torch
from comfy.quant_ops import QuantizedTensor
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.model import checkpoint
from ovi_native.ovi_core.weights import quantization
from ovi_native.ovi_core.weights.files import Weights
from ovi_native.ovi_core.weights.gguf_blocks import FORMATS
from ovi_native.ovi_core.weights.gguf_tensors import format_of, unpacked
from torch import Tensor

FLOATS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
PACKED = ("q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
KEEP, FP8 = "keep", "fp8"
TYPES = (KEEP, *FLOATS, FP8, *PACKED)
FP8_MARK = {"format": "float8_e4m3fn"}


@dataclass(frozen=True)
class Entry:
    """One tensor to write.

    Attributes:
        name: its key, in the module's names.
        shape: as the file has it.
        type: a torch type, or GGML's name of how the tensor is packed.
        make: gives the tensor; packed ones as their bytes.
    """

    name: str
    shape: tuple[int, ...]
    type: torch.dtype | str
    make: Callable[[], Tensor]

    @property
    def size(self) -> int:
        """Bytes in the file."""
        values = torch.Size(self.shape).numel()
        if isinstance(self.type, str):
            return FORMATS[self.type].bytes_per_row(values)
        return values * self.type.itemsize


def entries(weights: Weights, kind: str, in_gguf: bool) -> Iterator[Entry]:
    """What to write for ``weights`` (module names, as ``loader.read_transformer`` gives them) as one of ``TYPES``."""
    for key, weight in weights.items():
        layer = key.removesuffix(".weight")
        if quantization.is_beside_weight(key):
            if kind == KEEP and not in_gguf:
                yield _as_it_is(key, weight)
            continue
        packed = format_of(weight)
        if kind == KEEP and packed and in_gguf:
            yield Entry(key, tuple(weight.shape), packed, _bytes_of(weight))
        elif kind == KEEP and not packed and (not in_gguf or _is_plain(layer, weight, weights)):
            yield _as_it_is(key, weight)
        elif kind == FP8 and _is_large(key, weight):
            yield from _scaled_fp8(layer, weights)
        elif kind in PACKED and _is_large(key, weight) and _shape(layer, weights)[1] % 32 == 0:
            yield _packed(key, kind.upper(), layer, weights)
        else:
            yield _cast(key, FLOATS.get(kind) or _fine_type(weight), layer, weights)


def _is_large(key: str, weight: Tensor) -> bool:
    """Whether a weight is one of the large matrices: what may be small in a file, and most of it."""
    fine = ("time_embedding.", "time_projection.", "head.head.")
    return weight.ndim == 2 and not key.removeprefix(checkpoint.AUDIO).startswith(fine)


def _is_plain(layer: str, weight: Tensor, weights: Weights) -> bool:
    return weight.dtype in FLOATS.values() and f"{layer}.comfy_quant" not in weights


def _fine_type(weight: Tensor) -> torch.dtype:
    """For what stays fine beside quantized matrices: its own type, bfloat16 for what is quantized itself."""
    return weight.dtype if weight.dtype in FLOATS.values() and not format_of(weight) else torch.bfloat16


def _as_it_is(key: str, weight: Tensor) -> Entry:
    return Entry(key, tuple(weight.shape), weight.dtype, weight.contiguous)


def _bytes_of(weight: QuantizedTensor) -> Callable[[], Tensor]:
    return lambda: weight._qdata


def _shape(layer: str, weights: Weights) -> tuple[int, ...]:
    """What a layer's weight stands for has this shape; some formats store several values in one element."""
    *rest, last = weights[f"{layer}.weight"].shape
    return (*rest, last * quantization.values_per_element(weights, layer))


def _values(key: str, layer: str, weights: Weights) -> Tensor:
    """Values of a weight, whatever it is stored as; of a layer that ComfyUI quantizes, by ComfyUI's own code."""
    weight = weights[key]
    if layer == key or f"{layer}.comfy_quant" not in weights:
        return unpacked(weight)
    rows, columns = _shape(layer, weights)
    linear = comfy.ops.mixed_precision_ops({}, torch.float32, full_precision_mm=True).Linear(columns, rows, bias=False)
    state = {name: weights[f"{layer}.{name}"] for name in quantization.suffixes() if f"{layer}.{name}" in weights}
    linear.load_state_dict({"weight": weight, **state})
    return linear.weight.dequantize()


def _cast(key: str, type: torch.dtype, layer: str, weights: Weights) -> Entry:
    def make() -> Tensor:
        values = _values(key, layer, weights)
        cast = values.to(type)
        if type == torch.float16 and not torch.isfinite(cast).all():
            raise OviError(
                input="--type",
                found=f"fp16, in which '{key}' overflows ({float(values.abs().max()):.3g})",
                accepted="fp16 for weights up to 65504",
                remedy="Use bf16.",
            )
        return cast.contiguous()

    shape = tuple(weights[key].shape) if layer == key else _shape(layer, weights)
    return Entry(key, shape, type, make)


def in_scaled_fp8(values: Tensor) -> QuantizedTensor:
    """A matrix in ComfyUI's scaled fp8, its largest value the largest of that type."""
    scale = values.abs().amax() / torch.finfo(torch.float8_e4m3fn).max
    scale = torch.where(scale > 0, scale, 1)  # a matrix of zeros stays one
    return QuantizedTensor.from_float(values, "TensorCoreFP8E4M3Layout", scale=scale)


def _scaled_fp8(layer: str, weights: Weights) -> Iterator[Entry]:
    @cache
    def quantize() -> dict[str, Tensor]:
        return in_scaled_fp8(_values(f"{layer}.weight", layer, weights).float()).state_dict("weight")

    def scale() -> Tensor:
        found = quantize()["weight_scale"]
        quantize.cache_clear()  # the scale is written after the weight, which is needed no more
        return found

    mark = torch.tensor(list(json.dumps(FP8_MARK).encode()), dtype=torch.uint8)
    shape = _shape(layer, weights)
    yield Entry(f"{layer}.weight", shape, torch.float8_e4m3fn, lambda: quantize()["weight"])
    yield Entry(f"{layer}.weight_scale", (), torch.float32, scale)
    yield Entry(f"{layer}.comfy_quant", tuple(mark.shape), torch.uint8, lambda: mark)


def _packed(key: str, type: str, layer: str, weights: Weights) -> Entry:
    def make() -> Tensor:
        from gguf import GGMLQuantizationType
        from gguf.quants import quantize

        values = _values(key, layer, weights).float().numpy()
        return torch.from_numpy(quantize(values, GGMLQuantizationType[type]))

    return Entry(key, _shape(layer, weights), type, make)
