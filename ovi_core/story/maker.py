"""What makes the shots of a storyboard, as the planning sees it: one small protocol, whatever model is behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from .plan import Plan

ReportStep = Callable[[int, int, Any], None]
"""Called after every step of a run with the steps done, their number, and ComfyUI's preview or None."""
ShowLine = Callable[[str], None]
"""Shows the user one line on how far the work is."""


class Maker(Protocol):
    """Makes single shots."""

    def check(self) -> None:
        """Raise OviError unless everything that a shot needs is there."""

    def identity(self) -> str:
        """A hash of what decides a shot beside its plan, such as the models' weights."""

    def make(self, plan: Plan, report_step: ReportStep) -> None:
        """Make a shot and put it into the store, where those that it goes on from are already."""


MakeShots = Callable[[list[Plan], ShowLine], dict[str, float]]
"""Makes shots and puts them into the store; returns the seconds of each, by its key."""
