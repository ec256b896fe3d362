"""Shots and films on disk: each a file named by what it was made of, whole or not there at all, with its checksum.

``shots/<key>.mkv`` is without loss, ``films/<key>.mp4`` is for players. Beside each stands ``<key>.sha256``, as
``sha256sum`` writes it; a file that does not match it any more is never used.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import io
import itertools
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import av.logging
import numpy as np
from torch import Tensor

from ..errors import OviError
from ..media import video_file
from ..safe_write import new_file
from .plan import Plan

INPUT = "script"  # of the node, that errors of the disk are reported at
READ_AT_ONCE = 1 << 20  # bytes

_unsaved: dict[Path, bytes] = {}
"""Shots that no disk had room for; they are written when their storyboard runs again in this process."""


class State(enum.Enum):
    """What a stored file is worth."""

    MISSING = enum.auto()
    DAMAGED = enum.auto()
    WHOLE = enum.auto()


@dataclass(frozen=True)
class Store:
    """A folder of shots and films; several ComfyUIs may use it at the same time.

    Attributes:
        folder: created when the first file is written.
    """

    folder: Path

    def shot(self, key: str) -> Path:
        return self.folder / "shots" / f"{key}.mkv"

    def film(self, key: str) -> Path:
        return self.folder / "films" / f"{key}.mp4"

    def check_writable(self) -> None:
        """Raise OviError unless files can be written here, before anything is made that would be lost."""
        for example in (self.shot("x"), self.film("x")):
            probe = example.with_name(f"{os.getpid()}.probe")
            with new_file(probe, input=INPUT):
                pass
            probe.unlink(missing_ok=True)

    # -- shots

    def state(self, plan: Plan) -> State:
        """Whether a shot is here and is still what was written. One without a checksum, as early versions stored them,
        is decoded instead."""
        path = self.shot(plan.key)
        if path in _unsaved:
            self.put(plan, _unsaved[path])
        state = _state(path)
        if state is State.WHOLE and _recorded(path) is None:
            if not decodes(str(path), plan):
                return State.DAMAGED
            with contextlib.suppress(OviError):  # a folder that is read-only
                _record(path, _digest(path))
        return state

    def write(self, plan: Plan, images: Tensor, audio: Tensor) -> None:
        """Put a shot into the store.

        Args:
            images: [F, H, W, 3] in 0..1, stored in 8 bit.
            audio: [1, C, S] at the plan's sample rate, stored in 32 bit.

        Raises:
            OviError: the disk is full or cannot be written to; the shot stays in memory until it is asked for again.
        """
        self.put(plan, _encoded(plan, images, audio))

    def put(self, plan: Plan, shot: bytes) -> None:
        """Put the file of a shot that another store had into this one; raises as :meth:`write`."""
        path = self.shot(plan.key)
        _unsaved[path] = shot
        try:
            with _replaced(path, len(shot)) as part:
                part.write_bytes(shot)
        except OviError as error:
            error.remedy += " The shot stays in memory: run the storyboard again, and it is written first."
            raise
        _unsaved.pop(path, None)

    def frames(self, plan: Plan) -> Iterator[np.ndarray]:
        """The frames of a shot, each [H, W, 3] of 8 bit."""
        return video_file.frames(self.shot(plan.key), plan.streams.frame_rate)

    def images(self, plan: Plan, start: int, count: int | None = None) -> Tensor:
        """Frames of a shot from number ``start`` on, [count, H, W, 3] in 0..1; fewer where it ends before."""
        path = self.shot(plan.key)
        frames = list(itertools.islice(video_file.frames(path, plan.streams.frame_rate, start), count))
        if not frames:
            raise video_file.damaged(path)
        return video_file.as_floats(np.stack(frames))

    def audio(self, plan: Plan) -> Tensor:
        """The audio of a shot, [1, 1, S]."""
        return video_file.audio(self.shot(plan.key))

    # -- films

    def film_state(self, key: str) -> State:
        """Whether a film is here and is still what was written."""
        path = self.film(key)
        state = _state(path)
        # It takes little to write one again.
        return State.DAMAGED if state is State.WHOLE and _recorded(path) is None else state

    @contextlib.contextmanager
    def new_film(self, key: str, needed: Callable[[int], int]) -> Iterator[Path]:
        """A path to write a film to; it is in the store after the block. As :func:`.safe_write.new_file`."""
        with _replaced(self.film(key), needed) as part:
            yield part


def decodes(source: str | io.BytesIO, plan: Plan) -> bool:
    """Whether a shot's file can be read from end to end and has the plan's frames."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)  # libav shows a frame whose checksum is wrong, and says so in its log alone
    try:
        with av.logging.Capture() as errors, av.open(source, "r") as file:
            file.streams.video[0].codec_context.thread_count = 1  # this one, whose log is captured
            frames = sum(1 for _ in file.decode(video=0))
            file.seek(0)
            for _ in file.decode(audio=0):
                pass
    except (OSError, IndexError, ValueError, av.error.FFmpegError):
        return False
    finally:
        av.logging.set_level(level)
    return frames == plan.clip.frames and not errors


def _encoded(plan: Plan, images: Tensor, audio: Tensor) -> bytes:
    """The file of a shot, made in memory: its size is known before the disk is written to, and a full disk loses
    nothing."""
    buffer, kind = io.BytesIO(), video_file.LOSSLESS
    options = {**kind.options, "fflags": "+bitexact"}  # without a random number: two ComfyUIs write the same file
    with av.open(buffer, "w", format=kind.container, options=options) as file:
        writer = video_file.Writer(file, kind, plan.streams)
        writer.add_audio(audio)
        for image in images:
            writer.add_frame(video_file.as_bytes(image))
        writer.end()
    return buffer.getvalue()


@contextlib.contextmanager
def _replaced(path: Path, needed: int | Callable[[int], int]) -> Iterator[Path]:
    """:func:`new_file` with a checksum. A process that ends between the two leaves a file without one."""
    with contextlib.suppress(OSError):
        _checksum(path).unlink()
    with new_file(path, input=INPUT, needed=needed) as part:
        yield part
        digest = _digest(part)
    _record(path, digest)


def _state(path: Path) -> State:
    if not path.is_file():
        return State.MISSING
    try:
        recorded = _recorded(path)
        return State.WHOLE if recorded in (None, _digest(path)) else State.DAMAGED
    except OSError:
        return State.DAMAGED


def _checksum(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _record(path: Path, digest: str) -> None:
    with new_file(_checksum(path), input=INPUT) as part:
        part.write_text(f"{digest}  {path.name}\n", encoding="ascii")


def _recorded(path: Path) -> str | None:
    """The SHA-256 with which a file was written; None where there is none that can be read."""
    try:
        with open(_checksum(path), "rb") as file:
            found = re.match(rb"[0-9a-f]{64}(?=\s)", file.read(256))
    except OSError:
        return None
    return found[0].decode() if found else None


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(READ_AT_ONCE):
            found.update(block)
    return found.hexdigest()
