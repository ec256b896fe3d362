"""A square image of a clip, for ComfyUI's template browser: its middle frame, three more over time, its waveform."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageOps

SIDE = 384
MIDDLE, SMALL = 288, 96  # pixels a side of the middle frame and of those beside it, first to last
STRIP = SIDE - MIDDLE
MOST = 40_000  # bytes
PAPER, LINE, WAVE = "#16181d", "#6c7079", "#5aa9e6"


@dataclass(frozen=True)
class Clip:
    """A decoded clip: frames, and samples in -1..1 of its one or first channel, none if it is silent."""

    frames: list[Image.Image]
    sound: np.ndarray


def read(file: Path) -> Clip:
    with av.open(str(file)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    with av.open(str(file)) as container:
        if not container.streams.audio:
            return Clip(frames, np.zeros(0))
        to_float = av.AudioResampler(format="fltp")
        blocks = [part.to_ndarray()[0] for frame in container.decode(audio=0) for part in to_float.resample(frame)]
    return Clip(frames, np.concatenate(blocks) if blocks else np.zeros(0))


def draw(clip: Clip, file: Path) -> None:
    """Write the image, of less than :data:`MOST` bytes."""
    poster = Image.new("RGB", (SIDE, SIDE), PAPER)
    last = len(clip.frames) - 1
    poster.paste(ImageOps.fit(clip.frames[last // 2], (MIDDLE, MIDDLE)), (0, 0))
    for row in range(3):
        poster.paste(ImageOps.fit(clip.frames[last * row // 2], (SMALL, SMALL)), (MIDDLE, SMALL * row))
    _wave(ImageDraw.Draw(poster), clip.sound)
    for quality in (90, 80, 70, 60, 50):
        buffer = io.BytesIO()
        poster.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() < MOST:
            break
    file.write_bytes(buffer.getvalue())


def _wave(pen: ImageDraw.ImageDraw, sound: np.ndarray) -> None:
    """The loudest and the lowest sample in each column of pixels; the clip's loudest fills the strip."""
    middle, half = MIDDLE + STRIP / 2, STRIP / 2 - 6
    pen.line((0, middle, SIDE, middle), fill=LINE)
    if not sound.size or not np.abs(sound).max():
        return
    for x, part in enumerate(np.array_split(sound / np.abs(sound).max(), SIDE)):
        if part.size:
            pen.line((x, middle - half * float(part.max()), x, middle - half * float(part.min())), fill=WAVE)
