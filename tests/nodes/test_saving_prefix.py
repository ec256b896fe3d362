"""Names of files that Save Ovi Video is given: in the output folder, never over another file, or a plain error."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import folder_paths
import pytest
import torch
from comfy_api.latest import InputImpl, Types
from ovi_native.nodes import saving
from ovi_native.nodes.saving import OviSaveVideo, free_file
from ovi_native.ovi_core import safe_write
from ovi_native.ovi_core.errors import OviError


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(folder))
    return folder


@pytest.fixture
def written(output: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The output folder, with an encoder that writes a few bytes."""
    monkeypatch.setattr(saving.provenance, "save", lambda _video, path, *_: Path(path).write_bytes(b"film"))
    return output


VIDEO = InputImpl.VideoFromComponents(Types.VideoComponents(images=torch.zeros(1, 48, 64, 3), frame_rate=Fraction(24)))


def save(prefix: str) -> None:
    OviSaveVideo.execute(VIDEO, prefix, credentials="off")


@pytest.mark.parametrize(
    "prefix",
    [
        "", ".", "..", " ", "video/", "video/..", "a\0b", "../Ovi", "../../etc/Ovi", "video/../../Ovi", "/etc/Ovi",
        "..\\..\\Ovi", "out/Ovi", "x" * 300, "y" * 300 + "/Ovi", "a/" * 3000 + "Ovi", "taken/Ovi",
    ],
)  # fmt: skip
def test_a_prefix_that_names_no_file_in_the_output_folder_is_refused(written: Path, tmp_path: Path, prefix: str):
    (written / "out").symlink_to(tmp_path, target_is_directory=True)
    (written / "taken").write_bytes(b"a file")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OviError) as caught:
        save(prefix)
    assert (caught.value.node, caught.value.input) == ("Save Ovi Video", "filename_prefix")
    assert len(str(caught.value).splitlines()) == 1
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before and path.is_file()] == []


@pytest.mark.parametrize("prefix", ["con", "video/NUL", "aux.mp4/Ovi", "a:b", "what?", "com1"])
def test_names_that_windows_reserves_are_refused_there(written: Path, monkeypatch: pytest.MonkeyPatch, prefix: str):
    monkeypatch.setattr(safe_write, "WINDOWS", True)
    with pytest.raises(OviError, match="Save Ovi Video, input 'filename_prefix'"):
        save(prefix)
    assert list(written.rglob("*.mp4")) == []


def test_a_path_that_climbs_is_named_as_such_on_windows_too(written: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(safe_write, "WINDOWS", True)
    with pytest.raises(OviError, match="leaves the output folder"):
        save("..\\..\\Ovi")


@pytest.mark.parametrize(
    "prefix", ["Ovi", "video/Ovi", "a/./b//Ovi", "été/映画", "take.1", "Ovi_00001_", "%width%x%height%"]
)
def test_a_clip_is_saved_beside_those_that_are_there(written: Path, prefix: str):
    for count in range(1, 4):
        save(prefix)
        assert len(list(written.rglob("*.mp4"))) == count
    assert {path.read_bytes() for path in written.rglob("*.mp4")} == {b"film"}
    assert not list(written.rglob("*.part*"))


def test_a_backslash_from_windows_separates_folders(written: Path):
    save("video\\Ovi")
    assert (written / "video" / "Ovi_00001_.mp4").is_file()


@pytest.mark.parametrize("other", ["Ovi_00001_.mp4", "Ovi_00002_.mp4"])
def test_a_file_that_the_count_of_comfyui_misses_is_not_overwritten(
    output: Path, monkeypatch: pytest.MonkeyPatch, other: str
):
    """Where files differ from the prefix in case, or another process saves at once, ComfyUI's count is off."""
    number = int(other[4:9])
    monkeypatch.setattr(
        folder_paths, "get_save_image_path", lambda prefix, out, *_: (out, prefix, number, "", prefix), raising=True
    )
    (output / other).write_bytes(b"another clip")
    file, _ = free_file("Ovi", 64, 48)
    assert file.name == f"Ovi_{number + 1:05}_.mp4"


def test_a_failed_encoding_leaves_nothing(output: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(_video: object, path: str, *_: object) -> None:
        Path(path).write_bytes(b"half a film")
        raise ValueError("the encoder")

    monkeypatch.setattr(saving.provenance, "save", broken)
    with pytest.raises(ValueError, match="the encoder"):
        save("video/Ovi")
    assert [path for path in output.rglob("*") if path.is_file()] == []
    assert os.listdir(output / "video") == []
