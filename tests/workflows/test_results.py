"""Pictures of clips for the template browser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools.dev.setup import ROOT
from tools.workflows import scenes
from tools.workflows.poster import MIDDLE, MOST, SIDE, SILENCE, SMALL, STRIP, Clip, Row, draw, draw_rows, even, read

THUMBNAILS = sorted((ROOT / "workflows").glob("*.jpg"))


def pixels_of(file: Path) -> np.ndarray:
    with Image.open(file) as poster:
        assert poster.size == (SIDE, SIDE)
        return np.asarray(poster.convert("RGB")).astype(int)


def flat(*colours: tuple[int, int, int]) -> list[Image.Image]:
    return [Image.new("RGB", (96, 96), colour) for colour in colours]


def test_a_poster_shows_first_middle_and_last_frame_and_where_the_sound_is(tmp_path: Path):
    colours = np.linspace((255, 0, 0), (0, 0, 255), 25).astype("uint8")  # red to blue over time
    frames = [Image.new("RGB", (160, 96), tuple(map(int, colour))) for colour in colours]
    sound = np.concatenate([np.zeros(8000), 0.1 * np.sin(np.arange(8000))])
    draw(Clip(frames, sound), tmp_path / "poster.jpg")

    pixels = pixels_of(tmp_path / "poster.jpg")
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


def test_before_and_after_stand_one_below_the_other(tmp_path: Path):
    red, blue, tone = (200, 30, 30), (30, 30, 200), np.sin(np.arange(16000))
    rows = [
        Row("before", Clip(flat(red, red, blue, blue), SILENCE), at=even(2)),
        Row("after", Clip(flat(blue, red), tone), at=even(2), redone=(0.5, 1.0)),
    ]
    draw_rows(rows, tmp_path / "rows.jpg")
    pixels = pixels_of(tmp_path / "rows.jpg")
    quarter, half = SIDE // 4, SIDE // 2
    for y, colours in ((quarter // 2, (red, blue)), (half + quarter // 2, (blue, red))):
        for x, colour in zip((quarter, 3 * quarter), colours, strict=True):
            assert np.abs(pixels[y, x] - colour).max() < 12
    silent, heard = pixels[quarter + 40 : quarter + 42, half:], pixels[half + quarter + 30, half + 10 : SIDE - 10]
    assert silent.max() < 60
    assert heard[:, 0].min() > heard[:, 2].max() > 20  # orange, where it was redone
    plain = pixels[half + quarter + 40, half - 60 : half - 10]
    assert plain[:, 2].min() > plain[:, 0].max()


def test_a_voice_alone_and_a_face_beside_its_voice(tmp_path: Path):
    tone, green = np.sin(np.arange(16000)), (30, 160, 60)
    draw_rows([Row("a", Clip([], tone)), Row("b", Clip(flat(green), tone))], tmp_path / "rows.jpg")
    pixels = pixels_of(tmp_path / "rows.jpg")
    assert pixels[SIDE // 4, 20:-20, 2].min() > 120
    assert np.abs(pixels[SIDE // 2 + 96, 96] - green).max() < 12
    assert pixels[SIDE * 3 // 4, SIDE // 2 + 20 : -20, 2].min() > 120


def test_the_sound_of_an_audio_file_is_read_without_frames():
    clip = read(ROOT / "assets" / "ovi_example_voice.flac")
    assert clip.frames == []
    assert np.abs(clip.sound).max() > 0.1


@pytest.mark.parametrize(
    "title", ["12 Draft, then large", "19 Two people", "26 LTX-Video to sound", "33 Ovi to more frames a second"]
)
def test_what_was_not_generated_says_that_it_is_drawn(title: str):
    rows = scenes.STANDINS[title]()
    assert sum(row.height for row in rows) == SIDE
    assert rows[-1].label.endswith(scenes.DRAWN)
    assert rows[-1].clip.sound.any()
    if title.endswith("to sound"):
        assert rows[0].label == "LTX-Video" + scenes.DRAWN
        assert rows[0].clip == Clip(rows[1].clip.frames, SILENCE)


@pytest.mark.parametrize("file", THUMBNAILS, ids=lambda file: file.stem)
def test_every_thumbnail_is_small_and_shows_a_clip(file: Path):
    assert file.stat().st_size < MOST
    assert pixels_of(file).std() > 20  # and no graph, which is drawn on another size
