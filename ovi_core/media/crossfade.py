"""Crossfades of images and of audio."""

from __future__ import annotations

import math

import torch
from torch import Tensor

AUDIO_FADE = 0.1  # s; longer, two renderings of the same voice are heard as a chorus
CLICK_FADE = 0.005  # s, from silence to audio that is cut out of a longer one


def crossfaded_images(first: Tensor, second: Tensor) -> Tensor:
    """Images [K, H, W, 3] that go linearly from ``first`` [K, ...] to the beginning of ``second`` [K.., ...]."""
    count = first.shape[0]
    weight = torch.arange(1, count + 1, device=first.device, dtype=first.dtype) / (count + 1)
    return torch.lerp(first, second[:count], weight.reshape(-1, 1, 1, 1))


def joined_audio(first: Tensor, second: Tensor, begin: int, rate: int) -> Tensor:
    """``first`` [1, C, S], then ``second``, which begins at sample ``begin`` of it.

    Where both sound they cross within 0.1 s around the middle. Where they have no time in common, the first falls to
    silence before the second rises from it, within 5 ms each.
    """
    shared = min(first.shape[-1] - begin, second.shape[-1])
    if shared <= 0:
        before = cut_or_padded(fallen(first[..., :begin], rate), begin)
        return torch.cat((before, risen(second, rate)), dim=-1)
    fade = min(round(AUDIO_FADE * rate), shared)
    until = begin + (shared + fade) // 2
    crossed = crossfaded_audio(first[..., begin:until], second, fade / rate, rate)
    return torch.cat((first[..., :begin], crossed), dim=-1)


def risen(audio: Tensor, rate: int, seconds: float = CLICK_FADE) -> Tensor:
    """Audio [..., S] that rises from silence in its first ``seconds``."""
    count = min(round(seconds * rate), audio.shape[-1])
    rise = (torch.arange(count, device=audio.device, dtype=audio.dtype) + 0.5) / max(1, count)
    return torch.cat((audio[..., :count] * rise, audio[..., count:]), dim=-1)


def fallen(audio: Tensor, rate: int, seconds: float = CLICK_FADE) -> Tensor:
    """Audio [..., S] that falls to silence in its last ``seconds``."""
    return risen(audio.flip(-1), rate, seconds).flip(-1)


def cut_or_padded(audio: Tensor, samples: int) -> Tensor:
    """Audio [..., S] cut, or continued with silence, to ``samples``."""
    return torch.nn.functional.pad(audio[..., :samples], (0, max(0, samples - audio.shape[-1])))


def crossfaded_audio(first: Tensor, second: Tensor, seconds: float, rate: int) -> Tensor:
    """Audio [..., S] that goes from ``first`` to ``second`` within ``seconds`` before the end of ``first``.

    Both begin at the same time; what they share in that span is crossfaded in equal power, be they the same audio, two
    renderings of it, or unrelated. Before it, the result is ``first`` bit for bit, after it ``second``.
    """
    end = min(first.shape[-1], second.shape[-1])
    start = max(0, end - round(seconds * rate))
    angle = (torch.arange(end - start, device=first.device) + 0.5) / max(1, end - start) * (math.pi / 2)
    before, after = first[..., start:end], second[..., start:end]
    power = 1 + _correlation(before, after) * (2 * angle).sin()  # of the sum of both, each of power 1
    fade = (before * angle.cos() + after * angle.sin()) / power.sqrt()
    return torch.cat((first[..., :start], fade, second[..., end:]), dim=-1)


def _correlation(first: Tensor, second: Tensor) -> float:
    """Of audio of one shape: 0 for nothing in common, 1 for the same; not below -0.5."""
    a, b = first.double().flatten(), second.double().flatten()
    norms = float(a.norm() * b.norm())
    return max(-0.5, float(a @ b) / norms) if norms else 0.0
