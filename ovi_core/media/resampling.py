"""Time: frames of one rate shown at another, and audio of any sample rate at another.

Audio goes through PyAV's resampler, whose memory does not grow with the ratio of the rates. Relative error of a tone at
44.1 -> 16 kHz, in brackets that of ``torchaudio.functional.resample`` with its defaults: 440 Hz 2.2e-5 (2.2e-4), 3 kHz
8.1e-6 (5.1e-4), 7 kHz 4.4 % (19 %). It is the same at 44,101 and 22,254 Hz, where torchaudio's kernel takes gigabytes.
"""

from __future__ import annotations

import math
from fractions import Fraction

import av
import numpy as np
import torch
from torch import Tensor

MARGIN = 0.05  # s of audio beyond a cut, so that the resampling filter does not see the cut
FULL_SCALE = 1.0  # peak of what an audio encoder takes
AT_ONCE = 1 << 16  # samples


def exact_rate(frame_rate: float) -> Fraction:
    """Frames per second as a fraction: 23.976, 29.97 and 59.94 are 24000, 30000 and 60000 over 1001."""
    broadcast = Fraction(round(frame_rate * 1.001) * 1000, 1001)
    return broadcast if abs(broadcast - Fraction(frame_rate)) < 5e-4 else Fraction(frame_rate).limit_denominator(1000)


def frames_within(seconds: Fraction, frame_rate: Fraction) -> int:
    """Whole frames that fit into ``seconds``."""
    return math.floor(seconds * frame_rate)


def samples_within(seconds: Fraction, rate: int) -> int:
    """Samples at ``rate`` Hz that fill ``seconds``, the last one perhaps in part."""
    return math.ceil(seconds * rate)


def samples_before(frame: int, frame_rate: int | Fraction, rate: int) -> int:
    """The sample at ``rate`` Hz nearest to the beginning of a frame; exact, so that errors do not add up."""
    return math.floor(frame / Fraction(frame_rate) * rate + Fraction(1, 2))


def nearest_frames(count: int, frame_rate: Fraction, wanted: int, new_rate: int | Fraction) -> list[int]:
    """For ``wanted`` frames at ``new_rate`` per second, which of ``count`` frames at ``frame_rate`` to show.

    Frame i, at i / ``new_rate`` s, is the one nearest in time, the later of two; past the end it is the last one.
    """
    return [min(count - 1, math.floor(i * frame_rate / new_rate + Fraction(1, 2))) for i in range(wanted)]


def resampled(waveform: Tensor, rate: int, new_rate: int) -> Tensor:
    """Audio [..., S] at ``rate`` Hz as [..., ceil(S new_rate / rate)] at ``new_rate`` Hz; the same for equal rates."""
    if rate == new_rate:
        return waveform
    length = math.ceil(Fraction(waveform.shape[-1] * new_rate, rate))
    channels = waveform.detach().reshape(math.prod(waveform.shape[:-1]), waveform.shape[-1]).float().cpu().numpy()
    out = np.zeros((len(channels), length), np.float32)
    for channel, resampled_channel in zip(channels, out, strict=True):
        _resample_into(resampled_channel, channel, rate, new_rate)
    return torch.from_numpy(out).reshape(*waveform.shape[:-1], length).to(waveform)


def _resample_into(out: np.ndarray, samples: np.ndarray, rate: int, new_rate: int) -> None:
    """One channel [S] into the beginning of ``out`` [S']."""
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=new_rate)
    done = 0
    for start in (*range(0, len(samples), AT_ONCE), None):
        frame = None
        if start is not None:
            part = np.ascontiguousarray(samples[None, start : start + AT_ONCE])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        for made in resampler.resample(frame):
            piece = made.to_ndarray()[0, : len(out) - done]
            out[done : done + len(piece)] = piece
            done += len(piece)


def mono_at(waveform: Tensor, rate: int, new_rate: int, samples: int) -> Tensor:
    """The beginning of audio [B, C, S] at ``rate`` Hz as an encoder takes it: [B, S'] at ``new_rate`` Hz.

    Channels are averaged. What is louder than full scale is made quieter as a whole, the rest keeps its loudness.

    Args:
        samples: S' at most; fewer where the audio ends before.
    """
    needed = math.ceil((samples / new_rate + MARGIN) * rate)
    mono = resampled(waveform[..., :needed].float().mean(dim=1), rate, new_rate)[..., :samples]
    if not mono.numel():
        return mono
    peak = mono.abs().amax(dim=-1, keepdim=True)
    return mono * (FULL_SCALE / torch.clamp(peak, min=FULL_SCALE))
