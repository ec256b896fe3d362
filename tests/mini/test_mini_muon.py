"""Muon: PyTorch's own on matrices, filters as matrices, Adam for the rest."""

from __future__ import annotations

import torch
from torch import nn

from tools.mini.training.muon import Muon, groups_of, orthogonalised


def optimizer(module: nn.Module, rate: float, decay: float = 0.0) -> Muon:
    made = Muon(groups_of(module, decay, vector_scale=0.5))
    made.set_rate(rate)
    return made


def learn(module: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, steps: int = 4) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        module(x).square().mean().backward()
        optimizer.step()


def test_a_matrix_learns_as_with_pytorchs_muon() -> None:
    torch.manual_seed(0)
    for shape in ((24, 8), (8, 24), (16, 16)):
        own, theirs = (nn.Linear(shape[1], shape[0], bias=False) for _ in range(2))
        theirs.load_state_dict(own.state_dict())
        x = torch.randn(64, shape[1])  # fewer leave directions without gradient, where rounding decides
        learn(own, optimizer(own, 0.02, decay=0.1), x)
        learn(theirs, torch.optim.Muon(theirs.parameters(), lr=0.02, weight_decay=0.1, momentum=0.95), x)
        torch.testing.assert_close(own.weight, theirs.weight, rtol=0, atol=2e-3)  # of changes by 0.02 a step


def test_vectors_and_tables_learn_as_with_pytorchs_adam() -> None:
    torch.manual_seed(0)
    own, theirs = nn.LayerNorm(12), nn.LayerNorm(12)
    x = torch.randn(5, 12) + 1
    learn(own, optimizer(own, 0.02), x)
    learn(theirs, torch.optim.Adam(theirs.parameters(), lr=0.01, betas=(0.9, 0.99)), x)
    torch.testing.assert_close(own.weight, theirs.weight)
    torch.testing.assert_close(own.bias, theirs.bias)
    table = nn.ModuleDict({"shared": nn.Embedding(7, 4), "matrix": nn.Linear(4, 4)})
    orthogonal, rest = groups_of(table, 0.0, 1.0)
    assert orthogonal["params"] == [table["matrix"].weight]
    assert len(rest["params"]) == 2


def test_every_direction_of_an_update_is_equally_long() -> None:
    matrix = torch.randn(20, 50, generator=torch.Generator().manual_seed(1)) @ torch.diag(torch.logspace(0, -4, 50))
    lengths = torch.linalg.svdvals(orthogonalised(matrix[None])[0])
    assert torch.linalg.svdvals(matrix).max() / torch.linalg.svdvals(matrix).min() > 20
    assert lengths.min() > 0.5
    assert lengths.max() < 1.4


def test_a_filter_is_a_matrix_of_outputs_by_everything_else() -> None:
    torch.manual_seed(0)
    filters = nn.Conv3d(4, 6, (3, 1, 1))
    flat = nn.Linear(12, 6)
    flat.load_state_dict({"weight": filters.weight.detach().flatten(1), "bias": filters.bias.detach()})
    x = torch.randn(5, 4, 3, 1, 1)
    learn(filters, optimizer(filters, 0.05), x)
    learn(flat, optimizer(flat, 0.05), x.flatten(1))
    torch.testing.assert_close(filters.weight.flatten(1), flat.weight)
