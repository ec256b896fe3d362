"""On a card a step's loss and gradients as one CUDA graph: a small network is done sooner than Python can ask it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Figures = dict[str, Tensor]
PLAIN = 3  # steps of each shape that run as usual before one is recorded: they compile, and fill what is kept


class Graphed:
    """Runs ``errors`` and its gradients, and from the fourth time that inputs have the same shapes replays them.

    Args:
        errors: from tensors on the card to the loss and figures for the log; it may wait for nothing but the card.
        module: holds every weight that learns.
    """

    def __init__(self, errors: Callable[..., tuple[Tensor, Figures]], module: nn.Module):
        self.errors, self.weights = errors, list(module.parameters())
        self._seen: dict[tuple[torch.Size, ...], int] = {}
        self._recorded: dict[tuple[torch.Size, ...], _Recording] = {}
        self._stream = torch.cuda.Stream()

    def __call__(self, inputs: tuple[Tensor, ...]) -> Figures:
        """The figures, ``loss`` among them; leaves the gradients in the weights."""
        shapes = tuple(part.shape for part in inputs)
        if shapes in self._recorded:
            return self._recorded[shapes].replay(inputs, self.weights)
        self._seen[shapes] = self._seen.get(shapes, 0) + 1
        if self._seen[shapes] > PLAIN:
            self._recorded[shapes] = _Recording(self._gradients, inputs, self.weights)
            return self._recorded[shapes].replay(inputs, self.weights)
        self._stream.wait_stream(torch.cuda.current_stream())  # autograd is to know the weights from another stream
        with torch.cuda.stream(self._stream):
            figures = self._gradients(inputs)
        torch.cuda.current_stream().wait_stream(self._stream)
        return figures

    def _gradients(self, inputs: tuple[Tensor, ...]) -> Figures:
        for weight in self.weights:
            weight.grad = None
        loss, figures = self.errors(*inputs)
        loss.backward()
        return {"loss": loss.detach(), **{name: value.detach() for name, value in figures.items()}}


class _Recording:
    def __init__(
        self, run: Callable[[tuple[Tensor, ...]], Figures], inputs: tuple[Tensor, ...], weights: list[nn.Parameter]
    ):
        self.inputs = tuple(part.clone() for part in inputs)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.figures = run(self.inputs)
        self.gradients = [weight.grad for weight in weights]

    def replay(self, inputs: tuple[Tensor, ...], weights: list[nn.Parameter]) -> Figures:
        torch._foreach_copy_(list(self.inputs), list(inputs))
        self.graph.replay()
        for weight, gradient in zip(weights, self.gradients, strict=True):
            weight.grad = gradient
        return {name: value.clone() for name, value in self.figures.items()}  # the next step writes over them
