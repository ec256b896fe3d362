"""A recorded step: what it leaves is what the step itself leaves, for each shape of its inputs.

There is no card here, so a recording is played by running the step again into the very tensors that it had filled.
"""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from tools.mini.training import cuda_graphs


class PretendedGraph:
    """Stands for ``torch.cuda.CUDAGraph``; ``owner`` is what recorded it."""

    owner: cuda_graphs.Graphed
    played = 0

    def replay(self) -> None:
        type(self).played += 1
        (recording,) = (one for one in self.owner._recorded.values() if one.graph is self)
        figures = self.owner._gradients(recording.inputs)
        for gradient, weight in zip(recording.gradients, self.owner.weights, strict=True):
            gradient.copy_(weight.grad)
        for name, value in recording.figures.items():
            value.copy_(figures[name])


@pytest.fixture(autouse=True)
def pretended_card(monkeypatch) -> None:
    stream = SimpleNamespace(wait_stream=lambda other: None)
    pretended = {
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": lambda chosen: nullcontext(),
        "graph": lambda graph, capture_error_mode: nullcontext(),
        "CUDAGraph": PretendedGraph,
    }
    for name, value in pretended.items():
        monkeypatch.setattr(torch.cuda, name, value)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def batches() -> list[tuple[Tensor, Tensor]]:
    source = torch.Generator().manual_seed(1)
    sizes = [4, 4, 7, 4, 4, 7, 7, 4, 7, 7, 4]
    return [(torch.randn(n, 6, generator=source), torch.randn(n, 3, generator=source)) for n in sizes]


def test_a_recorded_step_learns_what_a_plain_one_does():
    own, plain = network(), network()

    def errors(x: Tensor, wanted: Tensor, module: nn.Module = own) -> tuple[Tensor, dict[str, Tensor]]:
        error = (module(x) - wanted).square().mean()
        return 2 * error, {"error": error}

    graphed = PretendedGraph.owner = cuda_graphs.Graphed(errors, own)
    optimizers = [torch.optim.SGD(module.parameters(), lr=0.1) for module in (own, plain)]
    figures, wanted = [], []
    for batch in batches():
        figures.append(graphed(batch))
        loss, rest = errors(*batch, module=plain)
        plain.zero_grad()
        loss.backward()
        wanted.append({"loss": loss.detach(), "error": rest["error"].detach()})
        for optimizer in optimizers:
            optimizer.step()
    assert PretendedGraph.played == 5  # of six and five steps all but the first three of each shape
    assert len(graphed._recorded) == 2
    for one, other in zip(figures, wanted, strict=True):  # read at the end: none was written over
        torch.testing.assert_close(one, other)
    for one, other in zip(own.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other)
