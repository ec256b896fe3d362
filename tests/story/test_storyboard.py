"""Ovi Storyboard, the node: as ComfyUI checks, runs and saves it."""

from __future__ import annotations

import time

import av
import folder_paths
import pytest
import story_cases as story
from comfy_api.latest import InputImpl
from join_cases import clip
from ovi_native.nodes import storyboard
from ovi_native.nodes.storyboard import OviStoryboard
from ovi_native.ovi_core.story.plan import Settings
from ovi_native.ovi_core.story.script import parse
from PIL import Image
from refusals import refusal
from server import PromptServer

SCRIPT = "guidance: 1, 1\nshot 0.4 s\nscene: A pier.\n\nshot 0.4 s\nscene: A boat.\npicture: boat.png\n"
SMALL = {"variant": "mini", "width": 64, "height": 32, "overlap_seconds": 0.2, "correct": "off", "seed": 1, "steps": 1}
SAMPLING = {"video_cfg": 4.0, "audio_cfg": 3.0, "shift": 5.0, "solver": "unipc", "skip_layers": "1"}


pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture(scope="module", autouse=True)
def models():
    yield story.models()
    story.models.cache_clear()


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """ComfyUI's input and output folder, with a picture in the one."""
    for name in ("input", "output"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(folder_paths, f"{name}_directory", str(tmp_path / name))
    Image.new("RGB", (90, 60), (200, 100, 50)).save(tmp_path / "input" / "boat.png")
    return tmp_path


def run(script=SCRIPT, **more):
    return OviStoryboard.execute(*story.models(), script, **(SMALL | SAMPLING | more))


def refused(found, remedy, script=SCRIPT, **more):
    expected = {"node": "Ovi Storyboard", "input": "script", "found": found, "remedy": remedy}
    refusal(OviStoryboard.execute, *story.models(), script, **SMALL, **SAMPLING, **more, **expected)


def test_a_film_comes_out_as_a_file_that_the_host_saves(folders):
    video, report = run(start_image=clip(1, height=60, width=90)).result
    assert isinstance(video, InputImpl.VideoFromFile)
    path = video.get_stream_source()
    assert path.startswith(str(folders / "output" / "ovi_stories" / "films"))
    assert (video.get_dimensions(), video.get_frame_count(), video.get_frame_rate()) == ((64, 32), 18, 24)
    assert path in report
    saved = folders / "saved.mp4"
    video.save_to(str(saved))
    with av.open(str(saved)) as file:
        assert sum(1 for _ in file.decode(video=0)) == 18
        assert len(file.streams.audio) == 1


def test_it_tells_how_far_it_is_under_the_node(folders, monkeypatch):
    told = []

    class Server:
        def send_progress_text(self, text, node_id):
            told.append((node_id, text))

    monkeypatch.setattr(PromptServer, "instance", Server(), raising=False)
    node = type("Run", (OviStoryboard,), {"hidden": type("Hidden", (), {"unique_id": "7"})})
    node.execute(*story.models(), SCRIPT, **SMALL, **SAMPLING)
    assert [text.split(".")[0] for _, text in told] == [
        "Shot 1 of 2, step 1 of 1",
        "Shot 2 of 2, step 1 of 1",
        "Writing the film",
    ]
    assert {node_id for node_id, _ in told} == {"7"}


STRENGTHS = "video_cfg 4 and audio_cfg 3 are for Ovi's own weights. For dreamid_omni set 3 and 4."
SKIPPED = "skip_layers 11 is for Ovi's own weights. For dreamid_omni set auto, which is 0 (none)."
SIZE = "The weights dreamid_omni were trained at 1280x704 and 992x512 px; this clip has 64x32."
LENGTH = "The weights dreamid_omni were trained on 5 s; this clip has 0.38 s."
SHORT = "shot 0.4 s\nscene: Night.\nshot 0.4 s\nscene: Day."


@pytest.mark.parametrize(
    ("text", "changed", "notes"),
    [
        (SHORT, {}, [STRENGTHS, SIZE, LENGTH]),
        (SHORT, {"video_cfg": 3.0, "audio_cfg": 4.0}, [SIZE, LENGTH]),
        (f"guidance: 1, 1\n{SHORT}", {"width": 992, "height": 512}, [LENGTH]),
        (SHORT.replace("0.4", "5"), {"width": 1280, "height": 704, "skip_layers": (11,)}, [STRENGTHS, SKIPPED]),
        (SHORT, {"variant": "960x960_10s"}, []),
        (SHORT, {"width": 65}, []),  # an error of its own, with the line
    ],
)
def test_what_does_not_fit_the_variant_is_reported(text, changed, notes):
    chosen = {"variant": "dreamid_omni", "width": 64, "height": 32, "skip_layers": ()}
    assert storyboard._notes(parse(text), Settings(**(chosen | changed))) == notes


@pytest.mark.parametrize("name", ["missing.png", "../output/secret.png"])
def test_a_picture_that_is_not_there_is_told_before_anything_is_made(folders, name):
    Image.new("RGB", (90, 60)).save(folders / "output" / "secret.png")
    refused("not in ComfyUI's input folder", "Put the image", SCRIPT.replace("boat.png", name))
    assert [path.name for path in (folders / "output").iterdir()] == ["secret.png"]


def test_a_file_that_is_no_picture_is_told(folders):
    (folders / "input" / "boat.png").write_text("no picture")
    refused("line 5, picture: 'boat.png', which cannot be read as an image", "image editor")


def test_several_start_images_are_refused(folders):
    refusal(
        run,
        start_image=clip(2),
        node="Ovi Storyboard",
        input="start_image",
        found="2 images",
        remedy="Pick one image",
    )


def test_a_mistake_in_the_script_is_told_before_anything_is_loaded():
    told = OviStoryboard.validate_inputs("shot 5 s\nsceen: x")
    assert "Ovi Storyboard, input 'script'" in told
    assert "line 2" in told
    assert OviStoryboard.validate_inputs(SCRIPT) is True
    assert OviStoryboard.validate_inputs() is True  # connected: not known yet
    refused("no shot", "shot 5 s", "")


def test_the_node_runs_again_when_a_picture_has_changed(folders):
    before = OviStoryboard.fingerprint_inputs(SCRIPT, seed=1)
    assert before == OviStoryboard.fingerprint_inputs(SCRIPT, seed=1)
    time.sleep(0.01)
    Image.new("RGB", (90, 60), (0, 100, 50)).save(folders / "input" / "boat.png")
    assert before != OviStoryboard.fingerprint_inputs(SCRIPT, seed=1)
    (folders / "input" / "boat.png").unlink()
    assert OviStoryboard.fingerprint_inputs(SCRIPT, seed=1) == []
