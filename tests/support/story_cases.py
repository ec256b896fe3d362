"""A story of tiny models, for tests of the storyboard; it can be told in a process of its own, and killed there."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
SCRIPT = """
# four shots, of which the second goes on from the first
seed: 5
sound: waves

shot 0.8 s
scene: A woman stands on a pier.
speech: The woman: Good morning.

shot 1 s, go on
scene: She laughs.

shot 0.5 s, cut
scene: A lighthouse.
guidance: 1, 1

shot 0.8 s
scene: Night.
seed: 9
"""
LENGTHS, OVERLAPS = [21, 25, 13, 21], [0, 5, 0, 0]  # frames
FRAMES = sum(LENGTHS) - sum(OVERLAPS)


@functools.cache
def models() -> Any:
    """A tiny model, text encoder and both VAEs."""
    from native_cases import small_vaes, write_tiny
    from ovi_native.ovi_core.loading.loader import load_model
    from ovi_native.ovi_core.story.models import Models
    from ovi_native.ovi_core.text.umt5 import load_text_encoder
    from ovi_native.tools import standins

    with tempfile.TemporaryDirectory() as folder:
        model = load_model(write_tiny(Path(folder)))
    return Models(model, load_text_encoder(standins.text_encoder(0)), *small_vaes())


def settings(**changed: Any) -> Any:
    from ovi_native.ovi_core.story.plan import Settings

    small = {"variant": "mini", "width": 64, "height": 32, "overlap_seconds": 0.2, "steps": 2, "skip_layers": (1,)}
    return Settings(**small | changed)


def store(folder: Path) -> Any:
    from ovi_native.ovi_core.story.shot_store import Store

    return Store(Path(folder))


def told(folder: Path, script: str = SCRIPT, **more: Any) -> tuple[Path, str]:
    """The film and the report of a story whose store is ``folder``."""
    import torch
    from ovi_native.ovi_core.story.render import tell

    arguments = {"models": models(), "load": None, "say": lambda line: None} | more
    changed = arguments.pop("settings", {})
    with torch.inference_mode():  # as ComfyUI runs nodes
        return tell(text=script, settings=settings(**changed), store=store(folder), **arguments)


def shot_files(folder: Path) -> dict[str, int]:
    """The shots in the store, each with the time it was written."""
    return {path.name: path.stat().st_mtime_ns for path in sorted((Path(folder) / "shots").glob("*.mkv"))}


def told_and_killed(folder: Path, line: str) -> subprocess.CompletedProcess:
    """Tell the story in another process, which kills itself with signal 9 when its progress begins with ``line``."""
    command = [sys.executable, __file__, str(folder), line]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def kill_at(line: str) -> Any:
    def say(now: str) -> None:
        if now.startswith(line):
            os.kill(os.getpid(), signal.SIGKILL)

    return say


if __name__ == "__main__":
    sys.path[:0] = [str(TESTS / "support")]
    sys.path.append(str(TESTS.parent))
    from tools import pack

    pack.load("--cpu")
    told(Path(sys.argv[1]), say=kill_at(sys.argv[2]))
