"""What one sampling run fixes, and what it computes once."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

T = TypeVar("T")
EXACT_FIRST, EXACT_LAST = 0.2, 0.1
"""Shares of a run's steps in which nothing is taken over from other steps."""
ROUNDING = 1e-3
"""By which a sampler may begin below the first noise level: some divide by its distance to 1."""


class RunCache:
    """Results that stay the same in every step of a run; they are freed with it.

    The sampling hook puts one into ``transformer_options[RunCache.KEY]``. Without it (a bare call of the transformer)
    every forward starts with an empty one.
    """

    KEY = "ovi_run"

    def __init__(self) -> None:
        self._results: dict[Hashable, Any] = {}

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The result of ``compute()``, from the first call with this ``key``.

        An object may be part of the key: the cache keeps it alive, so no other one takes its identity.
        """
        if key not in self._results:
            self._results[key] = compute()
        return self._results[key]


@dataclass(eq=False)
class SamplingRun(RunCache):
    """The cache of a sampling run, and what the run fixes for calls of ComfyUI that pass no options on.

    Attributes:
        latent_shapes: of the latent's parts before ComfyUI packs them: [B, 48, T, H, W], [B, 20, L], or one of them.
        follows: bool in the shape of the packed latent, where it is masked and follows the noise; None where nothing
            does.
        retained_frames: latent frames that every context window shows as they are in the whole clip.
        chunk_tokens: see ``layers.in_chunks``; 0 for all at a time.
        preview_audio: audio latent [20, L] of the first clip in the step that is previewed; None without an audio
            tower.
        sigmas: noise levels of the steps, and the last one.
        by_step: the sampler asks for predictions at the noise level of :attr:`step` alone.
        step: the one that runs, counted from 0.
        conditionings: how many run in a step that needs them all.
        negatives: how many of these are negative.
        positive_first: each step's list of conditionings begins with the positive one.
        masked: bool in the shape of the packed latent, where it is masked; None without a mask.
        kept: what a step leaves to the steps after it.
        skipped: steps that took the forward of another one.
    """

    latent_shapes: Sequence[Sequence[int]] = ()
    follows: Tensor | None = None
    retained_frames: Sequence[int] = ()
    chunk_tokens: int = 0
    preview_audio: Tensor | None = None
    sigmas: Sequence[float] = ()
    by_step: bool = False
    step: int = 0
    conditionings: int = 2
    negatives: int = 1
    positive_first: bool = False
    masked: Tensor | None = None
    kept: dict[Hashable, Any] = field(default_factory=dict)
    skipped: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    @property
    def in_middle(self) -> bool:
        """Neither in the first fifth of the steps, which decide layout and timing, nor in the last tenth."""
        steps = len(self.sigmas) - 1
        return math.ceil(steps * EXACT_FIRST) <= self.step < steps - math.ceil(steps * EXACT_LAST)

    def noise_level(self, sigma: Tensor) -> float:
        """The number in ``sigma`` [B], the noise level of the prediction that is asked for.

        Known without asking the device, which would wait for all it has to do; but for the first step, which looks
        whether that is so.
        """
        if self.by_step and 0 < self.step < len(self.sigmas):
            return self.sigmas[self.step]
        level = float(sigma.reshape(-1)[0])
        if self.sigmas and not math.isclose(level, self.sigmas[0], rel_tol=ROUNDING):
            self.by_step = False
        return level


def noise_level(options: dict, sigma: Tensor) -> float:
    """The number in ``sigma`` [B] in a forward with these transformer options; see :meth:`SamplingRun.noise_level`."""
    run = options.get(RunCache.KEY)
    return run.noise_level(sigma) if isinstance(run, SamplingRun) else float(sigma.reshape(-1)[0])
