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

from . import data_parallel

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
                self._adam(weights, group)

    def _orthogonal(self, weights: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        """The updates of matrices and filters; of several processes each finds its share of them."""
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
        gradients = [weight.grad for weight in weights]
        means = [self.state[weight]["momentum"] for weight in weights]
        torch._foreach_lerp_(means, gradients, 1 - group["momentum"])
        updates = torch._foreach_lerp(gradients, means, group["momentum"])  # Nesterov's
        process, processes = data_parallel.share()
        alike: dict[torch.Size, list[Tensor]] = {}
        for i, update in enumerate(updates):
            if i % processes == process:
                alike.setdefault(update.shape, []).append(update)
            else:
                update.zero_()
        for shape, same in alike.items():  # matrices of one shape as one batch: a card would idle between small ones
            rows, columns = shape[0], shape[1:].numel()
            made = orthogonalised(torch.stack(same).flatten(2)) * max(1.0, rows / columns) ** 0.5
            torch._foreach_copy_(same, list(made.view(-1, *shape)))
        data_parallel.add(updates)
        return updates

    def _adam(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        first, second = group["betas"]
        for weight in weights:
            if not self.state[weight]:
                zeros = {name: torch.zeros_like(weight) for name in ("mean", "square")}
                self.state[weight] |= {"step": 0, **zeros}
            self.state[weight]["step"] += 1
        gradients, states = [weight.grad for weight in weights], [self.state[weight] for weight in weights]
        means, squares = ([state[name] for state in states] for name in ("mean", "square"))
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - second)
        scales = torch._foreach_sqrt(squares)
        torch._foreach_div_(scales, [(1 - second ** state["step"]) ** 0.5 for state in states])
        torch._foreach_add_(scales, group["eps"])
        rates = [-group["lr"] / (1 - first ** state["step"]) for state in states]
        torch._foreach_addcdiv_(weights, means, scales, rates)


def orthogonalised(matrices: Tensor) -> Tensor:
    """Matrices [N, rows, columns] with all singular values near 1, by Newton and Schulz's iteration."""
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x.bfloat16() if x.is_cuda else x.float()  # of 16 bits a CPU makes a slow detour
    x = x / (torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ROUNDS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


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
