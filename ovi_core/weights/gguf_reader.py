"""Reading GGUF files: tensors by key, packed ones as ComfyUI's quantised tensors, all of them views of the file."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from ..errors import OviError
from . import gguf_blocks
from .gguf_tensors import packed_tensor

MARK = b"GGUF"
PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}


def is_gguf(path: str) -> bool:
    """Whether a file's content begins as GGUF does."""
    with open(path, "rb") as file:
        return file.read(len(MARK)) == MARK


def read_gguf(path: str, *, input: str) -> dict[str, torch.Tensor]:
    """Tensors of a GGUF file, mapped into memory, not copied.

    A packed tensor has the shape of what it stands for, as GGUF keeps it: without leading axes of size 1.

    Raises:
        OviError: the library that reads GGUF is not installed, or a tensor is packed in a way that is not known here.
        Exception: whatever the library raises for a damaged file.
    """
    reader = require_library(input).GGUFReader(path)
    tensors = {}
    for tensor in reader.tensors:
        kind = tensor.tensor_type.name
        if kind not in PLAIN and kind not in gguf_blocks.FORMATS:
            raise OviError(
                input=input,
                found=f"a GGUF file with weights of the type {kind}",
                accepted=f"GGUF of the types {', '.join([*PLAIN, *gguf_blocks.FORMATS])}",
                remedy="Pick a file of one of these types; Q8_0, Q6_K, Q5_K and Q4_K are usual.",
            )
        shape = tuple(int(size) for size in reversed(tensor.shape))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given .* is not writ")  # nothing here writes to weights
            data = torch.from_numpy(tensor.data.view("uint8"))
        if kind in PLAIN:
            tensors[tensor.name] = data.reshape(-1).view(PLAIN[kind]).reshape(shape)
        else:
            tensors[tensor.name] = packed_tensor(data, kind, shape)
    return tensors


def read_gguf_text(path: str, key: str, *, input: str) -> str:
    """What the file's header says under ``key``; empty if nothing."""
    found = require_library(input).GGUFReader(path).get_field(key)
    return str(found.contents()) if found else ""


def require_library(input: str) -> Any:
    """The library that knows GGUF. Raises OviError where it is not installed."""
    try:
        import gguf
    except ImportError:
        raise OviError(
            input=input,
            found="a GGUF file, and no library for it",
            accepted="GGUF files where the Python package 'gguf' is installed",
            remedy="Install it with ComfyUI's Python, 'python -m pip install gguf', and restart; or pick a "
            ".safetensors file.",
        ) from None
    return gguf
