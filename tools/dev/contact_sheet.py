"""One image of several clips: for each a row of frames over time, and the waveform under it on the same time axis.

For clips of the small world, contacts are marked above the waveform and onsets in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from ..mini.measure.marks import Marks

FRAMES = 8  # per clip
WIDTH = 1280  # pixels of the time axis
WAVE_HEIGHT = 72
MARGIN = 16
GAP = 4
PAPER, INK, FAINT, WAVE = "#16181d", "#e8e8ea", "#6c7079", "#5aa9e6"
CONTACT, ONSET = "#ffd166", "#ef476f"


def draw_sheet(clips: list[tuple[str, Path]], out: Path, marks: dict[Path, Marks] | None = None) -> None:
    """Write the contact sheet.

    Args:
        clips: (title, video file) pairs, top to bottom.
        out: PNG file to write.
        marks: of those files whose contacts and onsets are known.
    """
    rows = [_draw_clip(title, file, (marks or {}).get(file)) for title, file in clips]
    sheet = Image.new("RGB", (WIDTH + 2 * MARGIN, sum(row.height + MARGIN for row in rows) + MARGIN), PAPER)
    top = MARGIN
    for row in rows:
        sheet.paste(row, (MARGIN, top))
        top += row.height + MARGIN
    sheet.save(out)


def _draw_clip(title: str, file: Path, marks: Marks | None) -> Image.Image:
    frames, seconds = _frames(file)
    cell = WIDTH / len(frames)
    thumbs = [frame.resize((int(cell) - GAP, round((cell - GAP) * frame.height / frame.width))) for frame in frames]
    head, ticks = 26, 20
    row = Image.new("RGB", (WIDTH, head + thumbs[0].height + ticks + WAVE_HEIGHT), PAPER)
    pen = ImageDraw.Draw(row)
    size = f"{frames[0].width}x{frames[0].height}"
    pen.text((0, 0), f"{title}  ·  {size}  ·  {seconds:.2f} s", fill=INK, font=ImageFont.load_default(16))
    for index, thumb in enumerate(thumbs):
        left = round(index * cell)
        row.paste(thumb, (left, head))
        stamp = f"{index * seconds / len(thumbs):.2f} s"
        pen.text((left, head + thumb.height + 3), stamp, fill=FAINT, font=ImageFont.load_default(11))
    top = row.height - WAVE_HEIGHT
    _draw_wave(pen, _sound(file), seconds, top)
    if marks:
        _draw_marks(pen, marks, seconds, top)
    return row


def _draw_marks(pen: ImageDraw.ImageDraw, marks: Marks, seconds: float, top: int) -> None:
    """A triangle over the waveform for each contact, a line through its upper half for each onset."""
    for time in marks.onsets:
        x = WIDTH * time / seconds
        pen.line((x, top, x, top + WAVE_HEIGHT / 2), fill=ONSET, width=2)
    for time in marks.events:
        x = WIDTH * time / seconds
        pen.polygon(((x - 6, top - 12), (x + 6, top - 12), (x, top - 1)), fill=CONTACT)
    legend = "triangle: seen to touch or speak   line: begins to sound"
    pen.text((WIDTH - 330, 4), legend, fill=FAINT, font=ImageFont.load_default(12))


def _draw_wave(pen: ImageDraw.ImageDraw, audio: tuple[np.ndarray, int], seconds: float, top: int) -> None:
    """Peaks of ``audio`` (mono samples in -1..1, Hz) in each pixel column; the full height is amplitude 1."""
    samples, rate = audio
    middle, half = top + WAVE_HEIGHT / 2, WAVE_HEIGHT / 2 - 2
    pen.line((0, middle, WIDTH, middle), fill=FAINT)
    edges = (np.arange(WIDTH + 1) * seconds * rate / WIDTH).astype(int)
    for x in range(WIDTH):
        part = samples[edges[x] : edges[x + 1]]
        if part.size:
            high, low = float(part.max()), float(part.min())
            pen.line((x, middle - half * min(high, 1), x, middle - half * max(low, -1)), fill=WAVE)


def _frames(file: Path) -> tuple[list[Image.Image], float]:
    """``FRAMES`` images at equal distances from the first on, and the clip's length in seconds."""
    with av.open(str(file)) as container:
        images = [frame.to_image() for frame in container.decode(container.streams.video[0])]
        seconds = len(images) / float(container.streams.video[0].average_rate or 24)
    count = min(FRAMES, len(images))
    return [images[round(index * len(images) / count)] for index in range(count)], seconds


def _sound(file: Path) -> tuple[np.ndarray, int]:
    """The audio as mono samples in -1..1, and its rate in Hz; no samples when the file has no audio."""
    with av.open(str(file)) as container:
        if not container.streams.audio:
            return np.zeros(0), 1
        stream = container.streams.audio[0]
        to_float = av.AudioResampler(format="fltp", layout="mono", rate=stream.rate)
        blocks = [part.to_ndarray()[0] for frame in container.decode(stream) for part in to_float.resample(frame)]
        return np.concatenate(blocks) if blocks else np.zeros(0), stream.rate
