"""The tokenizer that a GGUF file of UMT5 has in its header, as the sentencepiece model it was made from.

GGUF lists a tokenizer's pieces with their scores and kinds, and some settings of its normaliser (``tokenizer.ggml.*``);
the model of type ``t5`` is sentencepiece's unigram model. That is all that encoding needs. Here it is written as
sentencepiece's own file, a protocol buffer (``sentencepiece_model.proto``), byte by byte: ComfyUI does not bring the
library for those.
"""

from __future__ import annotations

import struct
from typing import Any

import torch

from .gguf_reader import require_library

KEY = "tokenizer.ggml."
UNIGRAM = 1
NORMAL = 1
"""GGUF's kinds of pieces have sentencepiece's numbers."""
BYTE = 6

VARINT, BYTES, FLOAT = 0, 2, 5
"""Wire types of protocol buffers."""


def read_tokenizer(path: str, *, input: str) -> torch.Tensor | None:
    """The sentencepiece model in a GGUF file's header as uint8; None where there is none, or one of another type."""
    header = require_library(input).GGUFReader(path)

    def told(name: str, otherwise: Any = None) -> Any:
        field = header.get_field(KEY + name)
        return field.contents() if field else otherwise

    pieces = told("tokens")
    if told("model") != "t5" or not pieces:
        return None
    scores = told("scores", [0.0] * len(pieces))
    kinds = told("token_type", [NORMAL] * len(pieces))
    model = b"".join(_piece(*piece) for piece in zip(pieces, scores, kinds, strict=True))
    model += _message(2, _number(3, UNIGRAM) + _number(4, len(pieces)) + _number(35, BYTE in kinds))
    charsmap = bytes(value & 255 for value in told("precompiled_charsmap", ()))
    spaces = _number(3, told("add_space_prefix", True)) + _number(4, told("remove_extra_whitespaces", True))
    model += _message(3, (_message(2, charsmap) if charsmap else b"") + spaces)
    return torch.frombuffer(bytearray(model), dtype=torch.uint8)


def _piece(text: str, score: float, kind: int) -> bytes:
    """One of the ``pieces`` of a ModelProto."""
    return _message(1, _message(1, text.encode()) + _tag(2, FLOAT) + struct.pack("<f", score) + _number(3, kind))


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
