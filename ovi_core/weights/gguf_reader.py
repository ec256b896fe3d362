"""The tensors of a GGUF file by key, packed ones as ComfyUI's quantized tensors, all of them views of the file."""

from __future__ import annotations

import warnings

import numpy as np
import torch

from ..errors import OviError
from . import gguf_blocks
from .gguf_header import GGUFHeader
from .gguf_tensors import packed_tensor

PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}


def read_gguf(path: str, header: GGUFHeader, *, input: str, mapped: bool = True) -> dict[str, torch.Tensor]:
    """Tensors of a GGUF file, not copied.

    A packed tensor has the shape of what it stands for, as GGUF keeps it: without leading axes of size 1.

    Args:
        header: of the same file.
        mapped: leave the bytes in the file; otherwise they are read into memory.

    Raises:
        OviError: a tensor is packed in a way that is not known here.
    """
    for placed in header.tensors.values():
        if placed.kind not in PLAIN and placed.kind not in gguf_blocks.FORMATS:
            raise OviError(
                input=input,
                found=f"a GGUF file with weights of the type {placed.kind}",
                accepted=f"GGUF of the types {', '.join([*PLAIN, *gguf_blocks.FORMATS])}",
                remedy="Pick a file of one of these types; Q8_0, Q6_K, Q5_K and Q4_K are usual.",
            )
    content = torch.from_numpy(np.fromfile(path, np.uint8)) if not mapped else _mapped(path)
    tensors = {}
    for name, placed in header.tensors.items():
        data = content[placed.start : placed.start + placed.size]
        if placed.kind in PLAIN:
            type = PLAIN[placed.kind]
            data = data if placed.start % type.itemsize == 0 else data.clone()  # torch wants whole steps
            tensors[name] = data.view(type).reshape(placed.shape)
        else:
            length = gguf_blocks.FORMATS[placed.kind].bytes_per_row(placed.shape[-1])
            tensors[name] = packed_tensor(data.reshape(*placed.shape[:-1], length), placed.kind, placed.shape)
    return tensors


def _mapped(path: str) -> torch.Tensor:
    """A file's bytes, left in the file."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given .* is not writ")  # nothing here writes to weights
        return torch.from_numpy(np.memmap(path, np.uint8, "r"))
