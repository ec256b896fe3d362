"""Downloads published files from Hugging Face: resumed, and renamed only after size and SHA-256 match.

``huggingface_hub`` decides where from and as whom, by its own settings: ``HF_ENDPOINT`` (a mirror), ``HF_TOKEN``,
``HF_HUB_OFFLINE``, ``HF_HUB_DOWNLOAD_TIMEOUT``. Its own download starts again when it was stopped; so the bytes go to a
``.partial`` file beside the target here, which the next try continues.
"""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import OviError
from ..safe_write import DISK, FULL
from . import fingerprints

INPUT = "download_missing"
GONE = (401, 403, 404)  # Hugging Face answers 401 for a repository that is not there, too
BLOCK = 1 << 24  # bytes hashed at a time
BY_HAND = "or put the file in place by hand"
Progress = Callable[[int, int], None]
"""Called with the bytes that are there and the bytes wanted, over all files; what it raises ends the download."""


@dataclass(frozen=True)
class Source:
    """A file on Hugging Face: its repository and its path there.

    Attributes:
        size: bytes, about, where it is known without asking; else 0.
        sha256: 64 hexadecimal digits, where it is known; for servers that give none.
    """

    repo: str
    path: str
    size: int = 0
    sha256: str = ""

    @property
    def url(self) -> str:
        """Where anyone finds it, whatever mirror is set."""
        return f"https://huggingface.co/{self.repo}/resolve/main/{self.path}"

    def __str__(self) -> str:
        return f"huggingface.co/{self.repo}"


class Gone(OviError):
    """A published file that is not to be had from its source: moved, removed, renamed, or behind a licence.

    Attributes:
        done: how many of the files that were asked for at the same time had come before, in their order.
    """

    done = 0

    def __init__(self, source: Source, failed: OviError):
        super().__init__(
            input=failed.input,
            found=failed.found,
            accepted=failed.accepted,
            remedy=failed.remedy,
            node=failed.node,
        )
        self.source = source

    def __reduce__(self) -> tuple:
        parts = {name: getattr(self, name) for name in ("input", "found", "accepted", "remedy", "node")}
        return type(self), (self.source, OviError(**parts))


@dataclass(frozen=True)
class Job:
    """One file to download, as Hugging Face has it now.

    Attributes:
        url: of this very revision.
        target: where the whole file goes.
        size: bytes.
        sha256: 64 hexadecimal digits; None where the server gives none.
        partial: what has come so far; named by the content, so that another revision does not continue it.
    """

    source: Source
    url: str
    target: Path
    size: int
    sha256: str | None
    partial: Path

    @property
    def have(self) -> int:
        """Bytes that have come already."""
        return self.partial.stat().st_size if self.partial.exists() else 0


def fetch(files: Sequence[tuple[Source, Path]], progress: Progress, say: Callable[[str], None] = logging.info) -> None:
    """Fetch every file to its path.

    Nothing is fetched unless all of them are there to be had and there is room for them.

    Raises:
        OviError: why a file could not be fetched. What came of it is kept for the next try, unless it was wrong.
    """
    jobs = [_look_up(source, target) for source, target in files]
    _require_space(jobs)
    total, done = sum(job.size for job in jobs), 0
    for number, job in enumerate(jobs):
        say(f"Fetching {job.target.name} ({gigabytes(job.size)}) from {job.source} to {job.target.parent}")
        try:
            with _explained(job.source, job.size):
                _fetch(job, partial(_report, progress, done, total), say)
        except Gone as error:
            error.done = number
            raise
        done += job.size


def _report(progress: Progress, before: int, total: int, have: int) -> None:
    progress(before + have, total)


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise OviError(
            input=INPUT,
            found="no Python package 'huggingface_hub', which fetches files",
            accepted="a Python that has it, as ComfyUI's requirements bring it",
            remedy=f"Run 'python -m pip install huggingface_hub' with ComfyUI's Python, {BY_HAND}.",
        ) from error
    return huggingface_hub


