"""The header of a GGUF file: its fields, and where each tensor lies. Nothing is read that its counts do not allow.

The library's own reader makes several objects for every token of a tokenizer, close to a gigabyte for UMT5's, and
believes every count; so the header is read here. Types and block sizes are the library's.
Source of the layout: GGUF's specification, ``ggml/docs/gguf.md``.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import OviError

MARK = b"GGUF"
VERSIONS = (2, 3)
LONGEST = 64 << 20  # bytes of a header; UMT5's, with its tokenizer, has 8 million
LONGEST_NAME = 1 << 16  # bytes of a key or a tensor's name
MOST_FIELDS = 1 << 12
MOST_TENSORS = 1 << 17
MOST_TEXTS = 1 << 20  # in all arrays; the largest tokenizers have a quarter
MOST_AXES = 8
STRING, ARRAY = 8, 9
SCALARS: dict[int, np.dtype] = {
    0: np.dtype("<u1"),
    1: np.dtype("<i1"),
    2: np.dtype("<u2"),
    3: np.dtype("<i2"),
    4: np.dtype("<u4"),
    5: np.dtype("<i4"),
    6: np.dtype("<f4"),
    7: np.dtype("?"),
    10: np.dtype("<u8"),
    11: np.dtype("<i8"),
    12: np.dtype("<f8"),
}
"""GGUF's numbers of the types of single values."""


@dataclass(frozen=True)
class Placed:
    """Where a tensor lies: ``size`` bytes from ``start`` of the file, ``shape`` in torch's order, ``kind`` GGML's."""

    kind: str
    shape: tuple[int, ...]
    start: int
    size: int


@dataclass(frozen=True)
class GGUFHeader:
    """What a GGUF file begins with.

    Attributes:
        fields: values by key; arrays of numbers are numpy arrays, arrays of texts are lists of bytes.
        tensors: by name; all of them lie within the file, and their bytes together are no more than the file's.
    """

    fields: dict[str, Any]
    tensors: dict[str, Placed]

    def text(self, key: str) -> str:
        """The text under a key; empty where there is none."""
        value = self.fields.get(key)
        return value if isinstance(value, str) else ""


def read_gguf_header(path: str, *, input: str) -> GGUFHeader:
    """The header of a GGUF file, checked against the file.

    Raises:
        OviError: the library that knows GGUF's types is not installed.
        ValueError, UnicodeDecodeError: the header is damaged, or the file is shorter than it says.
    """
    library = require_library(input)
    with open(path, "rb") as file:
        size = Path(path).stat().st_size
        reader = _Reader(file, size)
        if reader.take(4) != MARK:
            raise ValueError("no GGUF file")
        version = reader.number("<I")
        if version & 0xFFFF == 0:
            raise ValueError("a GGUF file for computers of the other byte order")
        if version not in VERSIONS:
            raise ValueError(f"GGUF of version {version}, where {' and '.join(map(str, VERSIONS))} can be read")
        tensors, fields = reader.count(MOST_TENSORS, "tensors"), reader.count(MOST_FIELDS, "fields")
        values = dict(reader.field() for _ in range(fields))
        alignment = values.get("general.alignment", library.GGUF_DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20 or alignment & (alignment - 1):
            raise ValueError(f"its alignment is {alignment!r:.40}, no power of two")
        listed = [reader.tensor() for _ in range(tensors)]
        start = file.tell() + -file.tell() % alignment
    return GGUFHeader(values, _placed(listed, start, size, library))


def _placed(listed: list[tuple[str, tuple[int, ...], int, int]], start: int, size: int, library: Any) -> dict:
    placed: dict[str, Placed] = {}
    total = 0
    for name, shape, kind, offset in listed:
        type = library.GGMLQuantizationType(kind)
        values, stored = library.GGML_QUANT_SIZES[type]
        if (shape[-1] if shape else 1) % values:
            raise ValueError(f"rows of its '{name}' are no whole blocks")
        length = math.prod(shape) // values * stored
        if start + offset + length > size:
            raise ValueError(f"cut short: {size:,} of {start + offset + length:,} bytes or more are there")
        if name in placed:
            raise ValueError(f"two of its tensors are named '{name}'")
        total += length
        placed[name] = Placed(type.name, shape, start + offset, length)
    if total > size:
        raise ValueError(f"its tensors claim {total:,} bytes in a file of {size:,}")
    return placed


class _Reader:
    """Reads pieces of a header one after another; raises ValueError where a piece would reach past the limit."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size
        self.left, self.texts = min(size, LONGEST), MOST_TEXTS

    def take(self, length: int) -> bytes:
        if length > self.left:
            what = "cut short in its header" if self.size <= LONGEST else f"its header is longer than {LONGEST:,} bytes"
            raise ValueError(what)
        self.left -= length
        return self.file.read(length)

    def number(self, kind: str) -> int:
        return struct.unpack(kind, self.take(struct.calcsize(kind)))[0]

    def count(self, most: int, what: str) -> int:
        found = self.number("<Q")
        if found > most:
            raise ValueError(f"it claims {found:,} {what}, where {most:,} are the limit")
        return found

    def text(self, most: int = LONGEST) -> bytes:
        return self.take(self.count(most, "bytes of a text"))

    def field(self) -> tuple[str, Any]:
        key = self.text(LONGEST_NAME).decode()
        kind = self.number("<I")
        if kind == STRING:
            return key, self.text().decode()
        if kind != ARRAY:
            return key, self._values(kind, 1)[0].item()
        kind = self.number("<I")
        if kind == STRING:
            count = self.count(min(self.texts, self.left // 8), "texts")
            self.texts -= count
            return key, [self.text() for _ in range(count)]
        return key, self._values(kind, self.count(LONGEST, "values"))

    def _values(self, kind: int, count: int) -> np.ndarray:
        if kind not in SCALARS:
            raise ValueError(f"a field of the type {kind}, which is not known here")
        return np.frombuffer(self.take(count * SCALARS[kind].itemsize), SCALARS[kind])

    def tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        """Name, shape in torch's order, number of the type, and offset from the first tensor's place."""
        name = self.text(LONGEST_NAME).decode()
        axes = self.number("<I")
        if axes > MOST_AXES:
            raise ValueError(f"its '{name}' has {axes} axes")
        shape = tuple(self.number("<Q") for _ in range(axes))
        return name, shape[::-1], self.number("<I"), self.number("<Q")


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
