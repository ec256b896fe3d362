"""What a server holds after each prompt, and whether that grows."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class State:
    """A server between two prompts.

    Attributes:
        memory: bytes resident, of the server and its children.
        descriptors: open files and sockets (on Windows: handles).
        temporary: files in its temporary folders.
    """

    memory: int
    descriptors: int
    threads: int
    temporary: int


GROWTH = State(memory=150_000_000, descriptors=12, threads=12, temporary=3)
"""What may be there more at the end than after the warm-up."""


def state(pid: int, folders: list[Path]) -> State:
    """The server's state now; ``folders``: those for temporary files."""
    server = psutil.Process(pid)
    alive = [server, *server.children(recursive=True)]
    return State(
        sum(process.memory_info().rss for process in alive),
        sum(process.num_handles() if psutil.WINDOWS else process.num_fds() for process in alive),
        sum(process.num_threads() for process in alive),
        sum(file.is_file() for folder in folders for file in folder.rglob("*")),
    )


def growth(states: list[State], warm_up: int) -> dict[str, int]:
    """By how much each number grew: the median of the last quarter less that of the first one after the warm-up."""
    kept = [asdict(one) for one in states[min(warm_up, len(states) - 2) :]]
    part = max(1, len(kept) // 4)
    first, last = kept[:part], kept[-part:]
    return {
        name: round(statistics.median(one[name] for one in last) - statistics.median(one[name] for one in first))
        for name in asdict(GROWTH)
    }


def complaints(grown: dict[str, int]) -> list[str]:
    """What grew by more than it may."""
    limits = asdict(GROWTH)
    return [f"{name} grew by {by:,}, at most {limits[name]:,}" for name, by in grown.items() if by > limits[name]]


def curve(values: list[int], columns: int = 60) -> str:
    """The values as a line of blocks, from the lowest to the highest."""
    picked = [values[index * len(values) // columns] for index in range(columns)] if len(values) > columns else values
    low, high = min(picked), max(picked)
    return "".join(BARS[(value - low) * (len(BARS) - 1) // max(1, high - low)] for value in picked)


def table(states: list[State], rows: int = 12) -> str:
    """The course of a run as a table in Markdown."""
    lines = ["| after prompt | memory | descriptors | threads | temporary files |", "|---:|---:|---:|---:|---:|"]
    numbers = sorted({round(index * (len(states) - 1) / max(1, rows - 1)) for index in range(rows)})
    for number in numbers:
        one = states[number]
        lines.append(
            f"| {number + 1} | {one.memory / 1e6:,.0f} MB | {one.descriptors} | {one.threads} | {one.temporary} |"
        )
    return "\n".join(lines)
