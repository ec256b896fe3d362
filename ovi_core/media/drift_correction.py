"""Corrects colour, contrast and loudness that drift from clip to clip.

A clip that continues another starts from its end after both VAEs, which change it a little, always in the same
direction: over many joins a film grows brighter, harder or louder. The overlap, as it was and as it has become, shows
by how much, and all of the new clip is corrected by it. Changes within a clip may be intended; they are corrected only
where the user wants it, gradually, towards the film's beginning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torchaudio.functional import loudness

from .resampling import resampled

OFF = "off"
TO_START = "to the start"
CORRECTIONS = ("to the overlap", TO_START, OFF)

REFERENCE = 2  # s at the film's beginning, and at the new clip's end, that are to be alike
SILENCE = -60.0  # LUFS below which audio is silent
BLOCK = 0.4  # s, the shortest audio that has a loudness (ITU-R BS.1770)
CHANNELS = 5  # that the loudness knows
LOWEST_RATE, MEASURED_AT = 8_000, 16_000  # Hz; below the one, the loudness' filters do not work
FLAT = 1e-3  # standard deviation below which images have no contrast to compare


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
        """``images`` [F, H, W, 3] changed by a ``share`` (of each image [F, 1, 1, 1], or of all) of this, in 0..1."""
        return (images * (1 + share * (self.gain - 1)) + share * self.offset).clamp(0, 1)


@dataclass(frozen=True)
class Correction:
    """What changes the images of a new clip: ``at_overlap`` all of them, ``within`` growing from the overlap on."""

    overlap: int
    frame_rate: int
    at_overlap: Change | None
    within: Change | None

    def of_images(self, images: Tensor) -> Tensor:
        """``images`` [F, H, W, 3] corrected."""
        if self.at_overlap is not None:
            images = self.at_overlap.of(images)
        if self.within is not None:
            share = _growing(images.shape[0], self.overlap, self.frame_rate).to(images)
            images = self.within.of(images, share.reshape(-1, 1, 1, 1))
        return images


def correction(film: Tensor, images: Tensor, overlap: int, how: str, frame_rate: int) -> Correction:
    """What brings the colours of a new clip to those of the film that it continues.

    Args:
        film, images: [F, H, W, 3] in 0..1; the last ``overlap`` frames of the one are the first of the other.
        how: one of :data:`CORRECTIONS` but ``off``.
        frame_rate: of both, frames per second.
    """
    at_overlap = Change.between(images[:overlap], film[-overlap:], AT_OVERLAP) if overlap else None
    count = _reference(images.shape[0] - overlap, frame_rate)
    if how != TO_START or not count:
        return Correction(overlap, frame_rate, at_overlap, None)
    end = images[-count:] if at_overlap is None else at_overlap.of(images[-count:])
    return Correction(overlap, frame_rate, at_overlap, Change.between(end, film[:count], WITHIN_CLIP))


def of_audio(film: Tensor, audio: Tensor, begin: int, rate: int, how: str) -> Tensor:
    """The ``audio`` [1, C, S] of a new clip corrected; it begins at sample ``begin`` of the ``film``'s [1, C, S']."""
    shared = max(0, min(film.shape[-1] - begin, audio.shape[-1]))
    if shared:
        audio = audio * _gain(audio[..., :shared], film[..., begin : begin + shared], rate, AT_OVERLAP)
    count = _reference(audio.shape[-1] - shared, rate)
    if how == TO_START and count:
        gain = _gain(audio[..., -count:], film[..., :count], rate, WITHIN_CLIP)
        audio = audio * gain ** _growing(audio.shape[-1], shared, rate).to(audio)
    return audio


def _gain(found: Tensor, wanted: Tensor, rate: int, limits: Limits) -> float:
    """The factor that makes ``found`` as loud as ``wanted``, both [1, C, S]; 1 where either is silent."""
    level, wanted_level = (_loudness(audio, rate) for audio in (found, wanted))
    if min(level, wanted_level) < SILENCE:
        return 1.0
    return min(max(10 ** ((wanted_level - level) / 20), 1 / limits.loudness), limits.loudness)


def _loudness(audio: Tensor, rate: int) -> float:
    """LUFS of audio [1, C, S]; minus infinity for silence. What is shorter than a block counts as one, with silence."""
    audio = audio[0, :CHANNELS].detach().float().cpu()
    if rate < LOWEST_RATE:
        audio, rate = resampled(audio, rate, MEASURED_AT), MEASURED_AT
    audio = torch.nn.functional.pad(audio, (0, max(0, math.ceil(BLOCK * rate) - audio.shape[-1])))
    level = float(loudness(audio, rate)) if bool(audio.any()) else -math.inf
    return -math.inf if math.isnan(level) else level


def _reference(new: int, rate: int) -> int:
    """How many of ``new`` frames or samples, ``rate`` per second, at the clip's end are to be as at the start."""
    return min(REFERENCE * rate, new // 2)


def _growing(count: int, overlap: int, rate: int) -> Tensor:
    """Shares [count]: 0 in the overlap, then evenly up to 1, which it is from the reference at the end on."""
    grown = max(1, count - overlap - _reference(count - overlap, rate))
    return ((torch.arange(count) + 1 - overlap) / grown).clamp(0, 1)
