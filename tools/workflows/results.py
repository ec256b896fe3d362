"""Thumbnails of what the workflows make: ``python3 -m tools.workflows.results [TITLE ...]``.

Every workflow runs with the values it ships with on a real server with Ovi mini, and its thumbnail in the template
browser becomes one of the clip that it saves. Where weights are needed that are not here, it stays a diagram.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from ..dev import setup
from ..dev.problems import DevError
from ..dev.setup import ROOT, Installation, say

FOLDER = ROOT / "workflows"
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
    """Run the workflows one after the other and draw each as soon as it has run.

    Raises:
        DevError: a workflow is not there or cannot be run.
    """
    from ..dev import client, demo, workflow
    from ..dev.server import Server, stopped_by_signals
    from . import catalogue, poster, thumbnail

    with stopped_by_signals(), tempfile.TemporaryDirectory() as work:
        base, models = Path(work, "base"), Path(work, "models")
        (base / "input").mkdir(parents=True)
        for media in (ROOT / "assets").glob("ovi_example*"):
            shutil.copy(media, base / "input")
        write_lora(models / "loras")
        with Server(installation, base, models=models) as server:
            nodes = client.object_info(server.url)
            for title in titles:
                graph = catalogue.graph(title, nodes, [], catalogue.SMALL)
                picture = FOLDER / f"{title}.jpg"
                if catalogue.needs_other_weights(title):
                    thumbnail.draw(graph, picture)
                    continue
                say(title)
                began = time.monotonic()
                history = client.run_prompt(server.url, workflow.to_prompt(graph, nodes), graph)
                saved = next(demo.saved_videos(history, base), None)
                if saved is None:
                    raise DevError(f"{title} ran, and saved no video. Add a Save Video node to it.")
                poster.draw(poster.read(saved), picture)
                say(f"  {picture.name} drawn after {time.monotonic() - began:.0f} s")


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
