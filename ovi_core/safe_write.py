"""Files that are whole or not there: written beside their place, flushed to the disk, then renamed.

A file that is being written is named ``<name>.<process id>-<its start>-<number>.part<suffix>``. Killed writers leave
such files; :func:`sweep` removes them when neither that process lives nor anybody holds the file's lock.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import itertools
import os
import re
import shutil
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from .errors import OviError

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be deleted in the first place
    fcntl = None  # type: ignore[assignment]

WINDOWS = os.name == "nt"
LONGEST_PATH = 260  # characters of a path that Windows takes by default, the end's NUL included
LONGEST_NAME = 255  # bytes of one name
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$) *(\.|$)", re.IGNORECASE)
REFUSED = re.compile(r'[<>:"|?*\x00-\x1f]|[. ]$')  # in a file's name on Windows
PART = re.compile(r"\.(\d+)-([0-9a-f]+)-\d+\.part(\.[^.]*)?$")

FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
DISK = {*FULL, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENAMETOOLONG}
"""Errors of the disk rather than of what is written to it."""
NO_ROOM = 1 << 16  # bytes; a disk with less is full, whatever the writer's error says
AGAIN = (0.05, 0.2, 0.5)
"""Seconds to wait before another try to rename: virus scanners and indexers open a new file for a moment."""

_counter = itertools.count()


@contextlib.contextmanager
def new_file(path: Path, *, input: str, needed: int | Callable[[int], int] = 0, replace: bool = True) -> Iterator[Path]:
    """A path to write to, beside ``path`` and with its suffix; after the block the file is whole at ``path``.

    The file is flushed to the disk and has the mode that the user's umask gives. It replaces a file that is there.
    Where an error leaves the block, ``path`` is as it was. Leftovers of killed writers in the folder are removed.

    Args:
        path: where the file goes; its folder is created.
        input: name of the node's input to report.
        needed: bytes that the file takes, for the error; 0 if not known. Or a function that estimates them from the
            bytes that were written by then.
        replace: False leaves whatever has the name by the end of the block as it is, links included.

    Raises:
        FileExistsError: something has the name, and ``replace`` is off.
        OviError: the file's name is impossible, the disk is full, read-only or broken, or ``path`` cannot be
            replaced; then the finished file is kept under a free name beside it, which the error says.
    """
    path = Path(path)
    check_name(path, input)
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, f"*{glob_escaped(path.suffix)}")
        part, mode, lock = _created(path)
    except OSError as error:
        raise _unwritable(error, path, input, _need(needed, 0)) from error
    try:
        with lock:
            yield part
            _flush(part, mode)
    except BaseException as error:
        written = _size(part)
        ours = _is_of_disk(error, part)
        with contextlib.suppress(OSError):
            part.unlink()
        if not ours:
            raise
        raise _unwritable(error, path, input, _need(needed, written)) from error
    if replace:
        _rename(part, path, input)
    else:
        _add(part, path)


def sweep(folder: Path, pattern: str = "*") -> None:
    """Remove what killed writers left in ``folder``: parts of files whose process lives no more, however new or old.

    Args:
        pattern: of the names to look at, as :mod:`fnmatch` has it ("*.mkv").
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            owner = PART.search(entry.name)
            if not owner or not fnmatch.fnmatch(entry.name, pattern):
                continue
            if started(int(owner[1])) != int(owner[2], 16) and not _is_locked(entry.path):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def check_name(path: Path, input: str) -> None:
    """Raise OviError unless ``path`` is one that this system can hold: NUL, and on Windows reserved names, its
    characters, and 260 characters."""
    text = str(path)
    found = ""
    if "\0" in text:
        found = "a path with a NUL character"
    elif WINDOWS:
        names = [name for name in path.parts if name not in (path.anchor, "..")]
        if any(RESERVED.match(name) for name in names):
            found = f"{text}, of which Windows reserves a part for a device"
        elif any(REFUSED.search(name) for name in names):
            found = f"{text}, which holds a character that Windows refuses in names"
    if found:
        raise OviError(
            input=input,
            found=found,
            accepted='a name without control characters, <>:"|?* or a dot at its end, and not con, nul, aux, prn, '
            "com1 or lpt1",
            remedy="Choose another name.",
        )


