"""A story told: what is not in the store is made, shot by shot, and all of it becomes a film."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import comfy.model_management

from ..spec import FPS
from . import farm as farms
from . import film, script
from .models import Models
from .plan import Pictures, Plan, Settings, plan_shots
from .progress import Progress, spoken
from .shot_maker import Maker
from .shot_store import Store


def tell(
    models: Models,
    text: str,
    settings: Settings,
    store: Store,
    load: Pictures,
    start_image: bool = False,
    say: Callable[[str], None] = lambda line: None,
    farm: str = "",
) -> tuple[Path, str]:
    """Make the film of a script.

    Shots that are in the store already are taken from it; those that are made are put there at once, so that a run
    that ends early, in whatever way, has lost the shot it was at and nothing else.

    Args:
        text: the script.
        load: reads the pictures that the script names, and the start image.
        start_image: whether there is one for the first shot.
        say: shows a line on how far the story is.
        farm: address of a Ray cluster that makes the shots; empty: they are made here.

    Returns:
        The film's file and a report in plain lines.

    Raises:
        OviError: a script, model or picture that does not fit, told before anything is made.
    """
    models.check()
    identity = models.identity()
    plans = plan_shots(script.parse(text), settings, identity, start_image, load)
    missing = list({plan.key: plan for plan in plans if not store.has(plan.key)}.values())
    maker = Maker(models, settings, store, load)
    if farm and missing:
        took = farms.make(maker, missing, identity, farm, say)
    else:
        took = _made(maker, missing, Progress(missing, len(plans), say))
    say("Writing the film.")
    began = time.monotonic()
    path = film.write(store, plans, comfy.model_management.throw_exception_if_processing_interrupted)
    return path, report(plans, took, path, time.monotonic() - began)


def _made(maker: Maker, plans: list[Plan], progress: Progress) -> dict[str, float]:
    """Make shots one after the other; seconds for each, by its key."""
    took = {}
    for plan in plans:
        comfy.model_management.throw_exception_if_processing_interrupted()
        began = time.monotonic()
        maker.make(plan, partial(progress.step, plan))
        progress.made(plan)
        took[plan.key] = time.monotonic() - began
    return took


def report(plans: list[Plan], took: dict[str, float], path: Path, writing: float) -> str:
    """A table of the shots, what the prompt builder says of each, and where the film is."""
    rows = [("shot", "line", "at", "seconds", "frames", "way", "seed", "guidance", "made in")]
    starts = film.beginnings(plans)
    for plan, start in zip(plans, starts[:-1], strict=True):
        seconds = took.get(plan.key)
        rows.append(
            (
                str(plan.number),
                str(plan.line),
                _clock(start),
                f"{plan.clip.seconds:.2f}",
                str(plan.clip.frames),
                "go on" if plan.last else "cut",
                str(plan.seed),
                f"{plan.guidance.video_cfg:g}, {plan.guidance.audio_cfg:g}",
                "from the store" if seconds is None else spoken(seconds),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    speech = [f"Shot {plan.number}:\n{plan.report}" for plan in plans]
    made = f"{len(took)} of {len(plans)} shots made in {spoken(sum(took.values()))}, the film in {spoken(writing)}."
    length = f"{_clock(starts[-1])} of film, {starts[-1]} frames: {path}"
    return "\n".join([*table, "", length, made, "", *speech])


def _clock(frames: int) -> str:
    """Frames as minutes and seconds, 1:02.50."""
    return f"{frames // FPS // 60}:{frames / FPS % 60:05.2f}"
