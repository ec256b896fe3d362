"""Video files written and read frame by frame."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace
from torch import Tensor

from ..errors import OviError
from ..safe_write import new_file

BT709 = 1
"""Number of matrix, primaries and transfer function (ITU-T H.273) that ComfyUI writes and players assume."""


@dataclass(frozen=True)
class Format:
    """How images and audio are stored.

    Attributes:
        container, video, audio: as libav names them.
        pixels, samples: layouts in memory that the two codecs take.
        options, video_options: of the container and of the video's codec.
        color: H.273's number of the colours, with the range of television; None stores RGB as it is.
    """

    container: str
    video: str
    pixels: str
    audio: str
    samples: str
    options: dict[str, str]
    video_options: dict[str, str]
    color: int | None = None


# Every frame of the first stands alone, and nothing is lost; the second is what browsers and players know.
LOSSLESS = Format("matroska", "ffv1", "bgr0", "pcm_f32le", "flt", {}, {"level": "3", "slices": "12"})
_MP4 = {"movflags": "faststart+use_metadata_tags"}  # the second for tags of any name
FILM = Format("mp4", "h264", "yuv420p", "aac", "fltp", _MP4, {"crf": "17"}, BT709)


@dataclass(frozen=True)
class Streams:
    """What a file holds.

    Attributes:
        width, height: px.
        frame_rate: frames per second.
        sample_rate: Hz.
        layout: of the audio's channels, as libav names it.
    """

    width: int
    height: int
    frame_rate: int
    sample_rate: int
    layout: str = "mono"


class Writer:
    """Adds frames and audio to a file, each in its own time."""

    def __init__(self, file: Any, kind: Format, streams: Streams):
        self.file, self.kind, self.streams, self.samples = file, kind, streams, 0
        self.video = file.add_stream(kind.video, rate=streams.frame_rate, options=kind.video_options)
        self.video.width, self.video.height, self.video.pix_fmt = streams.width, streams.height, kind.pixels
        if kind.color is not None:
            codec = self.video.codec_context
            codec.colorspace = codec.color_primaries = codec.color_trc = kind.color
            codec.color_range = ColorRange.MPEG
        self.audio = file.add_stream(kind.audio, rate=streams.sample_rate, layout=streams.layout)

    def add_frame(self, image: np.ndarray) -> None:
        """Add an image [H, W, 3] of 8 bit."""
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        if self.kind.color is not None:
            frame = frame.reformat(
                format=self.kind.pixels, dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
        self.file.mux(self.video.encode(frame))

    def add_audio(self, waveform: Tensor) -> None:
        """Add audio [1, C, S], which may be empty."""
        if not waveform.numel():
            return
        samples = waveform[0].float().cpu().numpy()
        if not av.AudioFormat(self.kind.samples).is_planar:  # channels side by side
            samples = samples.T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples), format=self.kind.samples, layout=self.streams.layout
        )
        rate = self.streams.sample_rate
        frame.sample_rate, frame.pts, frame.time_base = rate, self.samples, Fraction(1, rate)
        self.samples += waveform.shape[-1]
        self.file.mux(self.audio.encode(frame))

    def end(self) -> None:
        """Write what the codecs still hold."""
        self.file.mux(self.audio.encode(None))
        self.file.mux(self.video.encode(None))


@contextlib.contextmanager
def written(path: Path, kind: Format, streams: Streams, *, input: str) -> Iterator[Writer]:
    """A writer of a file that is whole at ``path`` after the block; raises as :func:`.safe_write.new_file`."""
    with new_file(path, input=input) as part, opened_to_write(part, kind, streams) as writer:
        yield writer


@contextlib.contextmanager
def opened_to_write(
    path: Path, kind: Format, streams: Streams, tags: Mapping[str, str] | None = None
) -> Iterator[Writer]:
    """A writer of a file that is at ``path`` from the start, for callers that care for its name themselves."""
    with av.open(str(path), "w", format=kind.container, options=kind.options) as file:
        file.metadata.update(tags or {})
        writer = Writer(file, kind, streams)
        yield writer
        writer.end()


def frames(path: Path, frame_rate: int, start: int = 0) -> Iterator[np.ndarray]:
    """The frames of a :data:`LOSSLESS` file from number ``start`` on, each [H, W, 3] of 8 bit.

    Raises:
        OviError: there is no such file, or none that can be read.
    """
    with _opened(path) as file:
        if start:  # the file is indexed by groups of frames
            file.seek(int(start / frame_rate * av.time_base))
        for frame in file.decode(video=0):
            if round(frame.time * frame_rate) >= start:
                yield frame.to_ndarray(format="rgb24")


def audio(path: Path) -> Tensor:
    """The audio [1, 1, S] of a :data:`LOSSLESS` file of one channel, raising as :func:`frames`."""
    with _opened(path) as file:
        parts = [frame.to_ndarray() for frame in file.decode(audio=0)]
    return torch.from_numpy(np.concatenate([np.zeros((1, 0), np.float32), *parts], axis=1))[None]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with av.open(str(path)) as file:
            yield file
    except (OSError, IndexError, av.error.FFmpegError) as error:
        raise damaged(path) from error


def damaged(path: Path) -> OviError:
    """The error for a file of a shot that is missing or cannot be read."""
    return OviError(
        input="script",
        found=f"a shot whose file cannot be read: {path}",
        accepted="shots as they were written",
        remedy="Delete the file, if it is there, and run the story again: the shot is regenerated.",
    )


def as_bytes(images: Tensor) -> np.ndarray:
    """Images [..., H, W, 3] in 0..1 as integers from 0 to 255."""
    return (images.float() * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def as_floats(images: np.ndarray) -> Tensor:
    """Images [..., H, W, 3] from 0 to 255 as 0..1."""
    return torch.from_numpy(images).float() / 255
