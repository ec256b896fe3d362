"""Files that are whole or not there: full, read-only and Windows' disks, and writers that are killed."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ovi_native.ovi_core import safe_write
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.safe_write import new_file, sweep

ROOT = Path(__file__).parents[2]
POSIX = pytest.mark.skipif(os.name == "nt", reason="modes and signals of POSIX")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(safe_write, "AGAIN", (0.0, 0.0))


def write(path: Path, content: bytes = b"new", **settings) -> None:
    with new_file(path, input="filename_prefix", **settings) as part:
        assert part.parent == path.parent
        assert part.suffix == (path.suffix or ".part")
        part.write_bytes(content)


def broken_off(path: Path, content: bytes, error: BaseException, **settings) -> None:
    with new_file(path, input="filename_prefix", **settings) as part:
        part.write_bytes(content)
        raise error


def refused(path: Path, found: str, **settings) -> OviError:
    with pytest.raises(OviError) as caught:
        write(path, **settings)
    assert found in caught.value.found
    assert caught.value.input == "filename_prefix"
    return caught.value


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def failing(number: int, only: Path | None = None):
    def call(first, *others):
        raise OSError(number, os.strerror(number))

    return call


def test_a_file_appears_whole_and_replaces_the_old_one(tmp_path):
    path = tmp_path / "new folder" / "clip.mp4"
    write(path, b"old")
    with new_file(path, input="x") as part:
        part.write_bytes(b"ne")
        assert path.read_bytes() == b"old"
        part.write_bytes(b"new")
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["clip.mp4"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"old")
    with pytest.raises((type(error), OviError)):
        broken_off(path, b"half", error)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["clip.mp4"]


class RustError(Exception):
    pass


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EFBIG, "File too large"),
        RustError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_reported_with_what_is_needed(tmp_path, error):
    with pytest.raises(OviError, match=r"needs 2\.5 GB"):
        broken_off(tmp_path / "a.mkv", b"", error, needed=2500 * 10**6)
    with pytest.raises(OviError, match=r"needs more than 3\.0 MB"):
        broken_off(tmp_path / "a.mkv", bytes(3_000_000), error)
    with pytest.raises(OviError, match=r"needs about 12\.0 MB"):
        broken_off(tmp_path / "a.mkv", bytes(3_000_000), error, needed=lambda written: 4 * written)
    with pytest.raises(OviError, match=r"needs more than 3\.0 MB"):
        broken_off(tmp_path / "a.mkv", bytes(3_000_000), error, needed=lambda written: 0)
    assert names(tmp_path) == []


def test_a_full_disk_at_the_flush_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC))
    refused(tmp_path / "a.mp4", "no room for", needed=1)
    assert names(tmp_path) == []


def test_an_error_of_another_kind_on_a_full_disk_is_the_full_disk(tmp_path, monkeypatch):
    usage = safe_write.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(safe_write.shutil, "disk_usage", lambda _: usage._replace(free=0))
    with pytest.raises(OviError, match="no room"), new_file(tmp_path / "a.pt", input="x"):
        raise RuntimeError("PytorchStreamWriter failed writing file")


def test_an_error_of_what_is_read_is_not_taken_for_the_disk(tmp_path):
    with pytest.raises(PermissionError), new_file(tmp_path / "a.mp4", input="x"):
        raise PermissionError(errno.EACCES, "denied", "/some/other/file")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_read_only_folder_is_reported(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "open", failing(number))
    error = refused(tmp_path / "a.mp4", "cannot be written", needed=5_000_000)
    assert "5.0 MB" in error.found


@POSIX
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write(tmp_path):
    tmp_path.chmod(0o500)
    refused(tmp_path / "a.mp4", "cannot be written")


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "ovi_stories").write_text("not a folder")
    error = refused(tmp_path / "ovi_stories" / "shots" / "a.mp4", "ovi_stories, which is a file")
    assert error.accepted == "a folder"


def test_a_folder_in_the_place_of_the_file_keeps_the_file_beside_it(tmp_path):
    (tmp_path / "a.mp4").mkdir()
    error = refused(tmp_path / "a.mp4", "cannot be replaced")
    assert (tmp_path / "a_2.mp4").read_bytes() == b"new"
    assert "a_2.mp4" in error.remedy


@pytest.mark.parametrize("name", ["x" * 300 + ".mp4", "视" * 120 + ".mp4"])
def test_a_name_that_is_too_long_is_reported(tmp_path, name):
    refused(tmp_path / name, "a path of")


@pytest.mark.parametrize("name", ["x" * 251 + ".mp4", "视" * 83 + ".mp4", "a.b", "noend", ".hidden"])
def test_every_name_that_the_system_holds_can_be_written(tmp_path, name):
    write(tmp_path / name)
    assert names(tmp_path) == [name]


def test_nul_is_refused(tmp_path):
    refused(tmp_path / "a\0b.mp4", "NUL")


@POSIX
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_a_file_has_the_mode_of_the_umask(tmp_path, mask, mode):
    old = os.umask(mask)
    try:
        write(tmp_path / "a.mp4")
        with new_file(tmp_path / "b.mp4", input="x") as part:  # a writer that replaces the file by its own
            private = part.with_name("private")
            private.touch(0o600)
            os.replace(private, part)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.mp4").stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "b.mp4").stat().st_mode) == mode


def in_use(target: Path, times: int):
    """``os.replace`` as on Windows while another program has ``target`` open for its first calls."""
    real, calls = os.replace, []

    def replace(source, place):
        calls.append(place)
        if Path(place) == target and len(calls) <= times:
            raise PermissionError(errno.EACCES, "The process cannot access the file", str(source), 32, str(place))
        real(source, place)

    return replace


def test_a_target_that_is_open_in_a_player_keeps_the_file_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "clip.mp4"
    for kept in ("clip_2.mp4", "clip_3.mp4"):
        path.write_bytes(b"old")
        with monkeypatch.context() as windows:
            windows.setattr(os, "replace", in_use(path, times=99))
            error = refused(path, "clip.mp4, which cannot be replaced")
        assert kept in error.remedy
        assert (tmp_path / kept).read_bytes() == b"new"
        assert path.read_bytes() == b"old"


@pytest.mark.parametrize("stem", ["x" * 251, "视" * 83])
def test_a_free_name_is_no_longer_than_names_may_be(tmp_path, monkeypatch, stem):
    path = tmp_path / f"{stem}.mp4"
    monkeypatch.setattr(os, "replace", in_use(path, times=99))
    refused(path, "cannot be replaced")
    (name,) = names(tmp_path)
    assert name.endswith("_2.mp4")


def test_a_target_that_a_scanner_opened_for_a_moment_is_replaced(tmp_path, monkeypatch):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "replace", in_use(path, times=2))
    write(path)
    assert path.read_bytes() == b"new"


def test_what_cannot_be_renamed_at_all_is_kept_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", failing(errno.EIO))
    monkeypatch.setattr(os, "rename", failing(errno.EIO))
    error = refused(tmp_path / "clip.mp4", "cannot be replaced")
    (name,) = names(tmp_path)
    assert name in error.remedy
    assert (tmp_path / name).read_bytes() == b"new"


@pytest.mark.parametrize("name", ["con.mp4", "NUL", "aux.tar.gz", "Com1.mp4", "lpt9 .txt", "a?.mp4", "a:b.mp4", "a."])
def test_windows_reserved_names_are_refused_there_alone(tmp_path, monkeypatch, name):
    write(tmp_path / name)
    monkeypatch.setattr(safe_write, "WINDOWS", True)
    refused(tmp_path / name, "Windows")
    refused(tmp_path / name / "clip.mp4", "Windows")


@pytest.mark.parametrize("name", ["console.mp4", "com10.mp4", "nullify", "a.con", "视频.mp4"])
def test_other_names_are_taken_on_windows(tmp_path, monkeypatch, name):
    monkeypatch.setattr(safe_write, "WINDOWS", True)
    write(tmp_path / name)
    assert names(tmp_path) == [name]


def test_a_path_over_260_characters_is_reported_on_windows(tmp_path, monkeypatch):
    def no_such_path(*_):
        raise FileNotFoundError(errno.ENOENT, "The system cannot find the path specified")

    monkeypatch.setattr(safe_write, "WINDOWS", True)
    monkeypatch.setattr(os, "open", no_such_path)
    path = tmp_path / ("x" * 200) / ("y" * 60 + ".mp4")
    refused(path, f"a path of {len(str(path))} characters")


WRITER = """
import sys, time
from pathlib import Path
from ovi_core.safe_write import new_file
with new_file(Path(sys.argv[1]), input="x") as part:
    part.write_bytes(b"half")
    print(part.name, flush=True)
    time.sleep(600)
