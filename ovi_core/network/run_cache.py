"""What one sampling run computes once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from torch import Tensor

T = TypeVar("T")


class Run:
    """Results that stay the same in every step of one sampling run; they go when the run ends.

    The sampler hook in ``model.py`` puts one into ``transformer_options[Run.KEY]``. Without it (a bare call of the
    transformer) every forward starts with an empty one.

    follows: [B, 1, N] bool, where the packed latent is kept and follows the noise; None where nothing does.
    """

    KEY = "ovi_run"

    def __init__(self, follows: Tensor | None = None) -> None:
        self.follows = follows
        self._results: dict[Hashable, Any] = {}

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The result of ``compute()``, from the first call with this ``key``."""
        if key not in self._results:
            self._results[key] = compute()
        return self._results[key]
