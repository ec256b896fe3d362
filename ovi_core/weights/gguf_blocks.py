"""GGML's block formats, from their bytes to float32.

A format packs so many values of a row into one block of bytes: small integers and the scales they are multiplied by.
Letters: d a block's scale and m its offset, both float16 in the bytes; n blocks, V values and B bytes per block. The
layouts are those of ``ggml-common.h``; the results are bit for bit those of the ``gguf`` library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class BlockFormat:
    """How a type packs values: ``values`` of a row in ``size`` bytes, read by ``unpack``: [n, B] uint8 to [n, V]."""

    values: int
    size: int
    unpack: Callable[[Tensor], Tensor]

    def bytes_per_row(self, values: int) -> int:
        """Bytes of a row of so many values, a whole number of blocks."""
        return values // self.values * self.size


def dequantize(rows: Tensor, format: str) -> Tensor:
    """Packed rows [..., bytes per row] uint8 as float32 [..., values per row]."""
    block = FORMATS[format]
    values = block.unpack(rows.reshape(-1, block.size))
    return values.reshape(*rows.shape[:-1], rows.shape[-1] // block.size * block.values)


def _half(block: Tensor, start: int) -> Tensor:
    """The float16 at byte ``start`` of each block as float32 [n, 1]."""
    return block[:, start : start + 2].contiguous().view(torch.float16).float()


def _nibbles(packed: Tensor) -> Tensor:
    """Low nibbles, then high nibbles, of the last axis: [..., k] bytes to [..., 2 k]."""
    return torch.cat((packed & 15, packed >> 4), dim=-1)


def _bits(packed: Tensor, width: int) -> Tensor:
    """Every field of ``width`` bits of the last axis, lowest first: [..., k] bytes to [..., 8 / width, k]."""
    shifts = torch.arange(0, 8, width, dtype=torch.uint8, device=packed.device)
    return packed.unsqueeze(-2) >> shifts[:, None] & (1 << width) - 1


def _fifth_bits(packed: Tensor) -> Tensor:
    """The fifth bit of 32 values, [n, 4] bytes to [n, 32], in its place."""
    shifts = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return (packed.unsqueeze(-1) >> shifts & 1).flatten(-2) << 4


def _signed(values: Tensor, zero: int) -> Tensor:
    return values.to(torch.int8) - zero


def _q4_0(block: Tensor) -> Tensor:
    return _half(block, 0) * _signed(_nibbles(block[:, 2:]), 8).float()


def _q4_1(block: Tensor) -> Tensor:
    return _half(block, 0) * _nibbles(block[:, 4:]).float() + _half(block, 2)


def _q5_0(block: Tensor) -> Tensor:
    return _half(block, 0) * _signed(_nibbles(block[:, 6:]) | _fifth_bits(block[:, 2:6]), 16).float()


def _q5_1(block: Tensor) -> Tensor:
    return _half(block, 0) * (_nibbles(block[:, 8:]) | _fifth_bits(block[:, 4:8])).float() + _half(block, 2)


def _q8_0(block: Tensor) -> Tensor:
    return block[:, 2:].view(torch.int8).float() * _half(block, 0)


def _scaled_groups(scales: Tensor, groups: Tensor, offsets: Tensor | None = None) -> Tensor:
    """Integers [n, groups, k] times the scale of their group [n, groups], less its offset; [n, V]."""
    values = scales.unsqueeze(-1) * groups.float()
    return (values if offsets is None else values - offsets.unsqueeze(-1)).flatten(1)


def _q2_k(block: Tensor) -> Tensor:
    scales, quants = block[:, :16], block[:, 16:80]
    groups = _bits(quants.reshape(-1, 2, 32), 2).reshape(-1, 16, 16)
    return _scaled_groups(
        _half(block, 80) * (scales & 15).float(), groups, _half(block, 82) * (scales >> 4).float()
    )  # fmt: skip


def _q3_k(block: Tensor) -> Tensor:
    low = _bits(block[:, 32:96].reshape(-1, 2, 32), 2).reshape(-1, 8, 32)
    lowered = (_bits(block[:, :32], 1) ^ 1) << 2  # a missing third bit takes four away
    packed = block[:, 96:108]
    high = _bits(packed[:, 8:], 2).flatten(1) << 4
    scales = _signed(_nibbles(packed[:, :8]) | high, 32)
    groups = (low.to(torch.int8) - lowered.to(torch.int8)).reshape(-1, 16, 16)
    return _scaled_groups(_half(block, 108) * scales.float(), groups)


def _six_bit_scales(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Scales and offsets of eight groups from 12 bytes: [n, 8] each, 0..63."""
    first, second, rest = packed.reshape(-1, 3, 4).unbind(1)
    scales = torch.cat((first & 63, (rest & 15) | (first >> 6 << 4)), dim=-1)
    offsets = torch.cat((second & 63, (rest >> 4) | (second >> 6 << 4)), dim=-1)
    return scales.float(), offsets.float()


