"""Crossfades of frames and of audio."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SOUND_FADE = 0.1  # s; longer, the two renderings of the same voice would be heard as a chorus


CLICK_FADE = 0.005  # s, where sounds meet that have no time in common


def crossfaded(first: Tensor, second: Tensor) -> Tensor:
    """Pictures [K, H, W, 3] that go over linearly from ``first`` [K, ...] to the beginning of ``second`` [K.., ...]."""
    count = first.shape[0]
    weight = torch.arange(1, count + 1, device=first.device, dtype=first.dtype) / (count + 1)
    return torch.lerp(first, second[:count], weight.reshape(-1, 1, 1, 1))


def joined_sound(first: Tensor, second: Tensor, begin: int, rate: int) -> Tensor:
    """``first`` [1, C, S] going over to ``second``, which begins at sample ``begin`` of it.

    Where they have no time in common, the one falls to nothing before the other rises from it, within 5 ms each.
    """
    shared = min(first.shape[-1] - begin, second.shape[-1])
    if shared <= 0:
        before = as_long_as(_risen(first[..., :begin].flip(-1), rate).flip(-1), begin)
        return torch.cat((before, _risen(second, rate)), dim=-1)
    fade = min(round(SOUND_FADE * rate), shared)
    until = begin + (shared + fade) // 2
    return torch.cat((first[..., :begin], joined(first[..., begin:until], second, fade / rate, rate)), dim=-1)


def _risen(sound: Tensor, rate: int) -> Tensor:
    """Sound [..., S] whose first 5 ms rise from nothing."""
    count = min(round(CLICK_FADE * rate), sound.shape[-1])
    rise = (torch.arange(count, device=sound.device, dtype=sound.dtype) + 0.5) / max(1, count)
    return torch.cat((sound[..., :count] * rise, sound[..., count:]), dim=-1)


def as_long_as(sound: Tensor, samples: int) -> Tensor:
    """Sound [..., S] cut, or filled with silence, to ``samples``."""
    return torch.nn.functional.pad(sound[..., :samples], (0, max(0, samples - sound.shape[-1])))


def joined(first: Tensor, second: Tensor, seconds: float, rate: int) -> Tensor:
    """Sound [..., S] that goes over from ``first`` to ``second`` within ``seconds`` before the end of ``first``.

    Both begin at the same time; what they share in that span is crossfaded in equal power, be they the same sound, two
    renderings of it, or sounds that have nothing in common. Before it, the result is ``first`` bit for bit, after it
    ``second``.
    """
    end = min(first.shape[-1], second.shape[-1])
    start = max(0, end - round(seconds * rate))
    angle = (torch.arange(end - start, device=first.device) + 0.5) / max(1, end - start) * (math.pi / 2)
    before, after = first[..., start:end], second[..., start:end]
    power = 1 + _likeness(before, after) * (2 * angle).sin()  # of the sum of both, each of power 1
    fade = (before * angle.cos() + after * angle.sin()) / power.sqrt()
    return torch.cat((first[..., :start], fade, second[..., end:]), dim=-1)


def _likeness(first: Tensor, second: Tensor) -> float:
    """Correlation of two sounds of one shape: 0 for nothing in common, 1 for the same; not below -0.5."""
    a, b = first.double().flatten(), second.double().flatten()
    norms = float(a.norm() * b.norm())
    return max(-0.5, float(a @ b) / norms) if norms else 0.0
