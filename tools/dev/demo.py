"""Makes clips from a fresh checkout: runs the shipped workflows on a real ComfyUI server."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import full_weights, workflow
from .client import ConnectionLost, object_info, run_prompt
from .clip_check import check_clip, frames_for, read_clip, table
from .contact_sheet import draw_sheet
from .problems import DevError
from .server import Server, stopped_by_signals
from .setup import ROOT, Installation, say

if TYPE_CHECKING:
    from ..mini.measure.marks import Marks

SHIPPED = [
    ROOT / "workflows" / f"00 Try it now - {job}.json"
    for job in ("text to video", "image to video", "sound for a silent clip")
]
EXAMPLE_PICTURE = ROOT / "assets" / "ovi_example_first.jpg"
OUTPUT = ROOT / "output"


@dataclass(frozen=True)
class Options:
    """The demo's command-line options; see ``dev.py demo --help``."""

    base: Path
    models: Path | None = None
    workflow: Path | None = None
    port: int | None = None
    keep: bool = False
    seed: int | None = None


def run(installation: Installation, options: Options) -> int:
    """Make the clips, the contact sheet and the report; returns the exit status (1 when a check fails)."""
    graphs = [(file, workflow.load(file)) for file in ([options.workflow] if options.workflow else SHIPPED)]
    with stopped_by_signals():
        server = Server(installation, options.base, options.port, options.models)
        say("Starting ComfyUI ...")
        with server:
            for example in EXAMPLE_PICTURE.parent.glob("ovi_example*"):
                shutil.copy(example, options.base / "input")
            clips = [clip for file, graph in graphs for clip in make_clips(server, file, graph, options)]
            if options.keep:
                say(f"ComfyUI keeps running at {server.url}; to stop it: kill {server.pid}")
                server.leave_running()
    return report(clips, small=options.models is None)


@dataclass(frozen=True)
class MadeClip:
    """One video file of one workflow run, and what its graph promised."""

    title: str
    file: Path
    frames: int | None
    size: tuple[int, int] | None


def prompt_for(graph: dict[str, Any], nodes: dict[str, Any], options: Options) -> dict[str, Any]:
    """The API prompt of a graph; a shipped one is set to the weights that --models holds."""
    prompt = workflow.to_prompt(graph, nodes)
    if options.models and not options.workflow:
        files = nodes["OviModelLoader"]["input"]["required"]["model_name"]
        variant = full_weights.variant_among(files[1]["options"] if files[0] == "COMBO" else files[0])
        say(f"Weights: {variant.name}")
        prompt = full_weights.fit_to_variant(prompt, variant)
    return prompt if options.seed is None else workflow.set_seed(prompt, options.seed)


def make_clips(server: Server, file: Path, graph: dict[str, Any], options: Options) -> list[MadeClip]:
    """Run one workflow and copy the videos it saved to ``output/``."""
    prompt = prompt_for(graph, object_info(server.url), options)
    say(f"{file.stem}")
    began = time.monotonic()
    try:
        history = run_prompt(server.url, prompt, graph)
    except ConnectionLost:
        if server.running:
            raise
        raise server.died() from None
    saved = list(saved_videos(history, server.base))
    if not saved:
        raise DevError(f"{file.name} ran, and saved no video. Add a Save Video node to it.")
    frames, size = promised(prompt)
    OUTPUT.mkdir(exist_ok=True)
    clips = []
    for index, video in enumerate(saved):
        copy = OUTPUT / f"{file.stem}{f' {index + 1}' if index else ''}{video.suffix}"
        shutil.copyfile(video, copy)
        clips.append(MadeClip(copy.stem, copy, frames, size))
    say(f"  done in {time.monotonic() - began:.0f} s")
    return clips


def saved_videos(history: dict[str, Any], base: Path) -> Iterator[Path]:
    """Video files among a history entry's outputs."""
    for output in history["outputs"].values():
        for saved in output.get("images", []) + output.get("video", []) + output.get("gifs", []):
            path = base / saved["type"] / saved["subfolder"] / saved["filename"]
            if path.suffix.lower() in (".mp4", ".mkv", ".webm", ".mov") and saved["type"] == "output":
                yield path


def promised(prompt: dict[str, Any]) -> tuple[int | None, tuple[int, int] | None]:
    """Frames and (width, height) that the graph's one Empty Ovi Latent asks for; None where the graph does not say.

    A clip that is given keeps its own.
    """
    latents = [node["inputs"] for node in prompt.values() if node["class_type"] == "EmptyOviLatent"]
    as_given = any(node["class_type"] == "OviLockVideo" for node in prompt.values())
    sizes = ("seconds", "width", "height")
    if as_given or len(latents) != 1 or any(isinstance(latents[0].get(name), list) for name in sizes):
        return None, None
    return frames_for(latents[0]["seconds"]), (latents[0]["width"], latents[0]["height"])


def report(clips: list[MadeClip], small: bool) -> int:
    """Check every clip, print the table, draw the contact sheet; 1 when a check fails, else 0."""
    good = True
    for clip in clips:
        findings = check_clip(read_clip(clip.file), clip.frames, clip.size)
        good = good and all(row.ok for row in findings)
        print(table(str(clip.file), findings))
    sheet = OUTPUT / "contact_sheet.png"
    marks = {clip.file: marks_of(clip.file) for clip in clips} if small else {}
    draw_sheet([(clip.title, clip.file) for clip in clips], sheet, marks)
    print(f"{sheet}\n  all clips side by side" + (", with contacts and onsets marked" if small else ""))
    if small:
        print("Made with Ovi mini, which knows a small world only. For real clips: python3 dev.py demo --models DIR")
    return 0 if good else 1


def marks_of(file: Path) -> Marks:
    """Contacts and onsets of a clip of Ovi mini's world."""
    from ..mini.measure import marks  # imports torch, which a run with other weights does without

    return marks.marks_of(file)
