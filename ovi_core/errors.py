"""One way to tell an artist what is wrong: which node, which input, what was found, what is accepted, what to do."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class OviError(ValueError):
    """A problem an artist can solve, told in one paragraph.

    Args:
        input: name of the input at fault, as the node shows it.
        found: what was there ("an image of 1x1 px").
        accepted: what would have been right ("32x32 px or more").
        remedy: the next thing to do, as an imperative sentence.
        node: display name of the node; ``reported_by`` fills it in where core code cannot know it.
    """

    def __init__(self, *, input: str, found: str, accepted: str, remedy: str, node: str = ""):
        super().__init__(input, found, accepted, remedy)
        self.input, self.found, self.accepted, self.remedy = input, found, accepted, remedy
        self.node = node

    def __str__(self) -> str:
        where = f"{self.node}, input '{self.input}'" if self.node else f"Input '{self.input}'"
        return f"{where}: found {self.found}. Accepted: {self.accepted}. {self.remedy}"


def reported_by(node: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator for a node's ``execute``: an :class:`OviError` that passes through it carries the node's name."""

    def decorate(execute: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(execute)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return execute(*args, **kwargs)
            except OviError as error:
                error.node = error.node or node
                raise

        return run

    return decorate
