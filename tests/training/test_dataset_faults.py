"""Load Ovi Dataset on what strangers' workflows name, what systems leave in folders, and what is damaged there."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from clip_files import Recording, even
from hypothesis import given
from hypothesis import strategies as st
from native_cases import small_vaes
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.spec import VARIANTS, ClipShape
from ovi_native.ovi_core.text.umt5 import load_text_encoder
from ovi_native.ovi_core.training.clip_folder import Item, folder_in, state_in
from ovi_native.ovi_core.training.dataset import Encoder, load_dataset
from ovi_native.ovi_core.training.latent_cache import LatentCache
from ovi_native.tools import standins

SHAPE = ClipShape.from_seconds(64, 32, 0.4)
needs_links = pytest.mark.skipif(os.name == "nt", reason="links take rights on Windows")


@pytest.fixture(scope="module")
def text_encoder():
    return load_text_encoder(standins.text_encoder(0))


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> bytes:
    path = Recording(even(24, 0.5), 0.2, length=0.5).write(tmp_path_factory.mktemp("recording") / "a.mp4")
    return path.read_bytes()


@pytest.fixture
def folder(tmp_path, recording) -> Path:
    """The folder "talks" in an input folder, with one good clip."""
    talks = tmp_path / "input" / "talks"
    talks.mkdir(parents=True)
    add(talks, "a", recording)
    return talks


def add(folder: Path, name: str, content: bytes, caption: str = "A lamp. Audio: a beep.", ending: str = ".mp4") -> Path:
    (folder / f"{name}.txt").write_text(caption, encoding="utf-8")
    (folder / f"{name}{ending}").write_bytes(content)
    return folder / f"{name}{ending}"


def encoder() -> Encoder:
    return Encoder(*small_vaes(), SHAPE)


def load(folder: Path, text_encoder) -> tuple[list[dict], list[str]]:
    with torch.inference_mode():  # as ComfyUI runs nodes
        latents, _, notes = load_dataset(folder, text_encoder, VARIANTS["960x960_5s"], encoder())
    return latents, notes


def refused(folder: Path) -> str:
    with pytest.raises(OviError) as caught:
        Item.all_in(folder)
    assert caught.value.input == "folder"
    return caught.value.found


# -- which folder ---------------------------------------------------------------------


def outside(tmp_path: Path) -> list:
    return [
        "../elsewhere", "talks/../../elsewhere", "talks/../..", "..", str(tmp_path / "elsewhere"), "/", "a\0b", "\0",
        "../input2", None, 5, ["talks"], "~/../..", "talks/./../../elsewhere/",
    ]  # fmt: skip


def test_a_folder_outside_the_input_folder_is_refused_however_it_is_named(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "input2").mkdir()
    for name in outside(tmp_path):
        with pytest.raises(OviError) as caught:
            folder_in(folder.parent, name)
        assert "not in ComfyUI's input folder" in caught.value.found
        assert state_in(folder.parent, name) == ""


@pytest.mark.parametrize(
    ("clip", "caption"),
    [("B.MP4", "B.TXT"), ("b.mp4", "B.txt"), ("ü.mp4", "u\u0308.txt"), ("Straße.Mov", "STRASSE.txt")],
)
def test_a_captions_name_may_be_written_as_another_system_writes_it(folder, clip, caption):
    shutil.copy(folder / "a.mp4", folder / clip)
    (folder / caption).write_text("Another lamp.", encoding="utf-8")
    found = {item.video.name: item for item in Item.all_in(folder)}
    assert (found[clip].caption, found[clip].caption_file) == ("Another lamp.", caption)
    assert found["a.mp4"].caption == "A lamp. Audio: a beep."


@pytest.mark.parametrize("name", ["talks", "./talks", "talks/", "talks/../talks", "", "."])
def test_a_folder_in_the_input_folder_is_taken(folder, name):
    assert folder_in(folder.parent, name).is_dir()


@needs_links
def test_a_link_out_of_the_input_folder_is_refused_and_the_input_folder_may_be_a_link(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (folder.parent / "out").symlink_to(tmp_path / "elsewhere")
    (folder.parent / "in").symlink_to(folder)
    (folder.parent / "loop").symlink_to(folder.parent / "loop")
    (tmp_path / "linked").symlink_to(folder.parent)
    with pytest.raises(OviError):
        folder_in(folder.parent, "out")
    assert state_in(folder.parent, "out") == ""
    assert len(Item.all_in(folder_in(folder.parent, "in"))) == 1
    assert len(Item.all_in(folder_in(tmp_path / "linked", "talks"))) == 1
    with pytest.raises(OviError):
        Item.all_in(folder_in(folder.parent, "loop"))


# -- what is in it --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["._a", ".hidden", ".DS_Store"])
def test_files_that_begin_with_a_dot_are_no_clips(folder, name):
    for ending in (".mp4", ".txt"):
        (folder / f"{name}{ending}").write_bytes(b"\x00\x05\x16\x07Mac OS X")
    for left in ("Thumbs.db", "desktop.ini", "a.mp4.part", "notes.md"):
        (folder / left).write_bytes(b"\xff\xfe")
    assert [item.video.name for item in Item.all_in(folder)] == ["a.mp4"]


def test_a_folder_with_a_clips_name_is_named(folder):
    (folder / "b.mp4").mkdir()
    assert refused(folder) == "'b.mp4', a folder"


def test_a_folder_with_a_captions_name_is_named(folder):
    (folder / "a.txt").unlink()
    (folder / "a.txt").mkdir()
    assert refused(folder) == "'a.txt', a folder"


@needs_links
@pytest.mark.parametrize("name", ["a.txt", "b.mp4"])
def test_links_that_lead_nowhere_round_and_out_are_named(folder, tmp_path, name):
    (tmp_path / "secret").write_bytes(b"secret")
    link = folder / name
    for target, found in (
        (folder / "nothing", "a link that leads nowhere"),
        (link, "a link that leads nowhere"),
        (tmp_path / "secret", "a link out of the folder"),
        (tmp_path, "a folder"),
    ):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        assert refused(folder) == f"'{name}', {found}"
        assert state_in(folder.parent, "talks")


@needs_links
def test_a_link_to_another_clip_of_the_folder_is_a_clip(folder, text_encoder):
    (folder / "b.mp4").symlink_to(folder / "a.mp4")
    (folder / "b.txt").write_text("The same lamp. Audio: a beep.", encoding="utf-8")
    latents, _ = load(folder, text_encoder)
    assert len(latents) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_is_named_and_not_waited_for(folder):
    os.mkfifo(folder / "b.mp4")
    assert refused(folder) == "'b.mp4', no file"


def test_a_caption_beyond_all_measure_is_refused(folder):
    (folder / "a.txt").write_bytes(b"a" * (2 << 20))
    assert "a caption of more than 1 MB" in refused(folder)


@given(st.one_of(st.binary(max_size=300), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))))
def test_a_caption_of_any_bytes_is_read_or_refused(tmp_path_factory, text_encoder, content):
    folder = tmp_path_factory.mktemp("captions")
    (folder / "a.mp4").write_bytes(b"")
    (folder / "a.txt").write_bytes(content)
    with pytest.raises(OviError) as caught:  # at the latest, the clip is no video
        load_dataset(folder, text_encoder, VARIANTS["720x720_5s"], encoder())
    assert caught.value.input == "folder"
    assert "\n" not in str(caught.value)


@given(st.text(min_size=1, max_size=60))
def test_a_folder_of_any_name_is_in_the_input_folder_or_refused(tmp_path_factory, name):
    root = tmp_path_factory.getbasetemp()
    try:
        found = folder_in(root, name)
    except OviError:
        return
    assert os.path.realpath(found).startswith(os.path.realpath(root))


def test_a_clip_that_is_cut_off_is_named(folder, text_encoder, tmp_path):
    whole = Recording(even(24, 3.0), 1.0, length=3.0, size=(128, 128)).write(tmp_path / "long.mkv").read_bytes()
    add(folder, "b", whole[: len(whole) // 20], ending=".mkv")
    with pytest.raises(OviError) as caught:
        load(folder, text_encoder)
    assert caught.value.found.startswith("'b.mkv' with ")
    assert len(list(folder.glob("a.ovi_*.safetensors"))) == 1


# -- what is kept ---------------------------------------------------------------------


def test_the_name_of_a_cache_is_the_one_it_had_when_clips_were_first_cached(tmp_path):
    """Recorded with the first release: nobody's clips are encoded again because our code was moved or renamed."""
    (tmp_path / "clip.mp4").write_bytes(b"a clip")
    cache = LatentCache(*small_vaes(), ClipShape.from_seconds(64, 32, 0.5))
    assert cache.file_of(tmp_path / "clip.mp4", False).name == "clip.ovi_5b82710b5b960ef4.safetensors"
    assert cache.file_of(tmp_path / "clip.mp4", True) != cache.file_of(tmp_path / "clip.mp4", False)