"""


def writer(path: Path) -> tuple[subprocess.Popen, str]:
    """A process in the middle of writing ``path``, and the name of its part."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return process, process.stdout.readline().strip()


def test_a_living_writer_is_left_alone_and_a_killed_one_swept(tmp_path):
    process, part = writer(tmp_path / "clip.mp4")
    try:
        two_hours_ago = time.time() - 7200
        os.utime(tmp_path / part, (two_hours_ago, two_hours_ago))
        sweep(tmp_path)
        write(tmp_path / "other.mp4")
        assert names(tmp_path) == sorted([part, "other.mp4"])
    finally:
        process.kill()
    if os.name != "nt":  # ended, but nobody has asked how: still in the table of processes
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not (tmp_path / "clip.mp4").exists()
        sweep(tmp_path)
        assert names(tmp_path) == ["other.mp4"]
    assert process.wait() != 0


@POSIX
def test_the_next_writer_sweeps_what_a_killed_one_left(tmp_path):
    process, part = writer(tmp_path / "clip.mp4")
    process.send_signal(signal.SIGKILL)
    process.wait()
    future = time.time() + 10**6
    os.utime(tmp_path / part, (future, future))
    write(tmp_path / "clip.mp4")
    assert names(tmp_path) == ["clip.mp4"]


def test_a_new_process_of_an_old_number_does_not_own_the_part(tmp_path):
    old = tmp_path / f"clip.{os.getpid()}-1-0.part.mp4"
    old.write_bytes(b"half")
    sweep(tmp_path)
    assert names(tmp_path) == []


@POSIX
def test_a_writer_of_another_machine_or_container_holds_its_lock(tmp_path):
    import fcntl

    there = tmp_path / "clip.4194303999-1f-0.part.mp4"
    with open(there, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        sweep(tmp_path)
        assert there.exists()
    sweep(tmp_path)
    assert not there.exists()


def test_sweeping_takes_only_parts_that_match(tmp_path):
    for name in ("a.part.mp4", "part.mp4", "a.1-2.part.mp4", "a.999999999-1-0.part.mkv", "clip.mp4"):
        (tmp_path / name).touch()
    sweep(tmp_path, "*.mp4")
    assert len(names(tmp_path)) == 5
    sweep(tmp_path)
    assert "a.999999999-1-0.part.mkv" not in names(tmp_path)
    assert len(names(tmp_path)) == 4
    sweep(tmp_path / "no such folder")


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "clip.mp4"
    with new_file(path, input="x") as first, new_file(path, input="x") as second:
        assert first != second
        first.write_bytes(b"1")
        second.write_bytes(b"2")
    assert path.read_bytes() == b"1"
    assert names(tmp_path) == ["clip.mp4"]
