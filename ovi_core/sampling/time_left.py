"""How far a run is and how long it will still take, in words."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class TimeLeft:
    """A sampler's callback that shows a line after each step, and then calls another callback.

    The first step also loads the weights, so time is counted from its end; until the second there is no estimate.

    Args:
        show: shows a line to the user.
        callback: of ComfyUI: step from 0, the prediction, the noisy latent, the number of steps.
        seconds: a clock.
    """

    def __init__(
        self,
        show: Callable[[str], None],
        callback: Callable[..., Any],
        seconds: Callable[[], float] = time.monotonic,
    ):
        self.show, self.callback, self.seconds = show, callback, seconds
        self.first: tuple[int, float] | None = None

    def __call__(self, step: int, denoised: Any, noisy: Any, steps: int) -> None:
        self.callback(step, denoised, noisy, steps)
        now, done = self.seconds(), step + 1
        line = f"Step {done} of {steps}."
        if self.first is None or step <= self.first[0]:
            self.first = (step, now)
        elif done < steps:
            each = (now - self.first[1]) / (step - self.first[0])
            line += f" About {in_words(each * (steps - done))} left."
        self.show(line)


def in_words(seconds: float) -> str:
    """A length of time in its two largest units: 42 s, 3 min 10 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