def _look_up(source: Source, target: Path) -> Job:
    """Ask Hugging Face for size, hash and revision."""
    hub = _library()
    asked = hub.hf_hub_url(source.repo, source.path)
    with _explained(source):
        found = hub.get_hf_file_metadata(asked)
    if not found.etag and urlsplit(found.location or asked)[:3] != urlsplit(asked)[:3]:
        moved = f"it has moved to {found.location}, another place, which is not followed unasked"
        raise Gone(source, _failed(source, moved, "Look whether that is the same file"))
    if not found.commit_hash or not found.etag or not found.size or found.size < 0:
        raise _failed(
            source,
            "the server answered with something that is no file of Hugging Face (a log-in page, a proxy?)",
            "Look at the address in a browser, check HF_ENDPOINT and proxy",
        )
    url = hub.hf_hub_url(source.repo, source.path, revision=found.commit_hash)
    sha256 = found.etag if re.fullmatch("[0-9a-f]{64}", found.etag) else source.sha256 or None
    tag = re.sub("[^0-9A-Za-z]", "", found.etag)[:12]
    return Job(source, url, target, found.size, sha256, target.with_name(f"{target.name}.{tag}.partial"))


def _require_space(jobs: list[Job]) -> None:
    """Raise unless every disk has room for what is still to come to it."""
    wanted: dict[int, tuple[Path, int]] = {}
    for job in jobs:
        folder = next(parent for parent in job.target.absolute().parents if parent.exists())
        first, size = wanted.get(folder.stat().st_dev, (folder, 0))
        wanted[folder.stat().st_dev] = first, size + max(0, job.size - job.have)
    for folder, size in wanted.values():
        free = shutil.disk_usage(folder).free
        if free < size:
            raise OviError(
                input=INPUT,
                found=f"{gigabytes(free)} free in {folder}, where {gigabytes(size)} are still to be fetched",
                accepted=f"{gigabytes(size)} of free disk or more",
                remedy=f"Free {gigabytes(size - free)} or more there, or add a folder on a larger disk to ComfyUI's "
                "extra_model_paths.yaml with is_default, and run again.",
            )


class _Watched(io.BufferedWriter):
    """A file that is continued, and reports its length with every piece that is written."""

    def __init__(self, path: Path, report: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(path, "ab"))
        self.report = report

    def write(self, piece: Any) -> int:
        written = super().write(piece)
        self.report(self.tell())
        return written


def _fetch(job: Job, progress: Callable[[int], None], say: Callable[[str], None]) -> None:
    from filelock import FileLock

    job.target.parent.mkdir(parents=True, exist_ok=True)
    lock = Path(f"{job.partial}.lock")
    with FileLock(lock, timeout=0):
        _receive(job, progress, say)
        _verify(job, progress)
        _put_in_place(job)
        fingerprints.remember(job.target, f"{job.source.repo}/{job.source.path}", job.sha256)
    lock.unlink(missing_ok=True)
    checked = "its size and SHA-256 are" if job.sha256 else "the server gives no SHA-256, but its size is"
    say(f"{job.target.name} is whole: {checked} as published")


def _put_in_place(job: Job) -> None:
    """Give the whole file its name. Where the name is taken by a file in use, what came is kept for the next try."""
    with job.partial.open("rb+") as file:
        os.fsync(file.fileno())
    try:
        os.replace(job.partial, job.target)
    except PermissionError as error:
        if not job.target.exists():
            raise
        raise OviError(
            input=INPUT,
            found=f"'{job.target.name}', which is downloaded but cannot replace {job.target}: a program holds it open",
            accepted="a place that is free, or holds a file that is not in use",
            remedy="Close that program (ComfyUI itself, if it uses the file) and run again: nothing is fetched again.",
        ) from error


