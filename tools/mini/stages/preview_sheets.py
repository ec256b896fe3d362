"""Preview pictures: rows of frames, spectrograms and waveforms, written as one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..measure.sound import FLOOR, spectrogram

FRAMES = 10
GAP = 2


def picture_rows(frames: np.ndarray, count: int = FRAMES, height: int = 96) -> np.ndarray:
    """``count`` frames of [F, H, W, 3] in 0..1 side by side, ``height`` pixels high."""
    chosen = frames[np.linspace(0, len(frames) - 1, count).round().astype(int)]
    cells = [np.asarray(_resized(frame, height)) for frame in chosen]
    gap = np.full((height, GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([part for cell in cells for part in (cell, gap)], axis=1)


def _resized(frame: np.ndarray, height: int) -> Image.Image:
    picture = Image.fromarray((np.clip(frame, 0, 1) * 255).round().astype(np.uint8))
    return picture.resize((round(picture.width * height / picture.height), height))


def sound_row(
    sound: np.ndarray, width: int, marks: Sequence[float] = (), seconds: float | None = None, height: int = 48
) -> np.ndarray:
    """Spectrogram of a sound, ``width`` pixels wide, with red marks at some times (seconds)."""
    level = np.log10(np.maximum(spectrogram(sound), FLOOR)) / -np.log10(FLOOR) + 1
    picture = Image.fromarray((np.clip(level.T[::-1], 0, 1) * 255).astype(np.uint8)).resize((width, height))
    row = np.repeat(np.asarray(picture)[..., None], 3, axis=2).copy()
    for mark in marks:
        column = min(int(mark / (seconds or len(sound) / 16000) * width), width - 1)
        row[-height // 4 :, max(column - 1, 0) : column + 1] = (255, 60, 60)
    return row


def save_sheet(rows: Sequence[np.ndarray], file: Path) -> None:
    """Write rows [h, w, 3] of bytes under each other."""
    width = max(row.shape[1] for row in rows)
    sheet = Image.new("RGB", (width, sum(row.shape[0] + GAP for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(Image.fromarray(row), (0, top))
        top += row.shape[0] + GAP
    sheet.save(file)
