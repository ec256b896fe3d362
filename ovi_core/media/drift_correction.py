"""Colour, contrast and loudness that creep from clip to clip, brought back.

Every clip that goes on from another has seen its end through both VAEs, which change it a little: always in the same
direction, so over many joins a film grows brighter, harder or louder. What the overlap has become, against what it was,
tells by how much, and all of the new clip is corrected by it. What changes within a clip may be meant; it is brought
back only where wished, little by little, to the film's beginning.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..spec import FPS

OFF = "off"
TO_START = "to the start"
CORRECTIONS = ("to the overlap", TO_START, OFF)

REFERENCE = 2  # s at the film's beginning, and at the new clip's end, that are to be alike
SILENCE = 1e-3  # root mean square below which a sound is silent: -60 dB of full scale
FLAT = 1e-3  # standard deviation below which pictures have no contrast to compare


@dataclass(frozen=True)
class Limits:
    """How far one join corrects at most.

    Attributes:
        contrast: factor.
        shift: of the mean colour, of a range of 1.
        loudness: factor of amplitude.
    """

    contrast: float
    shift: float
    loudness: float


AT_OVERLAP = Limits(contrast=1.25, shift=0.1, loudness=10 ** (3 / 20))
WITHIN_CLIP = Limits(contrast=1.1, shift=0.05, loudness=10 ** (1.5 / 20))


@dataclass(frozen=True)
class Change:
    """A linear change of colours, ``gain`` [3] times the value plus ``offset`` [3]."""

    gain: Tensor
    offset: Tensor

    @classmethod
    def between(cls, found: Tensor, wanted: Tensor, limits: Limits) -> Change:
        """What gives ``found`` the mean and standard deviation of each channel of ``wanted``, both [F, H, W, 3]."""
        spread, mean = torch.std_mean(found, dim=(0, 1, 2), correction=0)
        wanted_spread, wanted_mean = torch.std_mean(wanted, dim=(0, 1, 2), correction=0)
        gain = (wanted_spread / spread.clamp(min=FLAT)).clamp(1 / limits.contrast, limits.contrast)
        gain = torch.where((spread < FLAT) | (wanted_spread < FLAT), torch.ones_like(gain), gain)
        shift = (wanted_mean - mean).clamp(-limits.shift, limits.shift)
        return cls(gain, mean + shift - gain * mean)

    def of(self, images: Tensor, share: Tensor | float = 1.0) -> Tensor:
        """``images`` [F, H, W, 3] changed by a ``share`` (of each picture [F, 1, 1, 1], or of all) of this, in 0..1."""
        return (images * (1 + share * (self.gain - 1)) + share * self.offset).clamp(0, 1)


@dataclass(frozen=True)
class Correction:
    """What is done to the pictures of a new clip: ``at_overlap`` to all, ``within`` growing from the overlap on."""

    overlap: int
    at_overlap: Change | None
    within: Change | None

    def of_images(self, images: Tensor) -> Tensor:
        """``images`` [F, H, W, 3] corrected."""
        if self.at_overlap is not None:
            images = self.at_overlap.of(images)
        if self.within is not None:
            share = _growing(images.shape[0], self.overlap, FPS).to(images)
            images = self.within.of(images, share.reshape(-1, 1, 1, 1))
        return images


def correction(film: Tensor, images: Tensor, overlap: int, how: str) -> Correction:
    """What brings the colours of a new clip to those of the film it goes on from.

    Args:
        film, images: [F, H, W, 3] in 0..1; the last ``overlap`` pictures of the one are the first of the other.
        how: one of :data:`CORRECTIONS` but ``off``.
    """
    at_overlap = Change.between(images[:overlap], film[-overlap:], AT_OVERLAP) if overlap else None
    count = _reference(images.shape[0] - overlap, FPS)
    if how != TO_START or not count:
        return Correction(overlap, at_overlap, None)
    end = images[-count:] if at_overlap is None else at_overlap.of(images[-count:])
    return Correction(overlap, at_overlap, Change.between(end, film[:count], WITHIN_CLIP))


def of_sound(film: Tensor, sound: Tensor, begin: int, rate: int, how: str) -> Tensor:
    """The ``sound`` [1, C, S] of a new clip corrected; it begins at sample ``begin`` of the ``film``'s [1, C, S']."""
    shared = max(0, min(film.shape[-1] - begin, sound.shape[-1]))
    if shared:
        sound = sound * _loudness_ratio(sound[..., :shared], film[..., begin : begin + shared], AT_OVERLAP)
    count = _reference(sound.shape[-1] - shared, rate)
    if how == TO_START and count:
        ratio = _loudness_ratio(sound[..., -count:], film[..., :count], WITHIN_CLIP)
        sound = sound * ratio ** _growing(sound.shape[-1], shared, rate).to(sound)
    return sound


def _loudness_ratio(found: Tensor, wanted: Tensor, limits: Limits) -> float:
    """The factor that makes ``found`` as loud as ``wanted``; 1 where either is silent."""
    if not found.numel() or not wanted.numel():
        return 1.0
    level, wanted_level = (float(sound.double().pow(2).mean().sqrt()) for sound in (found, wanted))
    if min(level, wanted_level) < SILENCE:
        return 1.0
    return min(max(wanted_level / level, 1 / limits.loudness), limits.loudness)


def _reference(made: int, rate: int) -> int:
    """How many of ``made`` new frames or samples, ``rate`` a second, at the clip's end are to be as at the start."""
    return min(REFERENCE * rate, made // 2)


def _growing(count: int, overlap: int, rate: int) -> Tensor:
    """Shares [count]: 0 in the overlap, then evenly up to 1, which it is from the reference at the end on."""
    grown = max(1, count - overlap - _reference(count - overlap, rate))
    return ((torch.arange(count) + 1 - overlap) / grown).clamp(0, 1)
