"""The whole step, with one change after another: the attention kernel, fused norms, GELU in place, a compiled pair."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch.nn.functional import gelu
from torch.utils.flop_counter import FlopCounterMode

from ..cases import Case, Kernels, difference, gigabytes, measured
from .kernels import set_clip
from .size import Measure, Size, tflop_per_second

WAYS = ("as it was", "cuDNN", "+ fused norms", "+ GELU in place", "+ compiled pair")
"""Each with all changes up to it."""
ROUNDS = 2


def whole_step(size: Size) -> Iterator[tuple[str, Measure]]:
    """For each clip, what a step of both prompts takes in each way; the shorter clip more than once."""
    case = Case(size.model, next(iter(size.clips.values())), size.device, size.dtype)
    for i, (name, clip) in enumerate(size.clips.items()):
        steps = Steps(case, clip, ROUNDS if i == 0 else 1)
        for way in WAYS:
            yield f"{name}: {way}", partial(steps.measured, way)


class Steps:
    """Steps of one clip, the first of which the others are compared with."""

    def __init__(self, case: Case, clip: tuple[int, int, int], rounds: int):
        set_clip(case, clip)
        self.case, self.rounds = case, rounds
        self.lying = torch.cuda.memory_allocated() if case.device == "cuda" else 0
        self.tflop = 0.0
        self.first: list[torch.Tensor] | None = None

    def measured(self, way: str) -> dict[str, Any]:
        """Seconds, rate, difference, memory and attention kernels of one way."""
        case, compiled = self.case, way == WAYS[-1]
        kernels = Kernels()
        with changed(case, WAYS.index(way)):
            if not self.tflop:
                with FlopCounterMode(display=False) as counter:
                    case.ours()
                self.tflop = counter.get_total_flops() / 1e12
            with nullcontext() if compiled else kernels:
                result = case.ours()  # also what the compiler and cuDNN need once
            taken = [measured(case.ours, case.device) for _ in range(self.rounds)]
        self.first = self.first or result
        seconds = min(seconds for seconds, _ in taken)
        return {
            "tokens": dict(zip(("video", "audio"), case.tokens, strict=True)),
            "tflop_per_step": round(self.tflop, 2),
            "seconds_per_step": round(seconds, 4),
            "tflop_per_second": tflop_per_second(self.tflop, seconds),
            "relative_difference": difference(result, self.first),
            "beside_weights_gb": gigabytes(max(peak for _, peak in taken) - self.lying) if self.lying else None,
            "attention": None if compiled else sorted(kernels.names),
        }


@contextmanager
def changed(case: Case, way: int) -> Iterator[None]:
    """The pack as it is, without the changes after number ``way`` of :data:`WAYS`, on whatever card this is."""
    from ovi_native.ovi_core.network import layers, transformer

    with ExitStack() as patches:
        patches.enter_context(patch.object(transformer, "prefers_cudnn", lambda *_: way >= 1 and case.device == "cuda"))
        if way < 2:
            patches.enter_context(patch.object(layers, "FUSED_NORM", False))
        if way < 3:
            patches.enter_context(patch.object(layers.GELU, "forward", lambda _, x: gelu(x, approximate="tanh")))
        if way >= 4:
            patches.enter_context(_compiled(case))
        yield


@contextmanager
def _compiled(case: Case) -> Iterator[None]:
    """The block pairs compiled, as packs do it: the video's blocks, which run the pair."""
    blocks = case.transformer.blocks
    plain = [*blocks]
    backend = "inductor" if case.device == "cuda" else "eager"  # a toy shows that the pair is one graph
    try:
        for i, block in enumerate(plain):
            blocks[i] = torch.compile(block, backend=backend)
        yield
    finally:
        for i, block in enumerate(plain):
            blocks[i] = block
