"""Weights on their way to the card: ComfyUI's queue, which copies those of a block pair ahead of its work.

Where ComfyUI pages weights in, each layer asks for its own when it runs, and the card waits for them. The queue asks
for those of a whole block pair at once, on a stream of its own, while the card still works on the pair before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import nn

from .comfyui import prefetch_next, prefetch_queue


class WeightPrefetch:
    """The block pairs of one forward in the order of their work; does nothing where ComfyUI pages nothing in.

    Args:
        layers: of each block pair, those whose weights it reads.
        device: where they are needed.
        options: ComfyUI's transformer options.
    """

    @torch.compiler.disable
    def __init__(self, layers: Iterable[Iterable[nn.Module]], device: torch.device, options: dict):
        self.device = device
        # one module for each pair, as ComfyUI wants them; the layers stay where they are
        self._queue = prefetch_queue(lambda: [nn.ModuleList(some) for some in layers], device, options)

    def advance(self) -> None:
        """Let go of the last pair and fetch the next: before each pair, also one that is skipped, and after all."""
        if self._queue is not None:
            self._pop(self._queue)

    @torch.compiler.disable
    def _pop(self, queue: list) -> None:
        prefetch_next(queue, self.device)


def leaves(module: nn.Module, without: Iterable[nn.Module] = ()) -> Iterator[nn.Module]:
    """The layers of ``module`` that consist of no others."""
    left_out = set(without)
    return (layer for layer in module.modules() if layer not in left_out and next(layer.children(), None) is None)
