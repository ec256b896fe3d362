"""When in a run something applies, and how strongly: intervals and schedules over shares of the run, 0 to 1.

A share is ComfyUI's "percent": of the noise schedule before its shift, so of the steps where these have the model's
own shift. It goes by the noise level alone and is the same for every sampler, however often that calls the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..errors import OviError
from ..stable_names import stable_name

ROUNDING = 1 + 1e-4  # a step that begins at the end of an interval is in it, wherever float32 put it
KINDS = ("constant", "linear", "cosine", "points")
MOST_POINTS = 1000  # as many as a run may have steps


@stable_name("schedules.Interval", fields=("start", "end"))
@dataclass(frozen=True)
class Interval:
    """A part of the run, both ends included."""

    start: float = 0.0
    end: float = 1.0

    @property
    def whole(self) -> bool:
        return self.start <= 0 and self.end >= 1

    def holds(self, sigma: float, model_sampling: Any) -> bool:
        """Whether the noise level ``sigma`` is in it."""
        percent = model_sampling.percent_to_sigma
        return percent(self.end) <= sigma * ROUNDING and sigma <= percent(self.start) * ROUNDING


WHOLE_RUN = Interval()


def share_of_run(sigma: float, model_sampling: Any) -> float:
    """The share of the run, 0 to 1, at which the noise level is ``sigma``: the inverse of ComfyUI's percent."""
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        if model_sampling.percent_to_sigma(middle) > sigma:
            low = middle
        else:
            high = middle
    return high


@stable_name("schedules.Schedule", fields=("kind", "points"))
@dataclass(frozen=True)
class Schedule:
    """A strength over the run.

    kind: ``constant``; ``linear`` or ``cosine``, from the strength down to 1 over the interval; or ``points``, which
    stand instead of the strength: (share of the run, strength) in order, straight lines between them.
    """

    kind: str = "constant"
    points: tuple[tuple[float, float], ...] = ()

    def at(self, strength: float, share: float, interval: Interval) -> float:
        """What becomes of ``strength`` at ``share`` of the run, within ``interval``."""
        if self.kind == "points":
            return _between(self.points, share)
        length = interval.end - interval.start
        done = min(1.0, max(0.0, (share - interval.start) / length)) if length > 0 else 0.0
        left = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[self.kind]
        return 1 + (strength - 1) * left if left < 1 else strength


CONSTANT = Schedule()


def _between(points: tuple[tuple[float, float], ...], share: float) -> float:
    if share <= points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in pairwise(points):
        if share <= x1:
            return y0 + (y1 - y0) * (share - x0) / (x1 - x0)
    return points[-1][1]


def parse_points(text: str, lowest: float = 0.0, highest: float = 30.0) -> tuple[tuple[float, float], ...]:
    """Points from a text such as ``"0:4, 0.5:3, 1:1"``: share of the run, colon, strength.

    Raises:
        OviError: nothing, no numbers, shares outside 0 to 1 or not in order, strengths out of range, too many points.
    """

    def wrong(found: str) -> OviError:
        return OviError(
            input="points",
            found=found,
            accepted=f"shares of the run from 0 to 1 in rising order, each with a strength from {lowest:g} to "
            f"{highest:g}, as in '0:4, 0.5:3, 1:1'",
            remedy="Correct the list of points.",
        )

    points: list[tuple[float, float]] = []
    for part in text.replace(";", ",").split(","):
        if not part.strip():
            continue
        try:
            share, strength = (float(number) for number in part.split(":"))
        except ValueError:
            raise wrong(f"'{part.strip()}'") from None
        if not (0 <= share <= 1 and lowest <= strength <= highest):
            raise wrong(f"'{part.strip()}'")
        if points and share <= points[-1][0]:
            raise wrong(f"{share:g} after {points[-1][0]:g}")
        if len(points) == MOST_POINTS:
            raise wrong(f"more than {MOST_POINTS:,} points")
        points.append((share, strength))
    if not points:
        raise wrong("no points")
    return tuple(points)
