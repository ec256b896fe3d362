"""Safetensors files: their header, and their tensors.

The library checks the header against the file (types, shapes, offsets and length), so it is asked before ComfyUI's
loader, which maps tensors by the header as it stands.
"""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass, field
from typing import Any

import safetensors
import safetensors.torch
import torch

from . import comfyui

ENDINGS = (".safetensors", ".sft")  # by these ComfyUI knows them
LONGEST = 16 << 20  # bytes of a header; published ones have half a million, metadata of training some millions
SMALL = 4096  # bytes; a weight of this size may be a mark, whose content belongs to the header
DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "C64": torch.complex64,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
}
"""Torch's types by the names in a file's header."""


@dataclass(frozen=True)
class SafetensorsHeader:
    """What a file says of its tensors.

    Attributes:
        shapes: type and shape of each tensor, by key.
        metadata: texts by name.
        marks: the small ``comfy_quant`` tensors, which name a layer's format.
    """

    shapes: dict[str, tuple[torch.dtype, tuple[int, ...]]]
    metadata: dict[str, str] = field(default_factory=dict)
    marks: dict[str, torch.Tensor] = field(default_factory=dict)


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins with these 64 bytes or fewer is of this format.

    It begins with the length of its header, eight bytes of which the last are zero, and the header's brace. A text
    never has zeros there.
    """
    return head[8:9] == b"{" and head[5:8] == bytes(3)


def read_safetensors_header(path: str) -> SafetensorsHeader:
    """The header of a file, checked against the file.

    Raises:
        ValueError: the file is cut short, with both figures; its header is far too long.
        Exception: whatever the library raises for a damaged header.
    """
    length = _header_length(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            shapes, marks = {}, {}
            for key in file.keys():  # noqa: SIM118  (it is no mapping)
                entry = file.get_slice(key)
                shape = tuple(entry.get_shape())
                shapes[key] = (_dtype(key, entry.get_dtype()), shape)
                if key.endswith(".comfy_quant") and len(shape) == 1 and shape[0] <= SMALL:
                    marks[key] = file.get_tensor(key)
            return SafetensorsHeader(shapes, file.metadata() or {}, marks)
    except safetensors.SafetensorError as error:
        _check_end(path, length, error)
        raise


def read_safetensors(path: str, mapped: bool) -> dict[str, torch.Tensor]:
    """Tensors of a file whose header is checked; not mapped, they lie in memory and the file may go away."""
    if not mapped:
        with open(path, "rb") as file:
            return safetensors.torch.load(file.read())
    if path.lower().endswith(ENDINGS):
        return comfyui.load_safetensors(path)
    return safetensors.torch.load_file(path)


def _dtype(key: str, name: str) -> torch.dtype:
    if name not in DTYPES:
        raise ValueError(f"its '{key}' is of the type {name}, which this pack does not read")
    return DTYPES[name]


def _header_length(path: str) -> int:
    """Bytes of a file's header; raises ValueError where the file or the limit is shorter."""
    there = os.path.getsize(path)
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
    if length > there - 8:
        raise ValueError(f"cut short in its first bytes: {there:,} of {length + 8:,} or more are there")
    if length > LONGEST:
        raise ValueError(f"its header has {length:,} bytes, where {LONGEST:,} are the limit")
    return length


def _check_end(path: str, length: int, error: Exception) -> None:
    """Raise ValueError, with both figures, for a file that is shorter than its header, of so many bytes, says."""
    there = os.path.getsize(path)
    with open(path, "rb") as file:
        file.seek(8)
        content = file.read(length)
    try:
        header: dict[str, Any] = json.loads(content)
        ends = [int(entry["data_offsets"][1]) for key, entry in header.items() if key != "__metadata__"]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return  # a damaged header, of which the library has said what is wrong
    ends_at = 8 + length + max(ends, default=0)
    if there < ends_at:
        raise ValueError(f"cut short: {there:,} of its {ends_at:,} bytes are there") from error
