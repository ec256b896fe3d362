"""GGUF files: counts, fields of all types, tokenizers, offsets and types of tensors."""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random
from typing import Any

from .. import files
from ..mutate import NUMBERS, mutated

SUFFIX = ".gguf"
FORMATS = ("B", "b", "H", "h", "I", "i", "f", "?", "", "", "Q", "q", "d")  # of the types 0 to 12
STRING, ARRAY = 8, 9
NAMES = (
    "general.architecture", "general.alignment", "general.name", "ovi.variant", "tokenizer.ggml.tokens",
    "tokenizer.ggml.scores", "tokenizer.ggml.token_type", "tokenizer.ggml.model", "tokenizer.ggml.unknown_token_id",
    "tokenizer.ggml.add_space_prefix", "tokenizer.ggml.precompiled_charsmap", "comfy.gguf.orig_shape.a", "a",
)  # fmt: skip
TENSORS = (*files.KEYS, "enc.blk.0.attn_q.weight", "token_embd.weight", "enc.output_norm.weight", "blk.0.ffn_up.weight")


def make(random: Random) -> bytes:
    count = random.randrange(8)
    fields = b"".join(_field(random) for _ in range(count))
    if random.random() < 0.5:
        fields, count = fields + _tokenizer(random), count + 3
    tensors, size, listed = b"", 0, random.randrange(6)
    for _ in range(listed):
        entry, length = _tensor(random, size)
        tensors, size = tensors + entry, size + length
    head = b"GGUF" + struct.pack("<I", random.choice((3, 3, 3, 2, 1, 4, 3 << 24)))
    head += struct.pack("<QQ", _count(random, listed), _count(random, count))
    out = head + fields + tensors
    out += bytes(-len(out) % 32) + bytes(min(size, 1 << 16))
    return mutated(random, out) if random.random() < 0.3 else out


def _count(random: Random, right: int) -> int:
    return right if random.random() < 0.9 else random.choice(NUMBERS) % 2**64


def _text(random: Random, text: str) -> bytes:
    data = text.encode() if random.random() < 0.97 else random.choice((b"\xff\xfe", b"\x00", b"\xed\xa0\x80"))
    return struct.pack("<Q", _count(random, len(data))) + data


def _field(random: Random) -> bytes:
    kind = random.choice((0, 4, 5, 6, 7, 8, 8, 9, 9, 10, 12, 13))
    return _text(random, random.choice(NAMES)) + struct.pack("<I", kind) + _value(random, kind)


def _value(random: Random, kind: int, depth: int = 0) -> bytes:
    if kind == STRING:
        return _text(random, random.choice(("ovi", "t5", "wan", "▁", "", "x" * 300)))
    if kind == ARRAY:
        inner = random.choice((0, 5, 6, 8, 9 if depth < 3 else 0, 77))
        values = [_value(random, inner, depth + 1) for _ in range(random.randrange(6))]
        return struct.pack("<IQ", inner, _count(random, len(values))) + b"".join(values)
    format = FORMATS[kind] if kind < len(FORMATS) else "B"
    return struct.pack("<" + format, _number(random, format))


def _number(random: Random, format: str) -> Any:
    if format in "fd":
        return random.choice((0.0, -1.5, float("nan"), float("inf")))
    bits = 8 * struct.calcsize(format)
    value = random.choice((*NUMBERS, 32)) % 2**bits
    return bool(value) if format == "?" else value - 2**bits if format.islower() and value >= 2 ** (bits - 1) else value


def _tokenizer(random: Random) -> bytes:
    """Tokens, scores and types, of equal counts or not."""
    out, count = b"", random.randrange(1, 9)
    pieces = random.choices(("<pad>", "</s>", "<unk>", "▁a", "b", "<0x0A>", "", "b"), k=count)
    for name, kind, values in (
        ("tokenizer.ggml.tokens", STRING, [_text(random, piece) for piece in pieces]),
        ("tokenizer.ggml.scores", 6, [struct.pack("<f", _number(random, "f")) for _ in pieces]),
        ("tokenizer.ggml.token_type", 5, [struct.pack("<i", random.choice((1, 2, 3, 6, -1, 99))) for _ in pieces]),
    ):
        if random.random() < 0.2:
            values = values[:-1]
        out += _text(random, name) + struct.pack("<IIQ", ARRAY, kind, _count(random, len(values))) + b"".join(values)
    return out


def _tensor(random: Random, at: int) -> tuple[bytes, int]:
    sizes, length = [random.choice((1, 2, 32, 64, 256)) for _ in range(random.randrange(1, 4))], 4
    for size in sizes:
        length *= size
    axes = [size if random.random() < 0.95 else random.choice(NUMBERS) % 2**64 for size in sizes]
    kind = random.choice((0, 0, 1, 2, 8, 12, 14, 30, random.randrange(45)))
    offset = at if random.random() < 0.9 else random.choice(NUMBERS) % 2**64
    entry = _text(random, random.choice(TENSORS)) + struct.pack("<I", _count(random, len(axes)) % 2**32)
    return entry + struct.pack(f"<{len(axes)}QIQ", *axes, kind, offset), length + -length % 32


def run(data: bytes, folder: Path) -> None:
    path = folder / "weights.gguf"
    path.write_bytes(data)
    files.try_everything(path)
