"""Changes to bytes and text that find faults of parsers: flips, cuts, repeats, numbers at limits, tokens of formats."""

from __future__ import annotations

import json
import struct
from random import Random
from typing import Any

NUMBERS = (0, 1, -1, 2, 7, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**60, 2**63 - 1)
TOKENS = (
    b"null", b"true", b'""', b"{}", b"[]", b"[[[[", b"{{{{", b"-1", b"1e999", b"NaN", b"Infinity", b"\x00", b"\xff",
    b"\n", b"\r\n", b"\xef\xbb\xbf", b"\xe2\x80\x8b", b"\xed\xa0\x80", b"../", b"..\\", b"/dev/zero", b"con", b"%s",
    b"9" * 400, b"dtype", b"shape", b"data_offsets", b"__metadata__", b"PK\x03\x04", b"GGUF",
)  # fmt: skip
CHARACTERS = (
    "\x00\t\n\r\u00a0\u200b\u2028\ufeff\uff1a\uff1c\u0661\u00b2\u0130\U0001f600\ud800<>:,;-.+*/\\\"'()[]{}%#=|&~^"
)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 2**31, 2**63, 2**70, 1.5, -0.0, 1e300, float("inf"), float("nan"),
    "", "a", "0", "-1", "F16", "F32", "BF16", "U8", "\ud800", "x" * 3000, [], [0], [-1], [2**40, 2**40], [0, 0],
    [[]], [None], ["a"], {}, {"a": {}}, {"dtype": "F32"}, [1] * 70,
)  # fmt: skip


def mutated(random: Random, data: bytes, most: int = 8) -> bytes:
    """``data`` with one to ``most`` random changes."""
    out = bytearray(data)
    for _ in range(random.randint(1, random.choice((1, 2, most)))):
        at, length = random.randrange(len(out) + 1), random.choice((1, 1, 2, 4, 8, 16, 64))
        kind = random.randrange(8)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << random.randrange(8)
        elif kind == 1 and at < len(out):
            out[at] = random.choice((0, 255, 127, 128, random.randrange(256)))
        elif kind == 2:
            del out[at : at + length]
        elif kind == 3:
            out[at:at] = out[max(0, at - length) : at] * random.choice((1, 2, 50))
        elif kind == 4:
            packed = struct.pack("<q" if random.random() < 0.5 else "<Q", random.choice(NUMBERS) & (2**63 - 1))
            packed = packed[: random.choice((1, 2, 4, 8))]
            out[at : at + len(packed)] = packed
        elif kind == 5:
            out[at:at] = random.choice(TOKENS)
        elif kind == 6:
            del out[at:]
        else:
            other = random.randrange(len(out) + 1)
            out[at : at + length] = out[other : other + length]
    return bytes(out)


def mutated_text(random: Random, text: str, words: tuple[str, ...] = (), most: int = 8) -> str:
    """``text`` with one to ``most`` random changes; ``words`` are put in whole."""
    for _ in range(random.randint(1, most)):
        at, length = random.randrange(len(text) + 1), random.choice((1, 1, 2, 5, 20))
        kind = random.randrange(6)
        if kind == 0:
            text = text[:at] + text[at + length :]
        elif kind == 1:
            text = text[:at] + random.choice(CHARACTERS) * _times(random, 2000) + text[at:]
        elif kind == 2 and words:
            text = text[:at] + random.choice(words) + text[at:]
        elif kind == 3:
            text = text[:at] + text[max(0, at - length) : at] * _times(random, 300) + text[at:]
        elif kind == 4:
            text = text[:at] + str(random.choice(NUMBERS)) + text[at:]
        else:
            numbers = ("1e999", "nan", "-0", "9" * _times(random, 5000), ".5", "1.", "٣", "²")
            text = text[:at] + random.choice(numbers) + text[at:]
    return text


def _times(random: Random, most: int) -> int:
    """Mostly few: what is only long costs time in which nothing else is tried."""
    return most if random.random() < 0.02 else random.choice((1, 1, 2, 3))


def mutated_json(random: Random, value: Any) -> Any:
    """A copy of a JSON value in which some part is replaced, dropped, doubled or renamed."""
    if random.random() < 0.15 or not isinstance(value, (dict, list)) or not value:
        return random.choice(VALUES)
    if isinstance(value, list):
        at = random.randrange(len(value))
        changed = [mutated_json(random, value[at])] if random.random() < 0.7 else random.choice(([], [value[at]] * 2))
        return [*value[:at], *changed, *value[at + 1 :]]
    key = random.choice(list(value))
    out = dict(value)
    part = out.pop(key)
    if random.random() < 0.8:
        name = key if random.random() < 0.8 else random.choice(("", key + ".x", key.rpartition(".")[0], "\ud800", "0"))
        out[name] = mutated_json(random, part)
    return out


def as_json(value: Any) -> bytes:
    """JSON as Python writes it, lone surrogates and numbers that are none included."""
    return json.dumps(value).encode("utf-8", "surrogatepass")
