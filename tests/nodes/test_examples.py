"""The example files of the workflows reach ComfyUI's input folder, and nothing of the user's is touched."""

from __future__ import annotations

import errno
import json
import os
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import folder_paths
import pytest
from ovi_native.nodes import sharing
from ovi_native.nodes.shared import examples
from ovi_native.ovi_core import safe_write

from tools.dev import client, workflow
from tools.dev.server import Server
from tools.dev.setup import ROOT
from tools.workflows import examples as drawn

FIRST, LAST = "ovi_example_first.jpg", "ovi_example_last.jpg"
POSIX = pytest.mark.skipif(os.name == "nt", reason="modes and links of POSIX")
LOADERS = {"LoadImage": ("image", FIRST), "LoadVideo": ("file", "ovi_example_clip.mp4")}
LOADERS["LoadAudio"] = ("audio", "ovi_example_voice.flac")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path / "input"))
    (tmp_path / "input").mkdir()
    return tmp_path / "input"


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_pack_brings_every_example_that_the_workflows_draw():
    assert examples.names() == drawn.FILES.keys()


def test_what_a_workflow_names_is_put_there_and_nothing_else(folder: Path):
    assert examples.place([FIRST, LAST, "../pyproject.toml", "icon.svg", ""]) == ([FIRST, LAST], [])
    assert content(folder) == {name: (ROOT / "assets" / name).read_bytes() for name in (FIRST, LAST)}
    assert examples.place([FIRST]) == ([], [])


def test_a_file_of_the_user_with_that_name_stays(folder: Path):
    (folder / FIRST).write_bytes(b"mine")
    (folder / LAST).mkdir()
    assert examples.place([FIRST, LAST]) == ([], [])
    assert (folder / FIRST).read_bytes() == b"mine"
    assert sorted(file.name for file in folder.iterdir()) == [FIRST, LAST]


@POSIX
@pytest.mark.parametrize("target", ["there.jpg", "nowhere.jpg"])
def test_a_link_is_not_followed(folder: Path, tmp_path: Path, target: str):
    (tmp_path / "there.jpg").write_bytes(b"mine")
    (folder / FIRST).symlink_to(tmp_path / target)
    assert examples.place([FIRST]) == ([], [])
    assert (tmp_path / "there.jpg").read_bytes() == b"mine"
    assert not (tmp_path / "nowhere.jpg").exists()
    assert (folder / FIRST).is_symlink()


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_while_ours_is_written_stays(folder: Path, monkeypatch: pytest.MonkeyPatch, links: bool):
    flush, link = safe_write._flush, os.link

    def slow(part: Path, mode: int) -> None:
        flush(part, mode)
        (folder / FIRST).write_bytes(b"mine")

    def refused(*_: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(safe_write, "_flush", slow)
    monkeypatch.setattr(os, "link", link if links else refused)
    assert examples.place([FIRST]) == ([], [])
    assert content(folder) == {FIRST: b"mine"}


def test_a_disk_without_hard_links_takes_them(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(*_: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refused)
    assert examples.place([FIRST]) == ([FIRST], [])
    assert content(folder) == {FIRST: (ROOT / "assets" / FIRST).read_bytes()}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_folder_that_takes_nothing_is_a_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch, number: int):
    def refused(*_: Any, **__: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refused)
    answer = sharing.placed(json.dumps([FIRST, LAST]).encode())
    monkeypatch.undo()
    assert answer["placed"] == []
    (note,) = answer["notes"]
    assert FIRST in note
    assert str(ROOT / "assets") in note
    assert content(folder) == {}


def test_of_many_writers_at_once_one_makes_each_file(folder: Path):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: examples.place(examples.names()), range(8)))
    assert sorted(name for new, _ in made for name in new) == sorted(drawn.FILES)
    assert [notes for _, notes in made] == [[]] * 8
    assert content(folder) == {name: (ROOT / "assets" / name).read_bytes() for name in drawn.FILES}


def test_a_real_server_lists_them_and_takes_a_workflow_that_names_them(shared_server: Server):
    names = sorted(name for _, name in LOADERS.values())
    for name in names:
        (shared_server.base / "input" / name).unlink(missing_ok=True)
    request = urllib.request.Request(shared_server.url + "/ovi_native/examples", json.dumps(names).encode())
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer) == {"placed": names, "notes": []}
    nodes = client.object_info(shared_server.url)
    for kind, (widget, name) in LOADERS.items():
        slots = {slot.name: slot for slot in workflow.widget_slots(nodes[kind], [name])}
        assert name in slots[widget].config["options"]
