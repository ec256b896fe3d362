"""The one exception for users: which node, which input, what was found, what is accepted, what to do."""

from __future__ import annotations

import functools
import re

LONGEST, LONGEST_FOUND = 600, 400  # characters of one part of a message, and of what was found
BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")  # line breaks and control characters
INVISIBLE = re.compile(r"[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")  # zero width, or changes the direction


class OviError(ValueError):
    """A problem that the user can solve, reported in one line.

    The parts may hold text of a file or of a workflow: line breaks and control characters become blanks, and what is
    too long loses its middle.

    Args:
        input: name of the input at fault, as the node shows it.
        found: what was there ("an image of 1x1 px").
        accepted: what would have been right ("32x32 px or more").
        remedy: the next thing to do, as an imperative sentence.
        node: display name of the node; the nodes fill it in, for core code cannot know it.
    """

    def __init__(self, *, input: str, found: str, accepted: str, remedy: str, node: str = ""):
        super().__init__(input, found, accepted, remedy)
        self.input, self.found = one_line(input, LONGEST_FOUND), one_line(found, LONGEST_FOUND)
        self.accepted, self.remedy = one_line(accepted), one_line(remedy)
        self.node = node

    def __reduce__(self) -> tuple:  # errors of a farm come from other processes
        parts = {name: getattr(self, name) for name in ("input", "found", "accepted", "remedy", "node")}
        return functools.partial(type(self), **parts), ()

    def __str__(self) -> str:
        where = f"{self.node}, input '{self.input}'" if self.node else f"Input '{self.input}'"
        text = f"{where}: found {self.found}. Accepted: {self.accepted}. {self.remedy}"
        return one_line(text, 3 * LONGEST)  # a part may have been replaced on the way


def one_line(text: object, longest: int = LONGEST) -> str:
    """``text`` in one line that every console and log can show, without its middle where it is over ``longest``."""
    plain = str(text).encode("utf-8", "replace").decode()  # names that are no UTF-8 hold lone surrogates
    if len(plain) > 4 * longest:  # what is far too long need not be searched
        plain = f"{plain[: 2 * longest]}{plain[-2 * longest :]}"
        cut = True
    else:
        cut = False
    plain = INVISIBLE.sub("", BREAKS.sub(" ", plain)).strip()
    if len(plain) <= longest and not cut:
        return plain
    return f"{plain[: longest * 2 // 3]} … {plain[-longest // 3 :]}"
