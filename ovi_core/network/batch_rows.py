"""Rows of a batch in which several conditionings run together: each has an equal share, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def pick(x: Tensor, wanted: Sequence[int], of: int) -> Tensor:
    """The rows of the ``wanted`` conditionings, ``of`` of which make up the batch x [B, ...]; x itself if all are."""
    if len(wanted) == of:
        return x
    chunks = x.chunk(of)
    return chunks[wanted[0]] if len(wanted) == 1 else torch.cat([chunks[i] for i in wanted])


def put(old: Tensor, new: Tensor, at: Sequence[int], of: int) -> Tensor:
    """``old`` with the rows of the conditionings ``at`` replaced by those of ``new``; ``new`` itself if all are."""
    if len(at) == of:
        return new
    chunks = list(old.chunk(of))
    for i, chunk in zip(at, new.chunk(len(at)), strict=True):
        chunks[i] = chunk
    return torch.cat(chunks)
