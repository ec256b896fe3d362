"""The beginning of a video file by its own clock: which frame shows when, and the audio from that moment on.

Phones and screen recorders write frames at uneven times, cutters start containers at other times than 0, and audio may
begin later than the frames. ComfyUI reads frames and audio as if both were even and began together. So the times are
read here with PyAV; frames of even times are left to ComfyUI's frame rate.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from comfy_api.latest import InputImpl
from torch import Tensor

from ..media import resampling
from ..media.audio_file import MOST_PLANES
from ..spec import FPS

UNEVEN = Fraction(1, 2)  # of a frame that a frame may be off the even times; containers round to 1 ms or more
LATE = Fraction(1, 20)  # s; audio that begins no more than this after the first frame, or before, begins with it
CUT_OFF = Fraction(1, 2)  # s; a file that ends this much earlier than it says is damaged
EARLY = Fraction(1, 2 * FPS)  # s; how much before its own time a frame may be shown


class DamagedClip(Exception):
    """A video file that cannot be read as far as it is needed; the text says what was found."""


@dataclass(frozen=True)
class Timing:
    """When a file's frames show, as its packets say, up to what is read of it.

    Attributes:
        times: of the frames, s, from the first one on.
        start: of the first frame in the file, s.
        audio_start: of the audio after the first frame, s; below 0 where it begins before it.
        length: of the frames, s, the last one's own length included.
        rate: frames a second, as the file says.
    """

    times: tuple[Fraction, ...]
    start: Fraction
    audio_start: Fraction
    length: Fraction
    rate: Fraction

    @property
    def is_even(self) -> bool:
        """Whether frames and audio are as ComfyUI takes them: at an even rate, and beginning together, at 0."""
        steps = (abs(time * self.rate - i) for i, time in enumerate(self.times))
        return self.start < 1 / self.rate and abs(self.audio_start) <= LATE and max(steps) < UNEVEN

    def shown(self, count: int) -> list[int]:
        """For ``count`` frames at 24 a second, which of the file's to show: the last one that has begun by then."""
        return [max(0, bisect_right(self.times, Fraction(i, FPS) + EARLY) - 1) for i in range(count)]


@dataclass(frozen=True)
class ClipStart:
    """The beginning of a video file.

    Attributes:
        images: [F, H, W, 3] in 0..1, as the file has them.
        length: s that the images last.
        audio: ComfyUI's AUDIO, from the first frame on; None for a file without audio.
    """

    images: Tensor
    length: Fraction
    audio: dict | None
    timing: Timing

    def frames(self, count: int) -> Tensor:
        """``count`` frames at 24 a second, [count, H, W, 3]."""
        if self.timing.is_even:
            return self.images[resampling.nearest_frames(self.images.shape[0], self.timing.rate, count, FPS)]
        return self.images[self.timing.shown(count)]


def read_timing(video: Path, seconds: float) -> Timing:
    """The times of the first ``seconds`` of a file, from its packets alone.

    Raises:
        DamagedClip: a file without video, or one that ends before that and before it says it does.
    """
    frames: list[tuple[Fraction, Fraction]] = []  # times and lengths
    audio_start, audio_end = None, Fraction(0)
    with _damage_named(), av.open(str(video), mode="r") as container:
        stream, audio = _video_of(container), _audio_of(container)
        if audio is not None and audio.codec_context.layout.nb_channels > MOST_PLANES:
            raise DamagedClip(f"audio of {audio.codec_context.layout.nb_channels} channels; {MOST_PLANES} can be read")
        rate = Fraction(stream.average_rate or stream.guessed_rate or 1)
        said = Fraction(container.duration or 0, av.time_base)
        for packet in container.demux(*filter(None, (stream, audio))):
            if packet.pts is None or getattr(packet, "is_discard", False):
                continue
            time, length = packet.pts * packet.time_base, (packet.duration or 0) * packet.time_base
            if packet.stream.type == "audio":
                audio_start, audio_end = time if audio_start is None else audio_start, time + length
            elif time >= 0:  # ComfyUI leaves out the others
                frames.append((time, length))
                # A second more, for packets do not come in the order of their times.
                if time > frames[0][0] + Fraction(seconds) + 1 and (audio is None or audio_start is not None):
                    break
    if not frames:
        raise DamagedClip("no frames")
    frames.sort()
    start, (last, last_length) = frames[0][0], frames[-1]
    end = last + (last_length or 1 / rate)
    if max(end, audio_end) < min(said, start + Fraction(seconds)) - CUT_OFF:
        raise DamagedClip(f"frames and audio that end at {float(end):.1f} s of {float(said):.1f} s: it is cut off")
    times = tuple(time - start for time, _ in frames if time - start < Fraction(seconds))
    late = Fraction(0) if audio_start is None else audio_start - start
    return Timing(times, start, late, min(end - start, Fraction(seconds)), rate)


