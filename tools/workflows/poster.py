"""A square image of what a workflow gives, for ComfyUI's template browser: frames over time, and the sound below them.

One clip has its middle frame large; several, as before and after, stand one below the other.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

SIDE = 384
MIDDLE, SMALL = 288, 96  # pixels a side of the middle frame and of those beside it, first to last
STRIP = SIDE - MIDDLE
MOST = 40_000  # bytes
PAPER, LINE, WAVE, REDONE = "#16181d", "#6c7079", "#5aa9e6", "#f2a03d"
CHIP, INK = "#000000", "#ffffff"
FONT = ImageFont.load_default(17)
Box = tuple[int, int, int, int]  # left, top, width, height


@dataclass(frozen=True)
class Clip:
    """A decoded clip: frames, and samples in -1..1 of its one or first channel, none if it is silent."""

    frames: list[Image.Image]
    sound: np.ndarray


def even(count: int) -> tuple[float, ...]:
    """That many moments from a clip's start to its end, as shares of it."""
    return tuple(number / (count - 1) for number in range(count))


EVEN = even(4)


@dataclass(frozen=True)
class Row:
    """What stands beside what in an image of several.

    Attributes:
        label: written into its corner.
        clip: one frame is an image beside its sound, several are a strip above it, none leaves the sound alone.
        height: in pixels.
        at: which frames are shown, as shares of the clip.
        redone: from where to where the sound has another colour, as shares of the clip.
        text: lines, instead of a clip.
    """

    label: str
    clip: Clip
    height: int = SIDE // 2
    at: Sequence[float] = EVEN
    redone: tuple[float, float] = (0.0, 0.0)
    text: Sequence[str] = ()


SILENCE = np.zeros(0)
NOTHING = Clip([], SILENCE)


def read(file: Path) -> Clip:
    """A video's frames and sound, or the sound alone of an audio file."""
    frames, blocks = [], []
    with av.open(str(file)) as container:
        if container.streams.video:
            frames = [frame.to_image() for frame in container.decode(video=0)]
    with av.open(str(file)) as container:
        if container.streams.audio:
            to_float = av.AudioResampler(format="fltp")
            blocks = [part.to_ndarray()[0] for frame in container.decode(audio=0) for part in to_float.resample(frame)]
    return Clip(frames, np.concatenate(blocks) if blocks else SILENCE)


def draw(clip: Clip, file: Path, label: str = "") -> None:
    """Write the image of one clip, of less than :data:`MOST` bytes."""
    poster = Image.new("RGB", (SIDE, SIDE), PAPER)
    last = len(clip.frames) - 1
    poster.paste(ImageOps.fit(clip.frames[last // 2], (MIDDLE, MIDDLE)), (0, 0))
    for row in range(3):
        poster.paste(ImageOps.fit(clip.frames[last * row // 2], (SMALL, SMALL)), (MIDDLE, SMALL * row))
    pen = ImageDraw.Draw(poster)
    _wave(pen, clip.sound, (0, MIDDLE, SIDE, STRIP))
    if label:
        _label(pen, label, (8, MIDDLE + 5))
    _save(poster, file)


def draw_rows(rows: Sequence[Row], file: Path) -> None:
    """Write the image of several clips, of less than :data:`MOST` bytes; their heights are :data:`SIDE` together."""
    poster = Image.new("RGB", (SIDE, SIDE), PAPER)
    pen = ImageDraw.Draw(poster)
    top = 0
    for row in rows:
        _row(poster, pen, row, top)
        if top:
            pen.line((0, top, SIDE, top), fill=LINE, width=2)
        top += row.height
    _save(poster, file)


def _row(poster: Image.Image, pen: ImageDraw.ImageDraw, row: Row, top: int) -> None:
    frames, sound, high = row.clip.frames, row.clip.sound, row.height
    left, above = 8, top + 5  # of the label, which hides no frame where there is a place without
    if row.text:
        for number, line in enumerate(row.text):
            pen.text((14, top + 38 + 22 * number), line, fill=INK, font=FONT)
    elif len(frames) == 1:
        poster.paste(ImageOps.fit(frames[0], (high, high)), (0 if sound.size else (SIDE - high) // 2, top))
        if sound.size:
            _wave(pen, sound, (high, top, SIDE - high, high))
            left += high
    elif not frames:
        _wave(pen, sound, (0, top, SIDE, high))
    else:
        _strip(poster, row, top)
        _wave(pen, sound, (0, top + high // 2, SIDE, high // 2), row.redone)
        above += high // 2
    _label(pen, row.label, (left, above))


def _label(pen: ImageDraw.ImageDraw, text: str, at: tuple[int, int]) -> None:
    left, top, right, below = pen.textbbox(at, text, font=FONT)
    pen.rounded_rectangle((left - 5, top - 3, right + 5, below + 4), 5, fill=CHIP)
    pen.text(at, text, fill=INK, font=FONT)


def _strip(poster: Image.Image, row: Row, top: int) -> None:
    """Frames side by side; where cropping would hide most of them, they are whole and smaller."""
    wide, high, frames = SIDE // len(row.at), row.height // 2, row.clip.frames
    for number, share in enumerate(row.at):
        frame = frames[round((len(frames) - 1) * share)]
        if 2 * wide <= high * frame.width / frame.height:
            shown = ImageOps.pad(frame, (wide - 2, high), color=PAPER)
        else:
            shown = ImageOps.fit(frame, (wide, high))
        poster.paste(shown, (wide * number, top))


def _wave(pen: ImageDraw.ImageDraw, sound: np.ndarray, box: Box, redone: tuple[float, float] = (0.0, 0.0)) -> None:
    """The loudest and the lowest sample in each column of pixels; the clip's loudest fills the box."""
    left, top, wide, high = box
    middle, half = top + high / 2, high / 2 - 6
    pen.line((left, middle, left + wide, middle), fill=LINE)
    if not sound.size or not np.abs(sound).max():
        return
    for x, part in enumerate(np.array_split(sound / np.abs(sound).max(), wide)):
        if part.size:
            ends = (left + x, middle - half * float(part.max()), left + x, middle - half * float(part.min()))
            pen.line(ends, fill=REDONE if redone[0] <= x / wide < redone[1] else WAVE)


def _save(poster: Image.Image, file: Path) -> None:
    for quality in (90, 80, 70, 60, 50):
        buffer = io.BytesIO()
        poster.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() < MOST:
            break
    file.write_bytes(buffer.getvalue())
