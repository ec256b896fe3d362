"""Audio files read in part."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from ..errors import OviError

MOST_SAMPLES = 10_000_000  # a second, over all channels
MOST_PLANES = 7
"""Of planar audio: PyAV 18 takes one more for a channel, too, where there are eight, and ends the process."""


def excerpt(path: Path, start: int, end: int, input: str) -> tuple[Tensor, int]:
    """The first audio of a file from one second to another: waveform [1, C, S] and rate in Hz.

    Samples are counted from the file's first one, without a search, which formats such as MP3 answer only about. What
    is not taken is not held. More than seven channels are mixed to two.

    Args:
        start, end: seconds; fewer samples come where the file ends before.
        input: what an error names.

    Raises:
        OviError: the file has no audio that can be read.
    """
    try:
        with av.open(str(path)) as file:
            stream = file.streams.audio[0]
            rate, layout = stream.codec_context.sample_rate, stream.codec_context.layout
            if not 0 < rate * layout.nb_channels <= MOST_SAMPLES:
                raise ValueError(f"{layout.nb_channels} channels of {rate} Hz")
            mixed = layout if layout.nb_channels <= MOST_PLANES else av.AudioLayout("stereo")
            parts = _parts(file, av.AudioResampler("fltp", mixed, rate), start * rate, end * rate)
            samples = np.concatenate([np.zeros((mixed.nb_channels, 0), np.float32), *parts], axis=1)
    except (OSError, IndexError, ValueError, av.error.FFmpegError) as error:
        raise OviError(
            input=input,
            found=f"'{path.name}', which cannot be read as audio ({error})",
            accepted="a WAV, FLAC, MP3 or another audio file",
            remedy="Open it in an audio editor and save it again.",
        ) from error
    return torch.from_numpy(samples)[None], rate


def _parts(file: av.container.InputContainer, resampler: av.AudioResampler, start: int, end: int) -> list[np.ndarray]:
    """Arrays [C, S] of what stands between two samples."""
    parts, at = [], 0
    for decoded in file.decode(audio=0):
        for frame in resampler.resample(decoded):
            samples = frame.to_ndarray()
            parts.append(samples[:, max(0, start - at) : max(0, end - at)].copy())
            at += samples.shape[1]
        if at >= end:
            break
    return [part for part in parts if part.size]