def damaged_caches(video: torch.Tensor, audio: torch.Tensor) -> dict[str, dict]:
    return {
        "other frames": {"video": video[:, :, :1], "audio": audio},
        "other size": {"video": video[..., :1], "audio": audio},
        "other length of the audio": {"video": video, "audio": audio[..., :-1]},
        "more than was wanted": {"video": video.repeat(1, 1, 4, 1, 1), "audio": audio},
        "two clips": {"video": video.repeat(2, 1, 1, 1, 1), "audio": audio.repeat(2, 1, 1)},
        "no axes": {"video": torch.tensor(1.0), "audio": audio},
        "other type": {"video": video.float(), "audio": audio},
        "integers": {"video": video.to(torch.int16), "audio": audio.to(torch.int16)},
        "NaN": {"video": video.clone().fill_(torch.nan), "audio": audio},
        "infinite": {"video": video, "audio": audio.clone().fill_(torch.inf)},
        "one part": {"video": video},
        "nothing": {},
    }


def test_a_cache_that_is_not_what_was_wanted_is_made_again(folder, text_encoder):
    latents, _ = load(folder, text_encoder)
    (file,) = folder.glob("*.safetensors")
    good = file.read_bytes()
    parts = safetensors.torch.load(good)
    for content in (good[:100], b"", b"\x00" * 500, good + bytes(1 << 20)):
        file.write_bytes(content)
        assert_made_again(folder, text_encoder, latents, file, good)
    for name, tensors in damaged_caches(**parts).items():
        safetensors.torch.save_file({key: value.contiguous() for key, value in tensors.items()}, file)
        assert_made_again(folder, text_encoder, latents, file, good, name)
    file.unlink()
    file.mkdir()
    again, notes = load(folder, text_encoder)
    assert torch.equal(again[0]["samples"].unbind()[0], latents[0]["samples"].unbind()[0])
    assert "encoded again the next time" in notes[0]


