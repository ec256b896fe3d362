"""Pictures of clips for the template browser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tools.workflows.poster import MIDDLE, MOST, SIDE, SMALL, STRIP, Clip, draw


def test_a_poster_shows_first_middle_and_last_frame_and_where_the_sound_is(tmp_path: Path):
    colours = np.linspace((255, 0, 0), (0, 0, 255), 25).astype("uint8")  # red to blue over time
    frames = [Image.new("RGB", (160, 96), tuple(map(int, colour))) for colour in colours]
    sound = np.concatenate([np.zeros(8000), 0.1 * np.sin(np.arange(8000))])
    draw(Clip(frames, sound), tmp_path / "poster.jpg")

    with Image.open(tmp_path / "poster.jpg") as poster:
        assert poster.size == (SIDE, SIDE)
        pixels = np.asarray(poster.convert("RGB")).astype(int)
    for x, y, colour in (
        (MIDDLE // 2, MIDDLE // 2, colours[12]),
        (MIDDLE + SMALL // 2, SMALL // 2, colours[0]),
        (MIDDLE + SMALL // 2, SMALL * 3 // 2, colours[12]),
        (MIDDLE + SMALL // 2, SMALL * 5 // 2, colours[-1]),
    ):
        assert np.abs(pixels[y, x] - colour).max() < 12
    upper = pixels[MIDDLE + 8 : MIDDLE + STRIP // 2 - 12].max(axis=(0, 2))  # above the middle line of the strip
    assert upper[: SIDE // 2 - 8].max() < 60 < upper[SIDE // 2 + 8 :].min()


def test_a_silent_noisy_clip_is_small_enough(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    draw(Clip([Image.fromarray(frame) for frame in noise], np.zeros(0)), tmp_path / "poster.jpg")
    assert 0 < (tmp_path / "poster.jpg").stat().st_size < MOST