def plain_name(name: str) -> str:
    """A file's name in one spelling for all systems: letters and accents composed, which macOS may write apart, and
    ``/`` between folders. For comparing alone: a file is opened by the name that its folder has."""
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def started(process: int) -> int | None:
    """When a process that lives was started, in units of this system that no clock change alters; None if it has
    ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZXx" else int(fields[19])  # ticks since the start of the machine
    except (OSError, IndexError, ValueError):
        pass
    try:
        found = psutil.Process(process)
        return None if found.status() == psutil.STATUS_ZOMBIE else round(found.create_time() * 1000)
    except (psutil.Error, ValueError, OverflowError):
        return None


def glob_escaped(text: str) -> str:
    """``text`` as a pattern of :mod:`fnmatch` that matches it alone."""
    return re.sub(r"([*?[])", r"[\1]", text)


def _created(path: Path) -> tuple[Path, int, contextlib.AbstractContextManager]:
    """A new empty file beside ``path``, its mode, and what holds its lock.

    Its name is no longer than that of ``path`` where that leaves room: what can be named can be written, too.
    """
    mark = f".{os.getpid()}-{started(os.getpid()) or 0:x}-{next(_counter)}.part{path.suffix}"
    stem = path.stem[: max(0, len(path.name) - len(mark))]
    part = path.with_name(stem + mark)
    handle = os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0), 0o666)
    mode = os.fstat(handle).st_mode & 0o777
    if fcntl is None:
        os.close(handle)
        return part, mode, contextlib.nullcontext()
    with contextlib.suppress(OSError):  # not every file system has locks
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return part, mode, os.fdopen(handle, "rb")


def _is_locked(path: str) -> bool:
    """Whether a process, perhaps of another container or machine, holds the lock of a file."""
    if fcntl is None:
        return False
    with contextlib.suppress(OSError), open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _flush(part: Path, mode: int) -> None:
    with open(part, "rb+") as file:
        os.fsync(file.fileno())
    with contextlib.suppress(OSError):  # file systems without modes
        os.chmod(part, mode)


def _rename(part: Path, path: Path, input: str) -> None:
    """Move a finished file to ``path``, or to a free name beside it where that cannot be, and then raise OviError."""
    problem: OSError
    for pause in (*AGAIN, None):
        try:
            os.replace(part, path)
        except OSError as error:
            problem = error
        else:
            return _flush_folder(path.parent)
        if pause is None or not isinstance(problem, PermissionError):
            break
        time.sleep(pause)
    kept = part
    with contextlib.suppress(OSError):
        free = _free_name(path)
        os.rename(part, free)
        kept = free
    raise OviError(
        input=input,
        found=f"{path}, which cannot be replaced ({problem.strerror or problem}); it may be open in another program",
        accepted="a file that no player holds open, or a name that is not taken",
        remedy=f"The finished file is kept as {kept}. Close the player, or choose another name.",
    ) from problem


def _add(part: Path, path: Path) -> None:
    """Move a finished file to ``path``; where something is there, raise FileExistsError and remove the file."""
    try:
        try:
            os.link(part, path)  # unlike a rename, it never replaces
        except FileExistsError:
            raise
        except OSError as error:  # a file system without hard links, or Windows without the right to make them
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
            os.rename(part, path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    """Let the renaming itself survive a power cut, where the system can."""
    if not WINDOWS:
        with contextlib.suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _free_name(path: Path) -> Path:
    for number in itertools.count(2):
        stem, end = path.stem, f"_{number}{path.suffix}"
        while len(os.fsencode(stem + end)) > LONGEST_NAME:
            stem = stem[:-1]
        free = path.with_name(stem + end)
        if not os.path.lexists(free):
            return free
    raise AssertionError  # the count has no end


def _number(error: BaseException) -> int | None:
    """The system's number of what went wrong; libraries written in Rust put it into their text."""
    if getattr(error, "winerror", None) in (39, 112):  # the disk is full
        return errno.ENOSPC
    text = re.search(r"\(os error (\d+)\)", str(error))
    return getattr(error, "errno", None) or (int(text[1]) if text else None)


def _is_of_disk(error: BaseException, part: Path) -> bool:
    """Whether ``error`` comes from writing ``part``, not from what is written or from another file."""
    other = getattr(error, "filename", None)
    if isinstance(error, OviError) or not isinstance(error, Exception) or other not in (None, part, str(part)):
        return False
    return _number(error) in DISK or (isinstance(error, (OSError, RuntimeError)) and _is_full(part.parent))


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < NO_ROOM
    except OSError:
        return False


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _need(needed: int | Callable[[int], int], written: int) -> str:
    """What a file of which so much was written takes in all, in words; "" if nothing is known."""
    if callable(needed) and needed(written) > written:
        return f"about {_megabytes(needed(written))}"
    if needed and not callable(needed):
        return _megabytes(needed)
    return f"more than {_megabytes(written)}" if written else ""


def _unwritable(error: BaseException, path: Path, input: str, need: str) -> OviError:
    number = _number(error)
    reason = os.strerror(number) if number else str(error)
    if number in FULL or _is_full(path.parent):
        amount = f"it needs {need or 'more than there is'}"
        with contextlib.suppress(OSError):
            amount += f", {_megabytes(shutil.disk_usage(path.parent).free)} are free"
        found, accepted = f"no room for {path}: {amount}", "a disk with room for the file"
        remedy = "Make room and run again, or start ComfyUI with another --output-directory."
    elif number == errno.ENAMETOOLONG or (WINDOWS and len(str(path)) >= LONGEST_PATH - 30):
        found, accepted = f"{path}, a path of {len(str(path))} characters", "a name that the system can hold"
        remedy = "Choose a shorter name, or a folder with a shorter path."
    elif number in (errno.EEXIST, errno.ENOTDIR):
        blocking = next((parent for parent in path.parents if os.path.lexists(parent)), path.parent)
        found, accepted = f"{blocking}, which is a file", "a folder"
        remedy = "Rename or delete that file, or choose another folder."
    else:
        found = f"{path}, which cannot be written ({reason}{f', {need} needed' if need else ''})"
        accepted = "a folder that ComfyUI may write to"
        remedy = "Change the folder's permissions, or start ComfyUI with another --output-directory."
    return OviError(input=input, found=found, accepted=accepted, remedy=remedy)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"
