"""Several processes train one network together: each learns from its share of every batch, all take the mean gradient.

On a processor this is faster than threads, which wait for each other in every small operation of a small network:
``python -m torch.distributed.run --nproc-per-node 2 -m tools.mini.stages twin``. A run is the same every time for the
same number of processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # now: its functions keep the group that there is when it is imported, for ever
from torch import Tensor, nn


@contextmanager
def joined() -> Iterator[None]:
    """While this lasts the other processes are met, where this one was started as one of several.

    A process that ends while it still has a group may abort: the group's threads let go of tensors, for which they
    need a Python that is no more.
    """
    several = dist.is_torchelastic_launched()
    if several:
        dist.init_process_group("gloo")
    try:
        yield
    finally:
        if several:
            dist.destroy_process_group()


def share() -> tuple[int, int]:
    """Which process this is and how many there are: (0, 1) where it is alone."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def add(tensors: list[Tensor]) -> None:
    """Give every tensor the sum of all processes."""
    if share()[1] == 1:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    parts = flat.split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_(tensors, [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)])


def agree(weights: Iterable[nn.Parameter], flag: bool) -> bool:
    """Give every gradient the mean of all processes; returns whether any of them raised its flag."""
    raised = torch.tensor([float(flag)])
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    add([*gradients, raised])
    torch._foreach_div_(gradients, share()[1])
    return bool(raised > 0)


def means(*values: float) -> list[float]:
    """Of each number the mean of all processes, the same in all of them."""
    held = torch.tensor(values, dtype=torch.float64)
    add([held])
    return (held / share()[1]).tolist()
