"""Video files written and read frame by frame, and only whole ones left on the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor

from ..errors import OviError
from ..spec import FPS, SAMPLE_RATE

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)
ABANDONED = 3600  # s after which nobody writes on at a file that is not whole


@dataclass(frozen=True)
class Format:
    """How pictures and sound are held.

    Attributes:
        container, video, audio: as libav names them.
        pixels, samples: layouts in memory that the two codecs take.
        options, video_options: of the container and of the video's codec.
    """

    container: str
    video: str
    pixels: str
    audio: str
    samples: str
    options: dict[str, str]
    video_options: dict[str, str]


# Every frame of the first stands alone, and nothing is lost; the second is what browsers and players know.
LOSSLESS = Format("matroska", "ffv1", "bgr0", "pcm_f32le", "flt", {}, {"level": "3", "slices": "12"})
FILM = Format("mp4", "h264", "yuv420p", "aac", "fltp", {"movflags": "faststart"}, {"crf": "17"})


class Writer:
    """Writes pictures at 24 a second and sound of one channel at 16 kHz, each in its own time."""

    def __init__(self, file: Any, kind: Format, width: int, height: int):
        self.file, self.kind, self.heard = file, kind, 0
        self.video = file.add_stream(kind.video, rate=FPS, options=kind.video_options)
        self.video.width, self.video.height, self.video.pix_fmt = width, height, kind.pixels
        self.audio = file.add_stream(kind.audio, rate=SAMPLE_RATE, layout="mono")

    def show(self, frame: np.ndarray) -> None:
        """Add a picture [H, W, 3] in 8 bit."""
        self.file.mux(self.video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))

    def hear(self, sound: Tensor) -> None:
        """Add sound [1, 1, S], which may be none."""
        if not sound.numel():
            return
        samples = np.ascontiguousarray(sound[0].float().cpu().numpy())
        frame = av.AudioFrame.from_ndarray(samples, format=self.kind.samples, layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, self.heard, Fraction(1, SAMPLE_RATE)
        self.heard += sound.shape[-1]
        self.file.mux(self.audio.encode(frame))

    def end(self) -> None:
        """Write what the codecs still hold."""
        self.file.mux(self.audio.encode(None))
        self.file.mux(self.video.encode(None))


@contextlib.contextmanager
def written(path: Path, kind: Format, width: int, height: int) -> Iterator[Writer]:
    """A writer of a file that is at ``path`` once all went well, and not before; raises as :func:`whole`."""
    with whole(path) as part, av.open(str(part), "w", format=kind.container, options=kind.options) as file:
        writer = Writer(file, kind, width, height)
        yield writer
        writer.end()


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file to write, which is moved to ``path`` once all went well, and deleted otherwise.

    Raises:
        OviError: the disk is full, or may not be written to.
    """
    name = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        handle, name = tempfile.mkstemp(prefix=path.stem, suffix=f".part{path.suffix}", dir=path.parent)
        os.close(handle)
        yield Path(name)
        with open(name, "rb+") as done:
            os.fsync(done.fileno())
        os.replace(name, path)
    except (OSError, av.error.FFmpegError) as error:
        if error.errno not in UNWRITABLE:
            raise
        raise OviError(
            input="script",
            found=f"{path.parent}, which cannot be written to ({error.strerror})",
            accepted="a folder with room for the shots and the film",
            remedy="Make room, or start ComfyUI with another --output-directory. Shots that are there are kept.",
        ) from error
    finally:
        if name:
            Path(name).unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    """Delete what was left of ``path`` when its writer was killed."""
    for part in path.parent.glob(f"{path.stem}*.part{path.suffix}"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > ABANDONED:
                part.unlink()


def frames(path: Path, start: int = 0) -> Iterator[np.ndarray]:
    """The frames of a :data:`LOSSLESS` file from number ``start`` on, each [H, W, 3] in 8 bit.

    Raises:
        OviError: there is no such file, or none that can be read.
    """
    with _opened(path) as file:
        if start:  # the file is indexed by groups of frames
            file.seek(int(start / FPS * av.time_base))
        for frame in file.decode(video=0):
            if round(frame.time * FPS) >= start:
                yield frame.to_ndarray(format="rgb24")


def sound(path: Path) -> Tensor:
    """The sound [1, 1, S] of a :data:`LOSSLESS` file, raising as :func:`frames`."""
    with _opened(path) as file:
        parts = [frame.to_ndarray() for frame in file.decode(audio=0)]
    return torch.from_numpy(np.concatenate([np.zeros((1, 0), np.float32), *parts], axis=1))[None]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with av.open(str(path)) as file:
            yield file
    except (OSError, av.error.FFmpegError) as error:
        raise damaged(path) from error


def damaged(path: Path) -> OviError:
    """The error for a file of a shot that has gone, or cannot be read."""
    return OviError(
        input="script",
        found=f"a shot whose file cannot be read: {path}",
        accepted="shots as they were written",
        remedy="Delete the file, if it is there, and run the story again: the shot is made anew.",
    )


def in_8_bit(image: Tensor) -> np.ndarray:
    """Pictures [..., H, W, 3] in 0..1 as numbers from 0 to 255."""
    return (image.float() * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def in_floats(pictures: np.ndarray) -> Tensor:
    """Pictures [..., H, W, 3] from 0 to 255 as 0..1."""
    return torch.from_numpy(pictures).float() / 255
