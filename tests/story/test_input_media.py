"""Pictures that a script names: files inside ComfyUI's input folder, whatever the name looks like."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import folder_paths
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ovi_native.nodes.shared import input_media
from ovi_native.nodes.storyboard import OviStoryboard
from ovi_native.ovi_core import safe_write
from ovi_native.ovi_core.errors import OviError
from PIL import Image


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for name in ("input/sub", "output", "temp"):
        (folder / name).mkdir(parents=True)
    for name in ("input/boat.png", "input/sub/pier.png", "input/con.png", "output/film.png", "secret.png"):
        Image.new("RGB", (40, 34), (200, 100, 50)).save(folder / name)
    (folder / "input" / "text.png").write_text("no image")
    (folder / "input" / "empty.png").touch()
    (folder / "input" / "link.png").symlink_to(folder / "secret.png")
    (folder / "input" / "out").symlink_to(folder)
    (folder / "input" / "loop.png").symlink_to("loop.png")
    return folder


@pytest.fixture(autouse=True)
def comfyui(folders, monkeypatch):
    for name in ("input", "output", "temp"):
        monkeypatch.setattr(folder_paths, f"{name}_directory", str(folders / name))


@pytest.mark.parametrize("name", ["boat.png", "sub/pier.png", "sub\\pier.png", "boat.png [input]", "film.png [output]"])
def test_images_of_the_folder_are_loaded_however_their_system_writes_them(name):
    image = input_media.load(name)
    assert image.shape == (1, 34, 40, 3)
    assert torch.allclose(image[0, 0, 0], torch.tensor([200, 100, 50]) / 255, atol=2 / 255)
    assert [stamp[0] for stamp in input_media.stamps([name])] == [name]


def test_accents_may_be_written_apart_from_their_letters(folders):
    composed, apart = (unicodedata.normalize(form, "quai à l'été.png") for form in ("NFC", "NFD"))
    Image.new("RGB", (40, 34)).save(folders / "input" / composed)
    Image.new("RGB", (40, 34)).save(folders / "output" / apart)
    for name in (apart, f"{apart} [input]", f"{composed} [output]"):
        assert input_media.load(name).shape == (1, 34, 40, 3)
        assert [stamp[0] for stamp in input_media.stamps([name])] == [name]
    (folders / "input" / unicodedata.normalize("NFC", "é.png")).symlink_to(folders / "secret.png")
    with pytest.raises(OviError):
        input_media.load(unicodedata.normalize("NFD", "é.png"))


OUTSIDE = [
    "../secret.png",
    "sub/../../secret.png",
    "..\\secret.png",
    "out/secret.png",
    "link.png",
    "loop.png",
    "loop.png/x",
    "/etc/passwd",
    "//server/share/x.png",
    "\\\\server\\share\\x.png",
    "C:\\Windows\\win.ini",
    "C:secret.png",
    "../secret.png [output]",
    "~/x.png",
    "x\0.png",
    "boat.png\0",
    "y" * 300,
    "y/" * 400 + "x",
    "z" * 5000,
    "",
    ".",
    "sub",
    "missing.png",
    "boat.png/x",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_any_other_name_is_refused_in_one_line(folders, name):
    for wanted in (name, str(folders / "secret.png")):
        with pytest.raises(OviError, match="not in ComfyUI's input folder") as caught:
            input_media.load(wanted)
        assert len(str(caught.value).splitlines()) == 1
        assert len(str(caught.value)) < 1500
        assert input_media.stamps([wanted]) == []


@pytest.mark.parametrize("name", ["text.png", "empty.png"])
def test_a_file_that_is_no_image_is_named(name):
    with pytest.raises(OviError, match=f"'{name}', which cannot be read as an image") as caught:
        input_media.load(name)
    assert caught.value.input == "picture"


def test_names_of_devices_are_refused_on_windows_alone(monkeypatch):
    assert input_media.load("con.png").shape[0] == 1
    monkeypatch.setattr(safe_write, "WINDOWS", True)
    with pytest.raises(OviError, match="reserves"):
        input_media.load("con.png")


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["..", ".", "/", "\\", "out", "sub", "link.png", "secret.png", " [temp]", "C:", "é"])))
def test_no_name_leads_out_of_the_folder(parts):
    path = input_media._path("".join(parts))
    roots = [Path(os.path.realpath(getattr(folder_paths, f"{name}_directory"))) for name in ("input", "output", "temp")]
    assert path is None or any(path.is_relative_to(root) for root in roots)


@pytest.mark.parametrize("script", [None, 7, ["shot"], "no script", "shot\nscene: x\npicture: \0"])
def test_what_is_no_script_yet_stops_no_graph(script):
    assert OviStoryboard.fingerprint_inputs(script, seed=1) == []
