"""The demo's check of a finished clip finds what is wrong in files that PyAV writes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tools.dev.clip_check import check_clip, frames_for, read_clip, table
from tools.dev.contact_sheet import draw_sheet

GOOD = {"frames": 121, "fps": 24, "seconds": 5.024, "rate": 16000, "codec": "libx264"}


def write_clip(file: Path, *, frames: int, fps: int, seconds: float, rate: int, codec: str) -> Path:
    """An MP4 of 64x32 px with a tone of ``seconds``; no audio when that is 0."""
    with av.open(str(file), "w") as container:
        video = container.add_stream(codec, rate=Fraction(fps))
        video.width, video.height, video.pix_fmt = 64, 32, "yuv420p"
        audio = container.add_stream("aac", rate=rate, layout="mono") if seconds else None
        for index in range(frames):
            picture = np.full((32, 64, 3), 2 * (index % 100), np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        if audio is not None:
            tone = 0.5 * np.sin(np.arange(round(seconds * rate)) * 2 * np.pi * 440 / rate)
            sound = av.AudioFrame.from_ndarray(tone.astype(np.float32)[None], format="fltp", layout="mono")
            sound.sample_rate, sound.pts = rate, 0  # without a time the encoder cannot mark its run-in
            container.mux(audio.encode(sound))
            container.mux(audio.encode(None))
    return file


def wrong(file: Path, frames: int | None = 121, size: tuple[int, int] | None = (64, 32)) -> list[str]:
    return [row.name for row in check_clip(read_clip(file), frames, size) if not row.ok]


def test_a_clip_as_ovi_makes_it_passes(tmp_path: Path):
    file = write_clip(tmp_path / "clip.mp4", **GOOD)
    assert wrong(file) == []
    facts = read_clip(file)
    assert (facts.frames, facts.sample_rate) == (121, 16000)
    assert facts.video_seconds == pytest.approx(121 / 24, abs=1e-3)
    assert facts.audio_seconds == pytest.approx(5.024, abs=1e-3)


@pytest.mark.parametrize(
    ("change", "rows"),
    [
        ({"fps": 25}, ["video", "length"]),
        ({"codec": "mpeg4"}, ["video"]),
        ({"rate": 44100}, ["audio"]),
        ({"seconds": 0}, ["audio", "length"]),
        ({"seconds": 5.024 - 0.05}, ["length"]),
        ({"seconds": 5.024 + 0.07}, ["length"]),
        ({"frames": 120}, ["frames"]),
    ],
)
def test_each_fault_is_found_and_no_other(tmp_path: Path, change: dict, rows: list[str]):
    file = write_clip(tmp_path / "clip.mp4", **{**GOOD, **change})
    assert wrong(file) == rows
    text = table("clip", check_clip(read_clip(file), 121))
    assert text.count("WRONG") == len(rows)


def test_another_size_is_found(tmp_path: Path):
    assert wrong(write_clip(tmp_path / "clip.mp4", **GOOD), size=(32, 64)) == ["size"]


@pytest.mark.parametrize(("seconds", "frames"), [(5.0, 121), (10.0, 241), (0.2, 5), (121 / 24, 121)])
def test_frames_for_a_wanted_length(seconds: float, frames: int):
    assert frames_for(seconds) == frames


def test_contact_sheet_shows_frames_over_their_sound(tmp_path: Path):
    clip = write_clip(tmp_path / "clip.mp4", **GOOD)
    silent = write_clip(tmp_path / "silent.mp4", **{**GOOD, "seconds": 0, "frames": 3})
    draw_sheet([("clip", clip), ("silent", silent)], tmp_path / "sheet.png")
    draw_sheet([("silent", silent)], tmp_path / "alone.png")
    sheet, alone = (Image.open(tmp_path / name).convert("RGB") for name in ("sheet.png", "alone.png"))
    blue = (0x5A, 0xA9, 0xE6)
    tone = sum(count for count, colour in sheet.getcolors(2**24) if colour == blue)
    assert sheet.height > alone.height
    # A tone of amplitude 0.5 fills half the height of its strip (36 px) over the whole width; silence fills nothing.
    assert tone == pytest.approx(36 * 1280, rel=0.1)
    assert all(colour != blue for _, colour in alone.getcolors(2**24))
