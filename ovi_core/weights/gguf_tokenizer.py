"""The tokenizer in the header of a GGUF file of UMT5, as the sentencepiece model it was made from.

GGUF lists a tokenizer's pieces with their scores and kinds, and some settings of its normaliser (``tokenizer.ggml.*``);
the model of type ``t5`` is sentencepiece's unigram model. That is all that encoding needs. It is written here as
sentencepiece's own file, a protocol buffer (``sentencepiece_model.proto``), byte by byte: ComfyUI brings sentencepiece,
but not the library for protocol buffers that its Python description of that file needs.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import torch

from .gguf_header import GGUFHeader

KEY = "tokenizer.ggml."
UNIGRAM = 1
NORMAL = 1
"""GGUF's kinds of pieces have sentencepiece's numbers."""
BYTE = 6
KINDS = range(NORMAL, BYTE + 1)

VARINT, BYTES, FLOAT = 0, 2, 5
"""Wire types of protocol buffers."""


def read_tokenizer(header: GGUFHeader) -> torch.Tensor | None:
    """The sentencepiece model in a GGUF file's header as uint8; None where there is none, or one of another type.

    Raises:
        ValueError: its tables do not fit each other.
    """
    pieces = header.fields.get(KEY + "tokens")
    if header.text(KEY + "model") != "t5" or not isinstance(pieces, list) or not pieces:
        return None
    scores = _numbers(header, "scores", len(pieces), 0.0)
    kinds = _numbers(header, "token_type", len(pieces), NORMAL)
    if not np.isfinite(scores.astype(np.float32)).all() or not set(kinds.tolist()) <= set(KINDS):
        raise ValueError("a tokenizer with a score that is no number, or with a piece of an unknown kind")
    model = b"".join(map(_piece, pieces, scores.tolist(), kinds.tolist()))
    model += _message(2, _number(3, UNIGRAM) + _number(4, len(pieces)) + _number(35, BYTE in kinds))
    charsmap = header.fields.get(KEY + "precompiled_charsmap", np.zeros(0, np.uint8))
    if not isinstance(charsmap, np.ndarray) or charsmap.dtype.itemsize != 1:
        raise ValueError("a tokenizer whose table of characters is no bytes")
    spaces = _number(3, _switch(header, "add_space_prefix")) + _number(4, _switch(header, "remove_extra_whitespaces"))
    model += _message(3, (_message(2, charsmap.tobytes()) if charsmap.size else b"") + spaces)
    return torch.frombuffer(bytearray(model), dtype=torch.uint8)


def _numbers(header: GGUFHeader, name: str, count: int, otherwise: float) -> np.ndarray:
    """A table with a number for each piece."""
    found = header.fields.get(KEY + name)
    if found is None:
        return np.full(count, otherwise)
    if not isinstance(found, np.ndarray) or len(found) != count:
        raise ValueError(f"a tokenizer of {count} pieces without as many numbers as its {name}")
    return found


def _switch(header: GGUFHeader, name: str) -> bool:
    found: Any = header.fields.get(KEY + name, True)
    if not isinstance(found, int):
        raise ValueError(f"a tokenizer whose {name} is neither on nor off")
    return bool(found)


def _piece(text: bytes, score: float, kind: float) -> bytes:
    """One of the ``pieces`` of a ModelProto."""
    text.decode()  # sentencepiece takes nothing else
    return _message(1, _message(1, text) + _tag(2, FLOAT) + struct.pack("<f", score) + _number(3, int(kind)))


def _message(field: int, content: bytes) -> bytes:
    return _tag(field, BYTES) + _varint(len(content)) + content


def _number(field: int, value: int) -> bytes:
    return _tag(field, VARINT) + _varint(int(value))


def _tag(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


def _varint(value: int) -> bytes:
    """A number in groups of seven bits, the lowest first, each but the last with the eighth bit set."""
    groups = []
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])
