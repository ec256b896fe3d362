"""An image of a workflow: its groups, boxes and links, for ComfyUI's template browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

SIDE, EDGE = 508, 14
WIRES = {"MODEL": "#b39ddb", "CLIP": "#ffd500", "VAE": "#ff6e6e", "CONDITIONING": "#ffa931", "LATENT": "#ff9cf9"}


def draw(graph: dict[str, Any], file: Path) -> None:
    """Write the image of ``graph``, 508 pixels square."""
    boxes = {node["id"]: (*node["pos"], *node["size"]) for node in graph["nodes"]}
    frames = [(*boxes[key],) for key in boxes] + [tuple(group["bounding"]) for group in graph["groups"]]
    left, top = (min(frame[axis] for frame in frames) for axis in (0, 1))
    wide, high = (max(frame[axis] + frame[axis + 2] for frame in frames) - (left, top)[axis] for axis in (0, 1))
    scale = (SIDE - 2 * EDGE) / max(wide, high)
    shift = (SIDE - wide * scale) / 2, (SIDE - high * scale) / 2

    def at(x: float, y: float) -> tuple[float, float]:
        return shift[0] + (x - left) * scale, shift[1] + (y - top) * scale

    picture = Image.new("RGB", (SIDE, SIDE), "#202020")
    pen = ImageDraw.Draw(picture)
    small, large = ImageFont.load_default(9), ImageFont.load_default(10)
    for group in graph["groups"]:
        x, y, width, height = group["bounding"]
        pen.rectangle((*at(x, y), *at(x + width, y + height)), outline=group["color"], fill="#2b2b2b")
    for _, start, _, end, slot, kind in graph["links"]:
        x, y, width, _ = boxes[start]
        to_x, to_y, _, _ = boxes[end]
        ends = [at(x + width, y + 20), at(to_x, to_y + 20 + 20 * slot)]
        pen.line(ends, fill=WIRES.get(kind, "#9fc5e8"), width=1)
    for node in graph["nodes"]:
        x, y, width, height = boxes[node["id"]]
        corners = (*at(x, y - 30), *at(x + width, y + height))
        pen.rounded_rectangle(corners, 3, fill=node.get("bgcolor", "#4a4a4a"), outline="#101010")
        _write(pen, corners, node.get("title") or node["type"], small)
    for group in graph["groups"]:
        x, y = at(*group["bounding"][:2])
        pen.text((x + 3, max(2, y - 12)), group["title"][:1], fill="#e0e0e0", font=large)
    picture.save(file, quality=88)


def _write(pen: ImageDraw.ImageDraw, corners: tuple[float, ...], text: str, font: Any) -> None:
    room = corners[2] - corners[0] - 6
    while text and pen.textlength(text, font=font) > room:
        text = text[:-1]
    pen.text((corners[0] + 3, corners[1] + 1), text, fill="#f0f0f0", font=font)