def assert_made_again(folder, text_encoder, latents, file, good, name=""):
    again, notes = load(folder, text_encoder)
    for one, other in zip(again[0]["samples"].unbind(), latents[0]["samples"].unbind(), strict=True):
        assert torch.equal(one, other), name
    assert file.read_bytes() == good, name
    assert notes == []


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root writes everywhere")
def test_in_a_folder_that_is_read_only_clips_are_used_with_a_note(folder, text_encoder):
    folder.chmod(0o555)
    try:
        latents, notes = load(folder, text_encoder)
    finally:
        folder.chmod(0o755)
    assert len(latents) == 1
    assert "encoded again the next time" in notes[0]


@pytest.mark.parametrize("number", [28, 30, 13])
def test_on_a_full_or_read_only_disk_clips_are_used_with_a_note(folder, text_encoder, monkeypatch, number):
    """As safetensors reports it: the system's number is only in the text."""

    def fail(*_, **__):
        raise safetensors.SafetensorError(f"Error while serializing: I/O error: it failed (os error {number})")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    latents, notes = load(folder, text_encoder)
    assert len(latents) == 1
    assert "encoded again the next time" in notes[0]
    assert len(os.listdir(folder)) == 2


def test_a_cache_of_a_killed_writer_is_not_read(folder, text_encoder):
    """What is half written has another name until it is whole."""
    latents, _ = load(folder, text_encoder)
    (file,) = folder.glob("*.safetensors")
    digest = hashlib.sha256(file.read_bytes()).digest()
    (folder / f"{file.stem}.999999-1-0.part.safetensors").write_bytes(file.read_bytes()[:50])
    again, _ = load(folder, text_encoder)
    assert torch.equal(again[0]["samples"].unbind()[1], latents[0]["samples"].unbind()[1])
    assert hashlib.sha256(file.read_bytes()).digest() == digest
