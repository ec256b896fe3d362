"""A script rendered: what the store lacks is made, shot by shot, and all of it becomes a film."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from ..sampling.time_left import in_words
from . import film, script
from .comfyui import check_interrupted
from .maker import Maker, MakeShots, ShowLine
from .plan import LoadImage, LoadVoice, Plan, Settings, no_voices, plan_shots
from .progress import Progress
from .shot_store import State, Store


def render(
    maker: Maker,
    text: str,
    settings: Settings,
    store: Store,
    load_image: LoadImage,
    start_image: bool = False,
    show: ShowLine = lambda line: None,
    make_shots: MakeShots | None = None,
    load_voice: LoadVoice = no_voices,
) -> tuple[Path, str]:
    """Make the film of a script.

    Shots that are whole in the store are taken from it. Those that are made are put there at once, so a run that ends
    early, in whatever way, loses the shot in progress and nothing else.

    Args:
        maker: of the shots, for ``settings`` and into ``store``.
        text: the script.
        load_image: returns the images that the script names, and the start image.
        load_voice: returns the voices that the script names.
        start_image: whether there is one for the first shot.
        show: shows a line on how far the work is.
        make_shots: makes shots in another way than one after the other in this process.

    Returns:
        The film's file and a report in plain lines.

    Raises:
        OviError: a script, model or image that does not fit, or a disk that cannot be written to, before any shot is
            made; or a disk that becomes full.
    """
    maker.check()
    plans = plan_shots(script.parse(text), settings, maker.identity(), start_image, load_image, load_voice)
    states = {plan.key: store.state(plan) for plan in plans}
    missing = list({plan.key: plan for plan in plans if states[plan.key] is not State.WHOLE}.values())
    film_state = store.film_state(film.key_of(plans))
    if missing or film_state is not State.WHOLE:
        store.check_writable()
    make = make_shots or partial(_make_here, maker, len(plans))
    seconds = make(missing, show) if missing else {}
    show("Writing the film.")
    began = time.monotonic()
    path = film.write(store, plans, check_interrupted)
    notes = [
        f"Shot {plan.number}: its file was damaged, so it was regenerated."
        for plan in plans
        if states[plan.key] is State.DAMAGED
    ]
    notes += ["The film's file was damaged, so it was written again."] if film_state is State.DAMAGED else []
    return path, report(plans, seconds, path, time.monotonic() - began, notes)


def _make_here(maker: Maker, shots: int, plans: list[Plan], show: ShowLine) -> dict[str, float]:
    """Make shots one after the other; seconds for each, by its key.

    Args:
        shots: of the whole script.
    """
    seconds, progress = {}, Progress(plans, shots, show)
    for plan in plans:
        check_interrupted()
        began = time.monotonic()
        maker.make(plan, partial(progress.step, plan))
        progress.made(plan)
        seconds[plan.key] = time.monotonic() - began
    return seconds


def report(plans: list[Plan], seconds: dict[str, float], path: Path, writing: float, notes: list[str]) -> str:
    """A table of the shots, notes, what the prompt builder says of each shot, and where the film is.

    Args:
        seconds: that the shots took which were made, by key.
        writing: seconds that the film took.
    """
    rows = [("shot", "line", "at", "seconds", "frames", "way", "seed", "guidance", "made in")]
    starts, rate = film.starts_of(plans), plans[0].streams.frame_rate
    for plan, start in zip(plans, starts[:-1], strict=True):
        took = seconds.get(plan.key)
        rows.append(
            (
                str(plan.number),
                str(plan.line),
                _clock(start, rate),
                f"{plan.clip.seconds:.2f}",
                str(plan.clip.frames),
                "go on" if plan.previous else "cut",
                str(plan.seed),
                ", ".join(f"{strength:g}" for strength in plan.guidance),
                "from the store" if took is None else in_words(took),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    speech = [f"Shot {plan.number}:\n{plan.report}" for plan in plans]
    length = f"{_clock(starts[-1], rate)} of film, {starts[-1]} frames: {path}"
    total = f"{in_words(sum(seconds.values()))}, the film in {in_words(writing)}"
    made = f"{len(seconds)} of {len(plans)} shots made in {total}."
    return "\n".join([*table, "", length, made, *notes, "", *speech])


def _clock(frames: int, rate: int) -> str:
    """Frames as minutes and seconds, 1:02.50."""
    return f"{frames // rate // 60}:{frames / rate % 60:05.2f}"
