"""Small video files as phones, screen recorders and cutters write them: uneven times, late audio, other starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor

EVENT = 0.2  # s, how long a flash and a beep last


@dataclass(frozen=True)
class Recording:
    """What a file holds.

    Attributes:
        times: of the frames, s from the beginning of the recording.
        event: when the frames are white and the audio beeps, s.
        video_start, audio_start: what is added to the times in the file; the audio is without its first
            ``audio_start - video_start`` seconds.
        length: of the audio's end, s; None for no audio.
    """

    times: Sequence[float]
    event: float
    video_start: float = 0.0
    audio_start: float = 0.0
    length: float | None = 2.0
    size: tuple[int, int] = (64, 32)

    def write(self, path: Path, rate: int = 24, sample_rate: int = 44100) -> Path:
        """The recording as a file, with a caption beside it."""
        with av.open(str(path), "w") as container:
            video = container.add_stream("libx264", rate=rate, options={"crf": "10", "bf": "0"})
            video.width, video.height, video.pix_fmt = *self.size, "yuv420p"
            video.time_base = video.codec_context.time_base = Fraction(1, 90000)
            audio = None if self.length is None else container.add_stream("aac", rate=sample_rate, layout="mono")
            for time in self.times:
                container.mux(video.encode(self._frame(time, video.time_base)))
            container.mux(video.encode())
            if audio is not None:
                self._write_audio(container, audio, sample_rate)
        path.with_suffix(".txt").write_text("A lamp flashes. Audio: a beep.", encoding="utf-8")
        return path

    def _frame(self, time: float, time_base: Fraction) -> av.VideoFrame:
        bright = 255 if self.event <= time < self.event + EVENT else 20
        frame = av.VideoFrame.from_ndarray(np.full((*self.size[::-1], 3), bright, np.uint8), format="rgb24")
        frame = frame.reformat(format="yuv420p")
        frame.pts, frame.time_base = round((time + self.video_start) / time_base), time_base
        return frame

    def _write_audio(self, container: Any, stream: Any, rate: int) -> None:
        late = self.audio_start - self.video_start
        time = late + np.arange(round((self.length - late) * rate)) / rate
        beep = (time >= self.event) & (time < self.event + EVENT)
        samples = (0.8 * np.sin(2 * np.pi * 880 * time) * beep).astype(np.float32)[None]
        for begin in range(0, samples.shape[1], 1024):
            part = np.ascontiguousarray(samples[:, begin : begin + 1024])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            frame.pts = begin + round(self.audio_start * rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def even(rate: float, seconds: float) -> list[float]:
    """Times of frames at an even rate."""
    return [i / rate for i in range(round(rate * seconds))]


def flash_at(images: Tensor, rate: float = 24.0) -> float:
    """When images [F, H, W, 3] first are bright, s."""
    return float((images.flatten(1).mean(dim=1) > 0.5).int().argmax()) / rate


def beep_at(waveform: Tensor, rate: int) -> float:
    """When audio [..., S] is first loud, s."""
    loud = torch.as_tensor(waveform).abs().reshape(-1)
    return float((loud > 0.2 * loud.max()).int().argmax()) / rate
