"""Shots and films on disk: what comes back, what is found damaged, and what a disk that fails loses."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
from pathlib import Path

import pytest
import story_cases as story
import torch
from film_cases import assert_same_film, decoded
from join_cases import clip, sound
from ovi_native.ovi_core import safe_write
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.story import film, script, shot_store
from ovi_native.ovi_core.story.plan import plan_shots
from ovi_native.ovi_core.story.shot_store import State

SHOT = story.shot("a", 5)


@pytest.fixture(scope="module", autouse=True)
def models():
    yield story.models()
    story.models.cache_clear()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The store and the film of a storyboard that ran through."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, story.rendered(folder)[0]


@pytest.fixture
def copy(whole, tmp_path):
    """The same in another folder, free to be damaged."""
    shutil.copytree(whole[0], tmp_path / "copy")
    return tmp_path / "copy"


def planned():
    return plan_shots(script.parse(story.SCRIPT), story.settings(), story.models().identity(), False, None)


def written(folder, shot=SHOT):
    store = story.store(folder)
    store.write(shot, clip(shot.clip.frames), sound(900)["waveform"])
    return store


def test_shots_come_back_bit_for_bit(tmp_path):
    store, images, samples = story.store(tmp_path), clip(9), sound(5001)["waveform"]
    store.write(SHOT, images, samples)
    frames, heard = decoded(store.shot("a"))
    assert torch.equal(torch.from_numpy(frames), (images * 255).round().to(torch.uint8))
    assert torch.equal(torch.from_numpy(heard)[None], samples)
    images = torch.from_numpy(frames).float() / 255
    assert torch.equal(store.images(SHOT, 4), images[4:])
    assert torch.equal(store.images(SHOT, 2, 3), images[2:5])
    assert torch.equal(store.audio(SHOT), samples)
    store.write(story.shot("silent"), images, samples[..., :0])
    assert store.audio(story.shot("silent")).shape == (1, 1, 0)


def test_files_have_the_mode_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        written(tmp_path)
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".mkv", ".sha256"}
    if os.name != "nt":
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o640}


# -- damage


def flip(path, at):
    """Another bit in the byte at a share of the file."""
    data = bytearray(path.read_bytes())
    data[min(int(at * len(data)), len(data) - 1)] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "first byte": lambda path: flip(path, 0),
    "early": lambda path: flip(path, 0.1),
    "middle": lambda path: flip(path, 0.5),
    "last byte": lambda path: flip(path, 1),
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:2000]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "another's": lambda path: path.write_bytes(b"#!/bin/sh\n" * 100),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shot_is_made_again(whole, copy, damage):
    plans, store = planned(), story.store(copy)
    DAMAGES[damage](store.shot(plans[2].key))
    kept = {name: time for name, time in story.shot_files(copy).items() if plans[2].key not in name}
    again, report = story.rendered(copy)
    assert report.count("from the store") == 3
    assert "Shot 3: its file was damaged, so it was regenerated." in report
    assert kept.items() <= story.shot_files(copy).items()
    assert [store.state(plan) for plan in plans] == [State.WHOLE] * 4
    assert_same_film(plans, whole, (copy, again))


@pytest.mark.parametrize("damage", ["first byte", "middle", "emptied", "cut"])
def test_a_damaged_film_is_written_again(copy, damage):
    path = story.store(copy).film(film.key_of(planned()))
    DAMAGES[damage](path)
    again, report = story.rendered(copy)
    assert again == path
    assert report.count("from the store") == 4
    assert "The film's file was damaged, so it was written again." in report
    assert len(decoded(path)[0]) == story.FRAMES


def test_a_whole_film_is_not_written_again(copy):
    path = story.store(copy).film(film.key_of(planned()))
    before = path.stat().st_mtime_ns
    _, report = story.rendered(copy)
    assert path.stat().st_mtime_ns == before
    assert "damaged" not in report


@pytest.mark.parametrize("checksum", [None, b"", b"no checksum", b"\xff" * 80])
def test_shots_that_early_versions_stored_without_a_checksum_are_taken(tmp_path, checksum):
    store = written(tmp_path)
    path = store.shot("a").with_suffix(".sha256")
    known = path.read_bytes()
    path.unlink() if checksum is None else path.write_bytes(checksum)
    assert store.state(SHOT) is State.WHOLE
    assert path.read_bytes() == known  # for the next time


@pytest.mark.parametrize("damage", ["middle", "emptied", "cut", "another's"])
def test_of_those_a_damaged_one_is_found_by_decoding(tmp_path, damage):
    store = written(tmp_path)
    store.shot("a").with_suffix(".sha256").unlink()
    DAMAGES[damage](store.shot("a"))
    assert store.state(SHOT) is State.DAMAGED


def test_a_shot_of_another_length_is_damaged(tmp_path):
    store = written(tmp_path)
    store.shot("a").with_suffix(".sha256").unlink()
    assert store.state(story.shot("a", 6)) is State.DAMAGED


def test_a_checksum_is_what_sha256sum_writes(tmp_path):
    store = written(tmp_path)
    digest, name = store.shot("a").with_suffix(".sha256").read_text().split()
    assert name == "a.mkv"
    assert digest == shot_store._digest(store.shot("a"))


# -- disks that fail


def no_room(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_says_what_is_needed_and_the_shot_stays_in_memory(tmp_path, monkeypatch):
    store, shot = written(tmp_path), story.shot("b", 5)
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", no_room)
        with pytest.raises(OviError, match=r"no room for .*b\.mkv: it needs 0\.\d MB") as caught:
            store.write(shot, clip(5, seed=3), sound(900)["waveform"])
    assert "The shot stays in memory: run the storyboard again" in caught.value.remedy
    assert [path.name for path in sorted((tmp_path / "shots").iterdir())] == ["a.mkv", "a.sha256"]
    assert store.state(shot) is State.WHOLE  # room has been made
    assert torch.equal(store.images(shot, 0), (clip(5, seed=3) * 255).round() / 255)
    assert not shot_store._unsaved


def test_a_run_on_a_full_disk_loses_no_shot(tmp_path, monkeypatch):
    """The third shot finds no room; once there is some, it is written and the fourth made."""
    write_bytes, fails = Path.write_bytes, []

    def write(path, data):
        fails.extend([1] if path.suffix == ".mkv" else [])
        return no_room() if len(fails) == 3 else write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(OviError, match="no room"):
        story.rendered(tmp_path)
    assert len(story.shot_files(tmp_path)) == 2
    _, report = story.rendered(tmp_path)
    assert report.count("from the store") == 3


def test_a_film_that_finds_no_room_says_what_all_of_it_needs(copy, monkeypatch):
    shutil.rmtree(copy / "films")
    plans, frames = planned(), []
    total = film.starts_of(plans)[-1]

    def full_at_the_half():
        frames.append(1)
        if len(frames) > total // 2:
            no_room()

    monkeypatch.setattr(safe_write, "_size", lambda _: 3_000_000)
    with pytest.raises(OviError, match=r"no room for .*\.mp4: it needs about 6\.\d MB, .* are free"):
        film.write(shot_store.Store(copy), plans, full_at_the_half)
    assert list((copy / "films").iterdir()) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_read_only_folder_is_reported_before_anything_is_made(tmp_path, monkeypatch, number):
    def refused(*_, **__):
        raise OSError(number, os.strerror(number))

    lines = []
    monkeypatch.setattr(safe_write.os, "open", refused)
    with pytest.raises(OviError, match="cannot be written") as caught:
        story.rendered(tmp_path, show=lines.append)
    assert caught.value.remedy
    assert lines == []


def test_a_read_only_folder_with_everything_in_it_is_enough(copy, monkeypatch):
    def refused(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(safe_write.os, "open", refused)
    assert story.rendered(copy)[1].count("from the store") == 4


@pytest.mark.parametrize("name", ["", "shots", "films"])
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path, name):
    path = tmp_path / "ovi_stories" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(OviError, match="which is a file") as caught:
        story.rendered(tmp_path / "ovi_stories")
    assert str(path) in caught.value.found
    assert path.read_text() == "mine"


def test_a_file_that_a_player_holds_open_is_kept_beside_it(copy, monkeypatch):
    """On Windows a damaged film that is still open in a player cannot be replaced."""
    path = story.store(copy).film(film.key_of(planned()))
    flip(path, 0.5)
    replace = os.replace

    def held(part, target):
        if Path(target) == path:
            raise PermissionError(errno.EACCES, "the file is open in another program")
        replace(part, target)

    monkeypatch.setattr(safe_write, "AGAIN", ())
    monkeypatch.setattr(os, "replace", held)
    with pytest.raises(OviError, match="may be open in another program") as caught:
        story.rendered(copy)
    (kept,) = (file for file in path.parent.glob("*.mp4") if file != path)
    assert str(kept) in caught.value.remedy
    assert len(decoded(kept)[0]) == story.FRAMES
    assert len(story.shot_files(copy)) == 4


def test_what_killed_writers_left_is_swept_and_what_living_ones_write_is_not(tmp_path):
    store = story.store(tmp_path)
    folder = store.shot("a").parent
    folder.mkdir()
    living = folder / f"a.{os.getpid()}-{safe_write.started(os.getpid()):x}-900000.part.mkv"
    dead = folder / "a.999999999-1-0.part.mkv"
    for part in (living, dead):
        part.touch()
        os.utime(part, (1, 1))
    store.write(SHOT, clip(5), sound(900)["waveform"])
    assert (living.exists(), dead.exists()) == (True, False)


def test_two_comfyuis_may_write_the_same_shot_at_once(tmp_path):
    threads = [threading.Thread(target=written, args=(tmp_path,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert story.store(tmp_path).state(SHOT) is State.WHOLE
    assert sorted(path.name for path in (tmp_path / "shots").iterdir()) == ["a.mkv", "a.sha256"]
