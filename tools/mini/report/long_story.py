"""A film of two minutes, killed in its middle: ``python -m tools.mini.report.long_story``.

Tells one story twice with Ovi mini: in two processes, the first of which is killed with signal 9 while it is at a shot,
and in one that runs through. Prints how much memory was in use as it went on, whether both films are the same, and how
long the film is. Needs /proc, that is Linux.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..training.workers import load_pack

ROOT = Path(__file__).resolve().parents[3]
MODELS, FOLDER = ROOT / "models" / "ovi-mini", ROOT / ".mini" / "long-story"
OVERLAP = 0.2  # s that a shot shares with the one it goes on from
CUT_EVERY = 4  # shots


@dataclass
class Run:
    """A process that told the story, or a part of it.

    Attributes:
        memory: MB resident when a line of progress was told, by shot; 0 is the film being written.
        highest: MB resident at most.
        seconds: of its life.
        made: how many shots it began.
        film: file of the film; None when it was killed.
        shots: hash of every frame and sample of the shots it was put together from.
    """

    memory: dict[int, list[float]] = field(default_factory=dict)
    highest: float = 0.0
    seconds: float = 0.0
    film: Path | None = None
    shots: str = ""

    @property
    def made(self) -> int:
        return sum(1 for shot in self.memory if shot)


def script(shots: int, seconds: float) -> str:
    """A story of that many held-out scenes without speech; every fourth begins a new one, the others go on."""
    from ovi_native.ovi_core.spec import ClipShape

    from ..world.captions import caption
    from ..world.casting import draw_scene

    kinds = ("floor", "lamp", "two balls", "bar", "walls", "ball and lamp")
    lines = ["guidance: 4, 3"]
    for number in range(shots):
        scene = draw_scene(
            8_000_000 + number, ClipShape.from_seconds(96, 96, 2), "held_out", kinds[number % len(kinds)]
        )
        seen, heard = caption(scene, number).split(" Audio: ")
        way = ", go on" if number % CUT_EVERY else f"\nseed: {number}"
        lines += [f"shot {seconds:g} s{way}", f"scene: {seen}", f"sound: {heard.rstrip('.')}"]
    return "\n".join(lines)


def tell(arguments: argparse.Namespace, folder: Path) -> None:
    """Tell the story here, each line of progress on a line of its own, and the film's file at the end."""
    load_pack("cpu")
    import comfy.model_management
    import torch
    from ovi_native.ovi_core.loading.loader import load_model
    from ovi_native.ovi_core.story.models import Models
    from ovi_native.ovi_core.story.plan import Settings, plan_shots
    from ovi_native.ovi_core.story.render import render
    from ovi_native.ovi_core.story.script import parse
    from ovi_native.ovi_core.story.shot_maker import ShotMaker
    from ovi_native.ovi_core.story.shot_store import Store
    from ovi_native.ovi_core.text.umt5 import read_text_encoder
    from ovi_native.ovi_core.vae.audio_vae import read_audio_vae
    from ovi_native.ovi_core.vae.video_vae import read_video_vae

    from ..paths import AUDIO_VAE, MODEL, TEXT, VIDEO_VAE

    comfy.model_management.in_training = False
    loaders: dict[str, Any] = {
        MODEL: load_model,
        TEXT: read_text_encoder,
        VIDEO_VAE: read_video_vae,
        AUDIO_VAE: read_audio_vae,
    }
    guidance: dict[str, Any] = {"video_cfg": 2.0, "skip_layers": (2,)}
    settings = Settings("mini", 96, 96, OVERLAP, steps=arguments.steps, tiled="off", **guidance)
    store, text = Store(folder), script(arguments.shots, arguments.seconds)
    with torch.inference_mode():  # as ComfyUI runs nodes, those that load among them
        models = Models(*(load(str(arguments.models / name)) for name, load in loaders.items()))
        maker = ShotMaker(models, settings, store, nothing)
        film, _ = render(maker, text, settings, store, nothing, show=lambda line: print(line, flush=True))
    planned = plan_shots(parse(text), settings, models.identity(), False, nothing)
    print(f"Film {film}\nShots {digest(store, planned)}", flush=True)


def nothing(name: str) -> Any:
    """No picture: the script names none."""
    raise FileNotFoundError(name)


