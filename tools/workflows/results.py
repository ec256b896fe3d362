"""Thumbnails of what the templates give: ``python3 -m tools.workflows.results [TITLE ...]``.

Each is run on a real server with the small model, as it is drawn for it, and its thumbnail in the template browser
shows the clip that it saves; where something is given to it, as before and after. Where weights are needed that are not
here, and where the small model fails, a drawn scene stands in, and says so (:mod:`.scenes`).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..dev import setup
from ..dev.problems import DevError
from ..dev.setup import ROOT, Installation, say

if TYPE_CHECKING:
    from .poster import Clip

FOLDER, ASSETS = ROOT / "workflows", ROOT / "assets"
SILENT = "Sound for a silent clip"
BEFORE = {
    SILENT: "ovi_example_silent.mp4",
    "Video for a voice": "ovi_example_voice.flac",
    "Redo a word": "ovi_example_clip.mp4",
}
"""What is given to templates whose thumbnails show before and after, by what follows the number in their titles."""
BY = "small model"
"""What made the clips; the templates are set for the published weights."""
REDONE = (0.35, 0.55)
"""Of the clip of 2 s that is given, what is regenerated, as shares."""
LORA_LAYER = "diffusion_model.blocks.0.self_attn.q"


def main(argv: list[str] | None = None) -> int:
    """Draw the thumbnails of the workflows named, or of all; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="python3 -m tools.workflows.results", description=__doc__)
    parser.add_argument("titles", nargs="*", metavar="TITLE", help="a workflow's title; without one, all of them")
    titles = parser.parse_args(argv).titles or sorted(file.stem for file in FOLDER.glob("*.json"))
    try:
        installation = setup.ensure()
        if Path(sys.executable) != installation.python:  # the one that has PyAV and Pillow
            command = [str(installation.python), "-m", "tools.workflows.results", *titles]
            return subprocess.run(command, cwd=ROOT, check=False).returncode
        run(installation, titles)
    except DevError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


def run(installation: Installation, titles: Iterable[str]) -> None:
    """Draw the thumbnails one after the other.

    Raises:
        DevError: a template is not there or cannot be run.
    """
    from .. import pack

    pack.load("--cpu")
    from . import poster, scenes

    made = []
    for title in titles:
        if title in scenes.STANDINS:
            say(title)
            poster.draw_rows(scenes.STANDINS[title](), FOLDER / f"{title}.jpg")
        else:
            made.append(title)
    if made:
        _run(installation, made)


def _run(installation: Installation, titles: Iterable[str]) -> None:
    """Draw the thumbnails of what the small model makes; of templates that are alike for it, one is run."""
    from ..dev import client, demo, workflow
    from ..dev.server import Server, stopped_by_signals
    from . import catalogue, poster

    done: dict[object, list[poster.Clip]] = {}
    with stopped_by_signals(), tempfile.TemporaryDirectory() as work:
        base, models = Path(work, "base"), Path(work, "models")
        (base / "input").mkdir(parents=True)
        for media in ASSETS.glob("ovi_example*"):
            shutil.copy(media, base / "input")
        with Server(installation, base, models=models) as server:
            nodes = client.object_info(server.url)
            for title in titles:
                say(title)
                draw = catalogue.WORKFLOWS[title]
                if draw not in done:
                    graph = catalogue.graph(title, nodes, [], catalogue.SMALL)
                    history = client.run_prompt(server.url, workflow.to_prompt(graph, nodes), graph)
                    done[draw] = [poster.read(saved) for saved in demo.saved_videos(history, base)]
                if not done[draw]:
                    raise DevError(f"{title} ran, and saved no video. Add a Save Video node to it.")
                show(title, done[draw], FOLDER / f"{title}.jpg")


def show(title: str, clips: list[Clip], file: Path) -> None:
    """Write the thumbnail of a template that gave these clips."""
    from . import poster, scenes

    name = title.partition(" - ")[2].capitalize() or title.split(" ", 1)[1]
    if name in BEFORE:
        given = poster.read(ASSETS / BEFORE[name])
        at = scenes.SPOKEN[scenes.FACE] if name != SILENT else poster.even(4)
        redone = REDONE if name == "Redo a word" else (0.0, 0.0)
        rows = [poster.Row("before", given, at=at), poster.Row(f"after ({BY})", clips[0], at=at, redone=redone)]
        poster.draw_rows(rows, file)
    elif len(clips) == 2:
        poster.draw_rows([poster.Row(f"seed {number} ({BY})", clip) for number, clip in enumerate(clips, 1)], file)
    else:
        poster.draw(clips[0], file, BY)


def write_lora(folder: Path) -> None:
    """The LoRA that a workflow names, for Ovi mini: it changes one matrix of the video tower a little."""
    import torch
    from safetensors.torch import save_file

    from .parts import LORA

    folder.mkdir(parents=True, exist_ok=True)
    down, up = torch.full((1, 256), 0.01), torch.full((256, 1), 0.01)
    save_file({f"{LORA_LAYER}.lora_A.weight": down, f"{LORA_LAYER}.lora_B.weight": up}, folder / LORA)


if __name__ == "__main__":
    sys.exit(main())