def _receive(job: Job, progress: Callable[[int], None], say: Callable[[str], None]) -> None:
    """Bring the partial file to its full length, by the server's account."""
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    if job.have > job.size:
        job.partial.unlink()
    if job.have:
        say(f"Going on with {job.target.name} after {gigabytes(job.have)}")
    if job.have < job.size:
        with _Watched(job.partial, progress) as file:
            # Without the size it should have: whatever came is judged in one place, by _verify.
            http_get(
                job.url, file, resume_size=job.have, headers=build_hf_headers(), displayed_filename=job.target.name
            )
    progress(job.size)


def _verify(job: Job, progress: Callable[[int], None]) -> None:
    """Raise, and remove what came, unless it has the size and hash that Hugging Face gives."""
    with job.partial.open("rb") as file:
        page = re.match(rb"\s*<(!doctype html|html)", file.read(512), re.IGNORECASE)
        wrong = "a web page came in place of the file (a log-in page, a proxy?)" if page else ""
        if not wrong and job.have != job.size:
            wrong = f"{job.have:,} bytes came, Hugging Face has {job.size:,}"
        if not wrong and job.sha256 is not None:
            file.seek(0)
            digest = hashlib.sha256()
            while block := file.read(BLOCK):
                digest.update(block)
                progress(job.size)
            if digest.hexdigest() != job.sha256:
                wrong = f"it was damaged on the way (its SHA-256 is {digest.hexdigest()[:12]}…, not {job.sha256[:12]}…)"
    if wrong:
        job.partial.unlink()
        raise _failed(job.source, wrong, "What came was removed. Try again, on another network or mirror if it stays")


@contextmanager
def _explained(source: Source, size: int = 0) -> Iterator[None]:
    """Turn what goes wrong between here and Hugging Face into an error that says what to do.

    Args:
        size: of the file in bytes, where it is known.
    """
    from huggingface_hub.errors import HTTPError  # the network library's: which one depends on the version

    try:
        yield
    except (HTTPError, OSError) as error:
        failed = _failed(source, *_reason(error, size))
        if _status(error) in GONE:
            raise Gone(source, failed) from error
        raise failed from error


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _reason(error: Exception, size: int) -> tuple[str, str]:
    """What went wrong, and what to do."""
    from filelock import Timeout
    from huggingface_hub.errors import OfflineModeIsEnabled

    again = "Run again: what has come is kept and continued"
    if isinstance(error, Timeout):
        return "another program is fetching it", "Wait until it is done"
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so Hugging Face is not asked", "Unset it"
    status = _status(error)
    if status in (401, 403):
        return (
            f"Hugging Face refused access ({status})",
            "Accept the licence on its page if it has one, and set HF_TOKEN to a token that may read it",
        )
    if status == 404:
        return "Hugging Face has no such file (404)", "Check HF_ENDPOINT; if it is right, the file has moved"
    if status is not None:
        return f"the server answered {status}", again
    if isinstance(error, OSError) and error.errno in FULL:
        return f"the disk is full; the file has {gigabytes(size)}", f"Free some space. {again}"
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"the folder cannot be written to ({error.filename or error.strerror})", "Change its permissions"
    if isinstance(error, OSError) and error.errno in DISK:
        return f"the disk reports an error ({error.strerror})", f"Check the disk. {again}"
    what = " ".join(str(error).split())[:120] or type(error).__name__
    return f"the connection failed or stalled ({what})", f"Check the network (HF_ENDPOINT sets a mirror). {again}"


def _failed(source: Source, why: str, remedy: str) -> OviError:
    return OviError(
        input=INPUT,
        found=f"'{source.path.rpartition('/')[2]}' could not be fetched from {source}: {why}",
        accepted="a file that comes whole, with the size and SHA-256 that Hugging Face gives",
        remedy=f"{remedy}, {BY_HAND}.",
    )


def gigabytes(size: int) -> str:
    """A size in bytes as users read it."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
