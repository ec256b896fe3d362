"""How far a storyboard is, and how long it will still take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import comfy.utils

from ..sampling.time_left import in_words
from .maker import ShowLine
from .plan import Plan


@dataclass
class Progress:
    """Counts every step of every shot that is made, and shows it.

    A step's work goes with the length of its shot; what is done before and after the steps is part of their time.

    Attributes:
        plans: the shots to be made.
        shots: of the whole script.
        seconds: a clock.
    """

    plans: list[Plan]
    shots: int
    show: ShowLine
    seconds: Callable[[], float] = time.monotonic
    done: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.began = self.seconds()
        self.work = float(sum(plan.clip.latent_frames for plan in self.plans))
        self.bar = comfy.utils.ProgressBar(max(1, round(self.work)))

    def step(self, plan: Plan, step: int, steps: int, preview: Any) -> None:
        """``step`` of ``steps`` of a shot is done."""
        done = self.done + plan.clip.latent_frames * step / steps
        self.bar.update_absolute(round(done), preview=preview)
        left = (self.seconds() - self.began) * (self.work - done) / done
        self.show(f"Shot {plan.number} of {self.shots}, step {step} of {steps}. About {in_words(left)} left.")

    def made(self, plan: Plan) -> None:
        """A shot is in the store."""
        self.done += plan.clip.latent_frames
