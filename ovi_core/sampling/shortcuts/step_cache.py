"""Steps without a forward: where the velocity changes little, it is carried on from the steps before.

As in EasyCache and TeaCache the change is foretold from what it was between the last two steps that were computed, here
per unit of noise level and for each tower: a step is skipped only if both towers' velocities are foretold to have
changed by less than the threshold. What is masked does not count. The first and the last steps are computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...latents import joint
from ...network.run_cache import RunCache, SamplingRun
from ...stable_names import stable_name
from ..comfyui import WrappersMP, unpack_latents

KEY = "ovi_step_cache"


@dataclass
class _Kept:
    """The last computed velocity, its noise level, its slope over the noise level, and each tower's relative slope."""

    velocity: Tensor
    level: float
    slope: Tensor | None = None
    rates: Sequence[float] = ()


@stable_name("step_cache.StepCache", fields=("threshold",))
@dataclass(frozen=True)
class StepCache:
    """Skips steps.

    threshold: relative change of a tower's velocity up to which a step is not computed.
    """

    threshold: float

    def predict(self, executor: Any, x: Tensor, sigma: Tensor, options: dict, seed: Any) -> Tensor:
        """The clean latent that a guider predicts from x [B, ...] at noise level ``sigma`` [B].

        After a computed step in the middle of the run one small tensor is read: the one place that waits for the
        device, which has just finished the forward then.
        """
        run: SamplingRun = options["transformer_options"][RunCache.KEY]
        level = run.noise_level(sigma)
        scale = sigma.reshape(-1, *[1] * (x.ndim - 1)).to(x.device)
        kept: _Kept | None = run.kept.get(KEY)
        if kept is not None and kept.slope is not None and self._may_skip(run, kept, level):
            run.skipped += 1
            return x - scale * (kept.velocity + kept.slope * (level - kept.level))
        clean = executor(x, sigma, options, seed)
        run.kept[KEY] = _observed((x - clean) / scale, level, kept, run)
        return clean

    def _may_skip(self, run: SamplingRun, kept: _Kept, level: float) -> bool:
        if not run.in_middle or kept.slope is None or not kept.rates:
            return False
        return max(kept.rates) * abs(level - kept.level) < self.threshold


def _observed(velocity: Tensor, level: float, before: _Kept | None, run: SamplingRun) -> _Kept:
    """What is kept of a computed step."""
    if before is None or level == before.level:
        return _Kept(velocity, level)
    distance = level - before.level
    slope = (velocity - before.velocity) / distance
    return _Kept(velocity, level, slope, _rates(slope, velocity, run) if run.in_middle else ())


def _rates(slope: Tensor, velocity: Tensor, run: SamplingRun) -> list[float]:
    """For each tower that runs, how large the slope is beside the velocity where neither is masked."""
    free = torch.ones_like(velocity) if run.masked is None else (~run.masked).to(velocity)
    parts = (unpack_latents(values.abs() * free, run.latent_shapes) for values in (slope, velocity))
    pairs = zip(*parts, run.latent_shapes, strict=True)
    rates = [change.sum() / size.sum() for change, size, shape in pairs if not joint.is_absent(shape)]
    return torch.stack(rates).nan_to_num(0.0, posinf=0.0).tolist()  # a tower that is masked as a whole


def with_step_cache(patcher: Any, cache: StepCache) -> Any:
    """A copy of a MODEL whose runs skip steps."""

    @stable_name("step_cache.wrapper", holds=(cache,))
    def wrapper(executor: Any, x: Tensor, sigma: Tensor, options: dict | None = None, seed: Any = None) -> Tensor:
        run = (options or {}).get("transformer_options", {}).get(RunCache.KEY)
        if options is None or not isinstance(run, SamplingRun):
            return executor(x, sigma, options, seed)
        return cache.predict(executor, x, sigma, options, seed)

    patcher = patcher.clone()
    patcher.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, KEY, wrapper)
    return patcher
