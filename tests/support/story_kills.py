"""Renders the storyboard of ``story_cases`` and is killed at a stage: ``python story_kills.py FOLDER STAGE...``.

Each stage is rendered in ``FOLDER/STAGE`` by a process of its own, forked from one that has loaded ComfyUI and models.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]


def killed_at(stages: list[str], folder: Path) -> dict[str, int]:
    """Render once for each stage, with a kill there; how each process ended, minus the signal's number."""
    command = [sys.executable, __file__, str(folder), *stages]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    ends = [line.rpartition(" ended with ") for line in run.stdout.splitlines() if " ended with " in line]
    if len(ends) != len(stages):
        raise RuntimeError(run.stderr)
    return {stage: int(code) for stage, _, code in ends}


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_call(owner: Any, name: str, number: int, counts: Callable[..., bool] = lambda *args, **kwargs: True) -> None:
    """Kill this process at the beginning of the ``number``-th call of a function that ``counts``."""
    function, calls = getattr(owner, name), []

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.extend([1] if counts(*args, **kwargs) else [])
        if len(calls) == number:
            kill()
        return function(*args, **kwargs)

    setattr(owner, name, counted)


def while_written(number: int) -> None:
    """Kill this process when half of its ``number``-th shot is in a file."""
    write_bytes, calls = Path.write_bytes, []

    def half(path: Path, data: bytes) -> int:
        calls.extend([1] if path.suffix == ".mkv" else [])
        if len(calls) == number:
            write_bytes(path, data[: len(data) // 2])
            kill()
        return write_bytes(path, data)

    Path.write_bytes = half  # type: ignore[method-assign]


def prepare(stage: str) -> None:
    """Let this process be killed at a stage."""
    from ovi_native.ovi_core.media.video_file import Writer
    from ovi_native.ovi_core.story import render, shot_store
    from ovi_native.ovi_core.story.progress import Progress

    stages: dict[str, Callable[[], None]] = {
        "before the first shot": lambda: at_call(render, "_make_here", 1),
        "sampling": lambda: at_call(Progress, "step", 5),
        "writing a shot": lambda: while_written(3),
        "before a shot has its checksum": lambda: at_call(
            shot_store, "_record", 3, lambda path, digest: path.suffix == ".mkv"
        ),
        "writing the film": lambda: at_call(
            Writer, "add_frame", 30, lambda writer, image: "mp4" in writer.kind.container
        ),
        "before the film has its checksum": lambda: at_call(
            shot_store, "_record", 1, lambda path, digest: path.suffix == ".mp4"
        ),
    }
    stages[stage]()


def main(folder: Path, stages: list[str]) -> None:
    sys.path[:0] = [str(TESTS / "support")]
    sys.path.append(str(TESTS.parent))
    from tools import pack

    pack.load("--cpu")
    import story_cases

    story_cases.models()
    for stage in stages:
        process = os.fork()
        if not process:
            prepare(stage)
            story_cases.rendered(folder / stage)
            os._exit(0)
        _, status = os.waitpid(process, 0)
        print(f"{stage} ended with {os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
