"""The demo's marks: contacts and onsets read back from a finished video file, and drawn on the contact sheet."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from comfy_api.latest import InputImpl, Types
from ovi_native.ovi_core.spec import ClipShape
from PIL import Image, ImageColor

from tools.dev.contact_sheet import CONTACT, ONSET, draw_sheet
from tools.mini.measure.marks import Marks, marks_of
from tools.mini.world.casting import draw_scene
from tools.mini.world.render import Rendered, render


@pytest.fixture(scope="module")
def bouncing() -> Rendered:
    return render(draw_scene(4, ClipShape.from_seconds(128, 128, 2), kind="floor"))


@pytest.fixture(scope="module")
def video(bouncing: Rendered, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clip as ComfyUI saves it."""
    file = tmp_path_factory.mktemp("marks") / "clip.mp4"
    audio = {"waveform": torch.from_numpy(bouncing.sound)[None, None], "sample_rate": 16000}
    components = Types.VideoComponents(torch.from_numpy(bouncing.frames), frame_rate=Fraction(24), audio=audio)
    InputImpl.VideoFromComponents(components).save_to(str(file))
    return file


def test_a_saved_clip_is_marked_where_its_ball_touches_and_sounds(bouncing: Rendered, video: Path) -> None:
    contacts = np.array([time for time in bouncing.truth.contacts if 0.15 < time < 1.85])
    marks = marks_of(video)
    assert len(contacts) >= 2
    for found in (marks.events, marks.onsets):
        assert np.abs(contacts[:, None] - np.array(found)).min(axis=1).max() < 2 / 24
        assert len(found) <= len(bouncing.truth.contacts) + 1


def test_marks_are_drawn_at_their_times(video: Path, tmp_path: Path) -> None:
    draw_sheet([("clip", video)], tmp_path / "plain.png")
    draw_sheet([("clip", video)], tmp_path / "marked.png", {video: Marks(events=(1.0,), onsets=(0.5, 1.5))})
    plain, marked = (np.asarray(Image.open(tmp_path / name)).astype(int) for name in ("plain.png", "marked.png"))
    for colour, columns in ((CONTACT, [0.5]), (ONSET, [0.25, 0.75])):
        here = np.abs(marked - ImageColor.getrgb(colour)).sum(axis=-1) < 20
        assert not (np.abs(plain - ImageColor.getrgb(colour)).sum(axis=-1) < 20).any()
        places = np.flatnonzero(here.any(axis=0)) / marked.shape[1]
        assert {round(float(place), 1) for place in places} <= {round(c, 1) for c in columns} | {0.2, 0.3, 0.7, 0.8}
        assert all(np.abs(places - column).min() < 0.03 for column in columns)
