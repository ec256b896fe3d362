"""What a training run was: its stages as a table, its curves as a picture."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

VELOCITIES = {"video": "error of the video velocity", "audio": "error of the audio velocity"}
# Of each stage: the figures of its log that are drawn, and how they are called.
DRAWN = {
    "video-vae": {"psnr": "PSNR of noisy crops, dB"},
    "video-decoder": {"psnr": "PSNR of noisy clips, dB"},
    "audio-vae": {"mel": "error of the spectrogram"},
    "vocoder": {"mel": "error of the spectrogram"},
    "twin": VELOCITIES,
    "finish": VELOCITIES,
}
HISTORY = "training.json"
POINTS = 100  # of a curve
PANEL = (320, 200)
INKS = ("#2a6fb0", "#c0562b")
PAPER, FRAME = "#ffffff", "#9a9a9a"


def history(run: Path) -> dict[str, Any]:
    """Of each stage of a run: steps, minutes, and its curves as (step, value); after those it was taken up from."""
    before = run / HISTORY
    earlier = json.loads(before.read_text(encoding="utf-8")) if before.exists() else {}
    return {stage: _stage(run / stage / "log.jsonl", names, earlier.get(stage)) for stage, names in DRAWN.items()}


def _stage(log: Path, names: Iterable[str], earlier: dict[str, Any] | None) -> dict[str, Any]:
    so_far = earlier or {"steps": 0, "minutes": 0, "curves": {name: [] for name in names}}
    if earlier and not log.exists():
        return earlier
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    measured = [entry for entry in entries if "loss" in entry]
    start = so_far["steps"]
    return {
        "steps": start + entries[-1]["step"],
        "minutes": so_far["minutes"] + round(entries[-1]["seconds"] / 60),
        "curves": {
            name: so_far["curves"][name] + _thinned([(start + entry["step"], entry[name]) for entry in measured])
            for name in names
        },
    }


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most ``POINTS`` points, each the mean of its neighbours."""
    size = max(1, -(-len(points) // POINTS))
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], round(sum(value for _, value in group) / len(group), 5)) for group in groups]


def table(stages: dict[str, Any]) -> str:
    """The stages as Markdown."""
    rows = [f"| {name} | {stage['steps']:,} | {stage['minutes']} |" for name, stage in stages.items()]
    return "\n".join(["| stage | steps | minutes |", "|---|---|---|", *rows])


def draw(stages: dict[str, Any], file: Path) -> None:
    """One panel for each stage."""
    sheet = Image.new("RGB", (PANEL[0] * 2, PANEL[1] * -(-len(stages) // 2)), PAPER)
    for index, (name, stage) in enumerate(stages.items()):
        sheet.paste(_panel(name, stage), (PANEL[0] * (index % 2), PANEL[1] * (index // 2)))
    sheet.save(file)


def _panel(name: str, stage: dict[str, Any]) -> Image.Image:
    panel = Image.new("RGB", PANEL, PAPER)
    pen, font = ImageDraw.Draw(panel), ImageFont.load_default(11)
    left, top, right, bottom = 44, 40, PANEL[0] - 12, PANEL[1] - 22
    pen.rectangle((left, top, right, bottom), outline=FRAME)
    pen.text((left, 2), f"{name}, {stage['steps']:,} steps", fill="black", font=font)
    values = [value for curve in stage["curves"].values() for _, value in curve]
    low, high = min(values), max(values)
    pen.text((2, top - 6), f"{high:.3g}", fill="black", font=font)
    pen.text((2, bottom - 8), f"{low:.3g}", fill="black", font=font)
    for index, (figure, curve) in enumerate(stage["curves"].items()):
        pen.text((left + index * 140, 18), DRAWN[name][figure], fill=INKS[index], font=font)
        place = [
            (left + (right - left) * step / stage["steps"], bottom - (bottom - top) * (value - low) / (high - low))
            for step, value in curve
        ]
        pen.line(place, fill=INKS[index], width=2)
    return panel
