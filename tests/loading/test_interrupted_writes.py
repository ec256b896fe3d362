"""Downloads and conversions killed or refused by the disk: nothing broken has a final name, a restart works."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import hub_server
import huggingface_hub.constants as settings
import pytest
from hub_server import File
from killing import KillsItself, killed
from native_cases import tiny_weights
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.loading import download
from ovi_native.ovi_core.loading.download import Source, fetch
from safetensors.torch import save_file

from tools.convert import convert

SOURCE, ADDRESS = Source("someone/weights", "big.safetensors"), "someone/weights/big.safetensors"
DATA = random.Random(1).randbytes(3 * settings.DOWNLOAD_CHUNK_SIZE)
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot copy a process")


@pytest.fixture
def hub(monkeypatch):
    with hub_server.running() as server:
        monkeypatch.setattr(settings, "ENDPOINT", server.url)
        address = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(settings, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        server.files[ADDRESS] = File(DATA)
        yield server


def downloads(folder: Path, progress=lambda done, total: None) -> bytes:
    fetch([(SOURCE, folder / "big.safetensors")], progress, lambda line: None)
    return (folder / "big.safetensors").read_bytes()


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("source") / "model_960x960.safetensors"
    save_file(tiny_weights(), path)
    return path


def converts(source: Path, folder: Path, progress=lambda done, total: None) -> bytes:
    convert([source], folder / "target.safetensors", "fp8", progress=progress, say=lambda line: None)
    return (folder / "target.safetensors").read_bytes()


@needs_fork
@pytest.mark.parametrize("share", [0, 0.3, 0.6])
def test_a_killed_download_goes_on(share, hub, tmp_path):
    assert killed(lambda: downloads(tmp_path, KillsItself(share)))
    assert not (tmp_path / "big.safetensors").exists()
    assert downloads(tmp_path) == DATA
    if share:
        assert hub.ranges()[-1] != "", "nothing that came is fetched again"


@needs_fork
@pytest.mark.parametrize("share", [0, 0.3, 0.5, 0.9])
def test_a_killed_conversion_goes_on(share, source, tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    assert killed(lambda: converts(source, tmp_path, KillsItself(share)))
    assert not (tmp_path / "target.safetensors").exists()
    assert converts(source, tmp_path) == converts(source, whole)


DISKS = [
    (errno.ENOSPC, "the disk is full; the file has", "Free some space"),
    (errno.EROFS, "the folder cannot be written to", "Change its permissions"),
    (errno.EACCES, "the folder cannot be written to", "Change its permissions"),
    (errno.EIO, "the disk reports an error", "Check the disk"),
]


@pytest.mark.parametrize(("number", "found", "remedy"), DISKS)
def test_a_disk_that_refuses_a_download_is_named_and_what_came_is_kept(number, found, remedy, hub, tmp_path):
    def progress(done, total):
        if done > total / 2:
            raise OSError(number, os.strerror(number))

    with pytest.raises(OviError) as caught:
        downloads(tmp_path, progress)
    assert found in caught.value.found
    assert remedy in caught.value.remedy
    assert downloads(tmp_path) == DATA


def refuse_replacing(monkeypatch, module_path):
    real = os.replace

    def replace(old, new):
        if str(new).endswith(module_path):
            raise PermissionError(errno.EACCES, "Access is denied", str(old), None, str(new))
        real(old, new)

    monkeypatch.setattr(os, "replace", replace)


def test_a_download_whose_place_is_in_use_is_kept_whole(hub, tmp_path, monkeypatch):
    (tmp_path / "big.safetensors").write_bytes(b"in use")
    with monkeypatch.context() as patched:
        refuse_replacing(patched, "big.safetensors")
        with pytest.raises(OviError, match="nothing is fetched again") as caught:
            downloads(tmp_path)
    assert "a program holds it open" in caught.value.found
    assert (tmp_path / "big.safetensors").read_bytes() == b"in use"
    asked = len(hub.ranges())
    assert downloads(tmp_path) == DATA
    assert len(hub.ranges()) == asked


def test_a_conversion_whose_place_is_in_use_is_kept_whole(source, tmp_path, monkeypatch):
    (tmp_path / "target.safetensors").write_bytes(b"in use")

    def replace(self, new):
        raise PermissionError(errno.EACCES, "Access is denied", str(self), None, str(new))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replace)
        with pytest.raises(OviError, match="Close the program that uses it"):
            converts(source, tmp_path)
    assert (tmp_path / "target.safetensors").read_bytes() == b"in use"
    assert len(converts(source, tmp_path)) > 1000


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_refuses_a_conversion_is_named_with_the_room_it_needs(number, source, tmp_path):
    def progress(done, total):
        if done > total / 4:
            raise OSError(number, os.strerror(number))

    with pytest.raises(OviError, match="GB of room"):
        converts(source, tmp_path, progress)
    assert not (tmp_path / "target.safetensors").exists()
    assert converts(source, tmp_path)


def test_a_list_of_downloads_that_is_no_list_is_as_none(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"a")
    for content in ("[" * 100_000, '{"a":' * 100_000, "null", "[1]", '{"a": []}'):
        (tmp_path / download.fingerprints.LIST).write_text(content)
        assert download.fingerprints.recall(tmp_path / "a.safetensors") == ""
