"""GGUF's packed weights as ComfyUI's quantized tensors: unpacked at use, patched at use, saved unpacked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import OviError
from . import gguf_blocks
from .comfyui import (
    VERSION,
    BaseLayoutParams,
    LowVramPatch,
    QuantizedLayout,
    QuantizedTensor,
    calculate_weight,
    get_key_weight,
    mixed_precision_ops,
    register_layout_class,
)

LAYOUT = "OviGGUFLayout"


class GGUFLayout(QuantizedLayout):
    """Rows of packed blocks [rows, bytes per row] uint8, which stand for ``orig_shape``."""

    @dataclass(frozen=True)
    class Params(BaseLayoutParams):
        """``format``: GGML's name of the blocks. The scales are inside the blocks, so ``scale`` is None."""

        format: str = ""

        def _tensor_fields(self) -> list[str]:
            return []

    @classmethod
    def quantize(cls, tensor: Tensor, **kwargs: Any) -> tuple[Tensor, Any]:
        raise NotImplementedError("packed weights are read, never made, while a model is in use")

    @classmethod
    def dequantize(cls, qdata: Tensor, params: Any) -> Tensor:
        return gguf_blocks.dequantize(qdata, params.format).reshape(params.orig_shape).to(params.orig_dtype)

    @classmethod
    def get_plain_tensors(cls, qtensor: QuantizedTensor) -> tuple[Tensor, ...]:
        return (qtensor._qdata,)

    @classmethod
    def state_dict_tensors(cls, qdata: Tensor, params: Any) -> dict[str, Tensor]:
        """ComfyUI asks for the names of what it saves; the scales have none, being in the blocks."""
        return {"": qdata}


register_layout_class(LAYOUT, GGUFLayout)


def packed_tensor(rows: Tensor, format: str, shape: tuple[int, ...]) -> QuantizedTensor:
    """A tensor of ``shape`` whose values are packed in ``rows`` uint8; it computes as float32."""
    params = GGUFLayout.Params(scale=None, orig_dtype=torch.float32, orig_shape=shape, format=format)
    return QuantizedTensor(rows, LAYOUT, params)


def is_packed(tensor: Any) -> bool:
    """Whether a tensor or parameter is one of GGUF's packed ones."""
    return isinstance(tensor, QuantizedTensor) and tensor._layout_cls == LAYOUT


def format_of(tensor: Tensor) -> str:
    """GGML's name of how a tensor is packed; empty for others."""
    return tensor._params.format if is_packed(tensor) else ""


def unpacked(tensor: Tensor) -> Tensor:
    """The values of a packed tensor; any other as it is."""
    return tensor.dequantize() if is_packed(tensor) else tensor