def _with_six_bit_scales(block: Tensor, groups: Tensor) -> Tensor:
    scales, offsets = _six_bit_scales(block[:, 4:16])
    return _scaled_groups(_half(block, 0) * scales, groups, _half(block, 2) * offsets)


def _q4_k(block: Tensor) -> Tensor:
    return _with_six_bit_scales(block, _nibbles(block[:, 16:].reshape(-1, 4, 32)).reshape(-1, 8, 32))


def _q5_k(block: Tensor) -> Tensor:
    fifth = _bits(block[:, 16:48], 1) << 4
    return _with_six_bit_scales(block, _nibbles(block[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, 32) | fifth)


def _q6_k(block: Tensor) -> Tensor:
    low = _nibbles(block[:, :128].reshape(-1, 2, 64)).reshape(-1, 8, 32)
    high = _bits(block[:, 128:192].reshape(-1, 2, 32), 2).reshape(-1, 8, 32) << 4
    scales = _half(block, 208) * block[:, 192:208].view(torch.int8).float()
    return _scaled_groups(scales, _signed(low | high, 32).reshape(-1, 16, 16))


def _iq4_levels(packed: Tensor) -> Tensor:
    return torch.tensor(IQ4_LEVELS, dtype=torch.float32, device=packed.device)[_nibbles(packed).long()]


def _iq4_nl(block: Tensor) -> Tensor:
    return _half(block, 0) * _iq4_levels(block[:, 2:])


def _iq4_xs(block: Tensor) -> Tensor:
    high = _bits(block[:, 2:4], 2).transpose(1, 2).flatten(1) << 4
    low = torch.stack((block[:, 4:8] & 15, block[:, 4:8] >> 4), dim=-1).flatten(1)
    scales = _half(block, 0) * _signed(low | high, 32).float()
    return _scaled_groups(scales, _iq4_levels(block[:, 8:].reshape(-1, 8, 16)))


IQ4_LEVELS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
FORMATS = {
    "Q4_0": BlockFormat(32, 18, _q4_0),
    "Q4_1": BlockFormat(32, 20, _q4_1),
    "Q5_0": BlockFormat(32, 22, _q5_0),
    "Q5_1": BlockFormat(32, 24, _q5_1),
    "Q8_0": BlockFormat(32, 34, _q8_0),
    "Q2_K": BlockFormat(256, 84, _q2_k),
    "Q3_K": BlockFormat(256, 110, _q3_k),
    "Q4_K": BlockFormat(256, 144, _q4_k),
    "Q5_K": BlockFormat(256, 176, _q5_k),
    "Q6_K": BlockFormat(256, 210, _q6_k),
    "IQ4_NL": BlockFormat(32, 18, _iq4_nl),
    "IQ4_XS": BlockFormat(256, 136, _iq4_xs),
}
"""What can be read, by GGML's name of the type."""
