"""The optimiser of all stages: Muon for matrices and filters, Adam for what is no map from one layer to the next.

Muon (Jordan et al. 2024) makes every update an orthogonal matrix, so that all directions of a layer learn at the same
pace. ``torch.optim.Muon`` takes matrices only; most of what is trained here are convolutions, which are seen as
matrices of [outputs, inputs x kernel].
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from . import together

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of Jordan et al.; five rounds bring singular values near 1
ROUNDS = 5
# Weights that Adam updates: tables of embeddings, offsets of the modulation, and the audio tower's patch embedding,
# whose wide filters would cost more to make orthogonal than all blocks together.
ADAM = re.compile(r"shared\.weight|relative_attention_bias|modulation|audio_model\.patch_embedding")


class Muon(torch.optim.Optimizer):
    """Orthogonal updates for groups with ``orthogonal=True``, Adam for the others.

    Every group has ``scale``: its share of the rate that :meth:`set_rate` gives to all.
    """

    def __init__(self, groups: list[dict[str, Any]], momentum: float = 0.95, betas: tuple[float, float] = (0.9, 0.99)):
        super().__init__(groups, {"lr": 0.0, "momentum": momentum, "betas": betas, "weight_decay": 0.0, "eps": 1e-8})

    def set_rate(self, rate: float) -> None:
        for group in self.param_groups:
            group["lr"] = rate * group["scale"]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One update of every weight that has a gradient."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            if group["weight_decay"]:
                torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            if group["orthogonal"]:
                torch._foreach_sub_(weights, self._orthogonal(weights, group), alpha=group["lr"])
            else:
                for weight in weights:
                    weight.sub_(self._adam(weight, group), alpha=group["lr"])

    def _orthogonal(self, weights: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        """The updates of matrices and filters; of several processes each finds its share of them."""
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
        gradients = [weight.grad for weight in weights]
        means = [self.state[weight]["momentum"] for weight in weights]
        torch._foreach_lerp_(means, gradients, 1 - group["momentum"])
        updates = torch._foreach_lerp(gradients, means, group["momentum"])  # Nesterov's
        process, processes = together.share()
        for i, update in enumerate(updates):
            if i % processes == process:
                rows, columns = update.shape[0], update[0].numel()
                update.copy_(orthogonalised(update.flatten(1)).view_as(update))
                update.mul_(max(1.0, rows / columns) ** 0.5)
            else:
                update.zero_()
        together.add(updates)
        return updates

    def _adam(self, weight: Tensor, group: dict[str, Any]) -> Tensor:
        state, (first, second) = self.state[weight], group["betas"]
        if not state:
            state |= {"step": 0, "mean": torch.zeros_like(weight), "square": torch.zeros_like(weight)}
        state["step"] += 1
        state["mean"].lerp_(weight.grad, 1 - first)
        state["square"].lerp_(weight.grad.square(), 1 - second)
        mean = state["mean"] / (1 - first ** state["step"])
        square = state["square"] / (1 - second ** state["step"])
        return mean / (square.sqrt() + group["eps"])


def orthogonalised(matrix: Tensor) -> Tensor:
    """The matrix with all singular values near 1, by Newton and Schulz's iteration."""
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(ROUNDS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)


def groups_of(module: nn.Module, weight_decay: float, vector_scale: float) -> list[dict[str, Any]]:
    """A module's weights as groups of :class:`Muon`; only matrices and filters decay."""
    matrices, rest = _split(module.named_parameters())
    return [
        {"params": matrices, "orthogonal": True, "weight_decay": weight_decay, "scale": 1.0},
        {"params": rest, "orthogonal": False, "weight_decay": 0.0, "scale": vector_scale},
    ]


def _split(weights: Iterable[tuple[str, nn.Parameter]]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, weight in weights:
        is_matrix = weight.ndim > 1 and min(weight.shape[0], weight[0].numel()) > 1 and not ADAM.search(name)
        (matrices if is_matrix else rest).append(weight)
    return matrices, rest