def read_clip(video: Path, timing: Timing, seconds: float) -> ClipStart:
    """The first ``seconds`` of a file, whose times are known.

    Raises:
        DamagedClip: a file that cannot be read.
    """
    until = seconds if timing.is_even else float(timing.start) + seconds
    with _damage_named():
        parts = InputImpl.VideoFromFile(str(video), duration=until).get_components()
        count = parts.images.shape[0]
        if not count:
            raise DamagedClip("no frames that can be read")
        if timing.is_even:
            rate = Fraction(parts.frame_rate)
            return ClipStart(parts.images, count / rate, parts.audio, replace(timing, rate=rate))
        if count != len(timing.times):  # frames that are no packets of their own, or that cannot be decoded
            timing = replace(timing, times=_decoded_times(video, until))
        if count != len(timing.times):
            raise DamagedClip(f"{len(timing.times)} frames, of which {count} can be read")
        return ClipStart(parts.images, timing.length, _audio(video, timing, seconds), timing)


def _decoded_times(video: Path, until: float) -> tuple[Fraction, ...]:
    """Times of the frames from the first one on, s, by the frames themselves, which cost more to read than packets.

    The cut is ComfyUI's: at whole units of the stream's clock, up to a millisecond before ``until``.
    """
    times = []
    with av.open(str(video), mode="r") as container:
        stream = _video_of(container)
        end = int(until / stream.time_base)
        for frame in container.decode(stream):
            if frame.pts >= end:
                break
            if frame.pts >= 0:
                times.append(frame.pts * frame.time_base)
    return tuple(time - times[0] for time in times)


def _audio(video: Path, timing: Timing, seconds: float) -> dict | None:
    """ComfyUI's AUDIO of the first ``seconds`` from the first frame on: late audio follows silence, gaps are silent."""
    found: list[np.ndarray] = []
    there = 0  # samples so far
    with av.open(str(video), mode="r") as container:
        stream = _audio_of(container)
        if stream is None:
            return None
        rate = stream.codec_context.sample_rate
        for begin, samples in _audio_frames(container, stream):
            at = round((begin - timing.start) * rate)
            if at >= seconds * rate:
                break
            if at > there and (not there or at - there > LATE * rate):
                found.append(np.zeros((samples.shape[0], at - there), samples.dtype))
                there = at
            found.append(samples[:, max(0, -at) :])
            there += found[-1].shape[1]
    if not there:
        return None
    waveform = torch.from_numpy(np.concatenate(found, axis=1)[:, : round(seconds * rate)])
    return {"waveform": waveform[None], "sample_rate": rate}


def _audio_frames(container: Any, stream: Any) -> Iterator[tuple[Fraction, np.ndarray]]:
    """Begin (s) and samples [C, S] in float32 of a stream's audio, frame by frame."""
    resampler = av.AudioResampler(format="fltp")
    for frame in container.decode(stream):
        if frame.pts is None:
            continue
        begin = frame.pts * frame.time_base
        for part in resampler.resample(frame):
            yield begin, part.to_ndarray()
            begin += Fraction(part.samples, part.sample_rate)


@contextmanager
def _damage_named() -> Iterator[None]:
    """While this lasts, whatever libav and ComfyUI raise for files that are no videos is a DamagedClip."""
    try:
        yield
    except DamagedClip:
        raise
    except Exception as error:
        raise DamagedClip(f"a content that cannot be read ({str(error)[:100]})") from error


def _video_of(container: Any) -> Any:
    if not container.streams.video:
        raise DamagedClip("no video in it")
    return container.streams.video[0]


def _audio_of(container: Any) -> Any:
    """The stream that ComfyUI reads: the last one that there is a decoder for."""
    return next((stream for stream in reversed(container.streams.audio) if stream.codec_context is not None), None)
