"""The negative pass in some steps only: between them, its difference to the positive prediction is kept.

In the middle of a run this difference changes slowly and evenly: it is carried on along the line through the last two
that were computed. The contrasts of Ovi's guider (modality and reference guidance) are kept in the same way. The first
and the last steps compute everything.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...network.run_cache import RunCache, SamplingRun
from ...network.text_attention import POSITIVE
from ...stable_names import stable_name
from ..comfyui import WrappersMP
from ..schedules import Interval

KEY = "ovi_negative_reuse"


@dataclass
class _Kept:
    """A step that computed everything: its noise level, and each role's velocity less the positive one.

    slopes: of these differences over the noise level, where the step before it is known.
    """

    step: int
    level: float
    differences: dict[int, Tensor]
    slopes: dict[int, Tensor]

    def at(self, role: int, level: float) -> Tensor:
        """The difference of a role at another noise level."""
        slope = self.slopes.get(role)
        difference = self.differences[role]
        return difference if slope is None else difference + slope * (level - self.level)


@stable_name("negative_reuse.NegativeReuse", fields=("every", "until"))
@dataclass(frozen=True)
class NegativeReuse:
    """When the predictions beside the positive one are computed.

    Attributes:
        every: in one of so many steps in the middle of the run; 1: in all.
        until: share of the run after which the positive prediction stands for them, so that nothing is guided.
    """

    every: int = 1
    until: float = 1.0

    @property
    def off(self) -> bool:
        return self.every <= 1 and self.until >= 1

    def predict(self, executor: Any, model: Any, conds: list, x: Tensor, sigma: Tensor, options: dict) -> list[Tensor]:
        """ComfyUI's predictions [B, ...] for ``conds``, of which the first is the positive one.

        Args:
            sigma: noise level [B]. It stays on its device: nothing here waits.
        """
        run: SamplingRun = options["transformer_options"][RunCache.KEY]
        others = [i for i, cond in enumerate(conds) if cond is not None and i != POSITIVE]
        scale = sigma.reshape(-1, *[1] * (x.ndim - 1)).to(x.device)
        level = run.noise_level(sigma)
        guided = self.until >= 1 or Interval(0.0, self.until).holds(level, model.model_sampling)
        key = (KEY, _window(options))
        kept = run.kept.get(key)
        if guided and not self._may_reuse(run, kept, others):
            results = executor(model, conds, x, sigma, options)
            run.kept[key] = _observed(
                run.step, level, {i: (results[POSITIVE] - results[i]) / scale for i in others}, kept
            )
            return results
        results = executor(model, _only_positive(conds), x, sigma, options)
        for i in others:
            difference = kept.at(i, level) * scale if guided and kept is not None else 0
            results[i] = results[POSITIVE] - difference
        return results

    def _may_reuse(self, run: SamplingRun, kept: _Kept | None, others: Sequence[int]) -> bool:
        return (
            kept is not None
            and run.in_middle
            and run.step - kept.step < self.every
            and all(i in kept.differences for i in others)
        )


def _observed(step: int, level: float, differences: dict[int, Tensor], before: _Kept | None) -> _Kept:
    slopes = {}
    if before is not None and level != before.level:
        both = differences.keys() & before.differences.keys()
        slopes = {i: (differences[i] - before.differences[i]) / (level - before.level) for i in both}
    return _Kept(step, level, differences, slopes)


def with_negative_reuse(patcher: Any, reuse: NegativeReuse) -> Any:
    """A copy of a MODEL whose runs compute the negative prediction as ``reuse`` says.

    Without effect where ComfyUI's list of conditionings does not begin with the positive one, as under guiders of other
    kinds than ComfyUI's and Ovi's own (``SamplingRun.positive_first``).
    """

    @stable_name("negative_reuse.wrapper", holds=(reuse,))
    def wrapper(executor: Any, model: Any, conds: list, x: Tensor, sigma: Tensor, options: dict) -> list[Tensor]:
        run = options.get("transformer_options", {}).get(RunCache.KEY)
        known = isinstance(run, SamplingRun) and run.positive_first
        if isinstance(run, SamplingRun) and not known:
            run.once(KEY, _warn_of_guider)
        if not known or len(conds) < 2 or conds[POSITIVE] is None or not any(conds[POSITIVE + 1 :]):
            return executor(model, conds, x, sigma, options)
        return reuse.predict(executor, model, conds, x, sigma, options)

    patcher = patcher.clone()
    patcher.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, wrapper)
    return patcher


def _warn_of_guider() -> None:
    logging.warning("Ovi Speed: the run's guider is of another kind; its passes are all computed in every step.")


def _only_positive(conds: list) -> list:
    return [cond if i == POSITIVE else None for i, cond in enumerate(conds)]


def _window(options: dict) -> tuple[int, ...]:
    """The frames of the context window that is predicted; empty for the whole clip."""
    window = options["transformer_options"].get("context_window")
    return () if window is None else tuple(window.index_list)
