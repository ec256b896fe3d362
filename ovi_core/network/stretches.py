"""Parts of an axis by slices. A list of numbers as an index would be copied to the device, which waits for that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def taken(x: Tensor, wanted: Sequence[int], dim: int) -> Tensor:
    """``x`` with the places ``wanted`` of its axis ``dim``, in that order; a view where they follow one another."""
    parts = [x.narrow(dim, start, length) for _, start, length in stretches(range(len(wanted)), wanted)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=dim)


def stretches(to: Sequence[int], of: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """First places and length of what goes from the places ``of`` to the places ``to`` in one piece."""
    begin = 0
    for i in range(1, len(to) + 1):
        if i == len(to) or to[i] != to[i - 1] + 1 or of[i] != of[i - 1] + 1:
            yield to[begin], of[begin], i - begin
            begin = i