def digest(store: Any, plans: list[Any]) -> str:
    """Hash of every frame and sample of shots, as they are decoded."""
    found = hashlib.sha256()
    for plan in plans:
        for frame in store.frames(plan):
            found.update(frame.tobytes())
        found.update(store.audio(plan).numpy().tobytes())
    return found.hexdigest()


def watched(arguments: argparse.Namespace, folder: Path, kill_at: str = "") -> Run:
    """Tell the story in another process; kill it when it tells a line that begins with ``kill_at``.

    Raises:
        RuntimeError: it ended in another way than it was meant to.
    """
    command = [sys.executable, "-m", "tools.mini.report.long_story", "--tell-into", str(folder)]
    for name in ("shots", "seconds", "steps", "models"):
        command += [f"--{name}", str(getattr(arguments, name))]
    run, began = Run(), time.monotonic()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            word, _, rest = line.rstrip().partition(" ")
            if word in ("Shot", "Writing"):
                now, run.highest = memory(process.pid)
                run.memory.setdefault(int(rest.split()[0]) if word == "Shot" else 0, []).append(now)
                if kill_at and line.startswith(kill_at):
                    process.kill()
            elif word == "Film":
                run.film = Path(rest)
            elif word == "Shots":
                run.shots, run.highest = rest, memory(process.pid)[1]
    run.seconds = time.monotonic() - began
    if process.returncode != (-9 if kill_at else 0):
        raise RuntimeError(f"the story's process ended with {process.returncode}")
    return run


def memory(pid: int) -> tuple[float, float]:
    """MB that a process holds resident now, and held at most so far."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) / 1024, int(status["VmHWM"].split()[0]) / 1024


def length(film: Path) -> dict[str, Any]:
    """Frames, and how long pictures and sound last by the file's own clocks, in seconds."""
    import av

    with av.open(str(film)) as file:
        streams: list[Any] = [file.streams.video[0], file.streams.audio[0]]
        picture, sound = (stream.duration * stream.time_base for stream in streams)
        frames = sum(1 for _ in file.decode(video=0))
    return {
        "frames": frames,
        "pictures last their frames exactly": picture == Fraction(frames, 24),
        "seconds": float(picture),
        "sound longer by ms": round(float(sound - picture) * 1000, 3),
    }


def growth(run: Run) -> dict[str, float]:
    """MB resident in the first and the last quarter of the shots (medians of each shot's last step), and at most."""
    last_steps = [values[-1] for shot, values in sorted(run.memory.items()) if shot]
    part = max(1, len(last_steps) // 4)
    first, last = (sorted(steps)[part // 2] for steps in (last_steps[1 : 1 + part] or last_steps, last_steps[-part:]))
    writing = run.memory.get(0, [0.0])[-1]
    return {"early": round(first), "late": round(last), "film": round(writing), "most": round(run.highest)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.mini.report.long_story", description=__doc__)
    parser.add_argument("--shots", type=int, default=26, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a shot (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=4, help="of a run (default: %(default)s)")
    parser.add_argument("--models", type=Path, default=MODELS, metavar="DIR", help="folder with the exported files")
    parser.add_argument("--folder", type=Path, default=FOLDER, metavar="DIR", help="for shots and films; emptied first")
    parser.add_argument("--tell-into", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.tell_into:
        tell(arguments, arguments.tell_into)
        return 0
    shutil.rmtree(arguments.folder, ignore_errors=True)
    middle = arguments.shots // 2
    killed = watched(arguments, arguments.folder / "killed", f"Shot {middle} of {arguments.shots}, step 2")
    kept = len(list((arguments.folder / "killed" / "shots").glob(f"{'[0-9a-f]' * 32}.mkv")))
    again = watched(arguments, arguments.folder / "killed")
    whole = watched(arguments, arguments.folder / "whole")
    assert again.film is not None
    figures = {
        "killed at shot": middle,
        "shots kept": kept,
        "shots made after": again.made,
        "shots as without the kill": again.shots == whole.shots,
        "film": length(again.film),
        "MB resident": {"killed": growth(killed), "after it": growth(again), "whole": growth(whole)},
        "seconds": [round(run.seconds) for run in (killed, again, whole)],
    }
    print(json.dumps(figures, indent=1))
    good = again.shots == whole.shots and kept == middle - 1 and again.made == arguments.shots - kept
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