def fit_shapes(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a GGUF file in the shapes the network has; only matrices stay packed.

    GGUF drops leading axes of size 1 (a modulation [1, 6, D] becomes [6, D]) and has four axes at most.
    """
    fitted = {}
    for key, weight in weights.items():
        wanted = expected[key].shape if key in expected else weight.shape
        if is_packed(weight) and len(wanted) != 2:
            weight = unpacked(weight)
        same_size = weight.numel() == math.prod(wanted)
        fitted[key] = weight.reshape(wanted) if same_size and weight.shape != wanted else weight
    return fitted


class _ListsItsParameters:
    """Mixed into a layer of ComfyUI: packed weights have no scales that its own list would look for."""

    def state_dict(self: Any, *args: Any, destination: Any = None, prefix: str = "", **kwargs: Any) -> Any:
        destination = {} if destination is None else destination
        destination.update({f"{prefix}{name}": value for name, value in self.named_parameters(recurse=False)})
        return destination


def operations(compute_dtype: torch.dtype | None) -> Any:
    """ComfyUI's layers for quantized weights, where linear layers and embeddings may hold GGUF's.

    Raises:
        OviError: a ComfyUI whose layers compute in another way than these know.
    """
    problem: Exception | None = None
    try:
        found = _operations(compute_dtype)
        if _computes(found):
            return found
    except Exception as error:  # whatever another version of ComfyUI raises when it is used as this one
        problem = error
    raise OviError(
        input="model_name",
        found=f"a GGUF file, and ComfyUI {VERSION}, whose layers do not compute with packed weights",
        accepted="a file in bf16 or fp8, or a ComfyUI that this pack was tested with",
        remedy="Update Ovi native; until then, use the bf16 or scaled fp8 file of the same model.",
    ) from problem


def _computes(operations: Any) -> bool:
    """Whether a linear layer multiplies by the values of its packed weight: a block with the scale 1 and 0 to 31."""
    block = torch.tensor([[0x00, 0x3C, *range(32)]], dtype=torch.uint8)
    layer = operations.Linear(32, 1, bias=False)
    layer.weight = torch.nn.Parameter(packed_tensor(block, "Q8_0", (1, 32)), requires_grad=False)
    with torch.no_grad():
        return layer(torch.ones(1, 32)).tolist() == [[sum(range(32))]]


def _operations(compute_dtype: torch.dtype | None) -> Any:
    own: Any = mixed_precision_ops({}, compute_dtype, full_precision_mm=True)

    class PackedOperations(own):
        class Linear(_ListsItsParameters, own.Linear):
            """ComfyUI's, but its weight is saved as values: another loader could not read the blocks."""

        class Embedding(_ListsItsParameters, own.Embedding):
            """ComfyUI's, but of a packed table only the rows that are looked up are unpacked, where the table lies."""

            def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
                key = f"{prefix}weight"
                if not is_packed(state_dict.get(key)):
                    super()._load_from_state_dict(state_dict, prefix, *args)
                    return
                self.weight = torch.nn.Parameter(state_dict.pop(key), requires_grad=False)

            def forward_comfy_cast_weights(self, input: Tensor, out_dtype: torch.dtype | None = None) -> Tensor:
                if not is_packed(self.weight) or self.weight_function:
                    return super().forward_comfy_cast_weights(input, out_dtype=out_dtype)
                table = self.weight._qdata
                rows = table[input.to(table.device)].to(input.device)
                return gguf_blocks.dequantize(rows, format_of(self.weight)).to(out_dtype or torch.float32)

            def _apply(self, fn: Any, recurse: bool = True) -> Any:
                return own.Linear._apply(self, fn, recurse)  # keeps packed weights packed

    return PackedOperations


class PatchesAtUse:
    """Mixed into a patcher of ComfyUI: patches of packed weights are applied to their values in every use.

    Applied once, as ComfyUI does with other weights, they would leave a LoRA's model in memory unpacked: several times
    the size that the file was chosen for.
    """

    def load(self, *args: Any, **kwargs: Any) -> Any:
        with self._patches_at_use():
            return super().load(*args, **kwargs)  # type: ignore[misc]

    def partially_unload(self, *args: Any, **kwargs: Any) -> Any:
        with self._patches_at_use():
            return super().partially_unload(*args, **kwargs)  # type: ignore[misc]

    def model_state_dict_for_saving(self: Any, model: Any = None, prefix: str = "") -> dict:
        """Packed weights as patched values: no other loader could read the blocks."""
        state = super().model_state_dict_for_saving(model, prefix)  # type: ignore[misc]
        for key, weight in state.items():
            if is_packed(weight):
                patches = self.patches.get(prefix + key, [])
                state[key] = calculate_weight(patches, unpacked(weight), prefix + key)
        return state

    @contextmanager
    def _patches_at_use(self: Any) -> Iterator[None]:
        """While ComfyUI places weights, it finds patches of packed ones among the functions it calls at every use."""
        patches, wrappers = self.patches, self.weight_wrapper_patches
        packed = {key: patch for key, patch in patches.items() if is_packed(get_key_weight(self.model, key)[0])}
        at_use = {key: [LowVramPatch(key, packed), *wrappers.get(key, [])] for key in packed}
        self.patches = {key: patch for key, patch in patches.items() if key not in packed}
        self.weight_wrapper_patches = {**wrappers, **at_use}
        try:
            yield
        finally:
            self.patches, self.weight_wrapper_patches = patches, wrappers
