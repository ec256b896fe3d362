"""A graphics card that is not there: tensors with shapes, types and storages, but no memory, and what of it lives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DEVICE = "cuda"  # so that operations take the kernels they take on a card


class Living(TorchDispatchMode):
    """While active: ``peak``, most bytes of storages that lived at once after an operation, ``given`` aside."""

    def __init__(self, given: Iterable[Tensor]):
        super().__init__()
        self._given = {ref.cdata: ref for ref in map(_storage, given)}
        self._living: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and (ref := _storage(tensor)).cdata not in self._given:
                self._living.setdefault(ref.cdata, (ref, tensor.untyped_storage().nbytes()))
        self._living = {key: (ref, size) for key, (ref, size) in self._living.items() if not ref.expired()}
        self.peak = max(self.peak, sum(size for _, size in self._living.values()))
        return out


def _storage(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())


def flash_attention(function: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, **more: Any) -> Tensor:
    """The kernel that PyTorch takes on a card; without one it would take the one that keeps all scores."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    out = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)[0]
    return out.transpose(1, 2).flatten(2)
