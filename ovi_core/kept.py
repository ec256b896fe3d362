"""Clips and sounds as they were given, beside the latent they were encoded to.

A LATENT carries them under :data:`VIDEO` and :data:`AUDIO`, through samplers too, so that decoding can return frames
and samples bit for bit, not as the VAEs would give them back.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from torch import Tensor

VIDEO = "ovi_kept_video"
"""Key of a LATENT: the :class:`KeptVideo` its video part was encoded from."""
AUDIO = "ovi_kept_audio"
"""Key of a LATENT: the :class:`KeptAudio` the beginning of its audio part was encoded from."""

LATENT_TOLERANCE = 0.01
"""Relative difference up to which a latent still is the encoded one; samplers may have rounded it to 16 bit."""


@dataclass(frozen=True, eq=False)
class KeptVideo:
    """A clip as it was given.

    Attributes:
        images: [F, H, W, 3], at its own size.
        rate: frames a second.
        latent: [1, 48, T, h, w], what it was encoded to.
    """

    images: Tensor
    rate: Fraction
    latent: Tensor


@dataclass(frozen=True, eq=False)
class KeptAudio:
    """A sound as it was given, from the clip's first moment on.

    Attributes:
        waveform: [B or 1, C, S], at its own rate.
        rate: Hz.
        latent: [B or 1, 20, L], what the clip's first L latent steps were encoded to.
    """

    waveform: Tensor
    rate: int
    latent: Tensor


Kept = TypeVar("Kept", KeptVideo, KeptAudio)


def video_of(latent: dict) -> KeptVideo | None:
    """The clip that the video part of a LATENT still is; None where none was given or something has changed it."""
    return _if_still_there(latent.get(VIDEO), latent["samples"].unbind()[0])


def audio_of(latent: dict) -> KeptAudio | None:
    """The sound that the beginning of the audio part of a LATENT still is; None as for :func:`video_of`."""
    return _if_still_there(latent.get(AUDIO), latent["samples"].unbind()[1])


def _if_still_there(given: Kept | None, now: Tensor) -> Kept | None:
    """``given`` if it is what ``now`` [B, C, T or L, ...] begins with."""
    if given is None or given.latent.shape[0] not in (1, now.shape[0]):
        return None
    length = min(given.latent.shape[2], now.shape[2])
    before, after = given.latent[:, :, :length].to(now), now[:, :, :length]
    if before.shape[1:] != after.shape[1:]:
        return None
    rows = (after - before).flatten(1).norm(dim=1) <= LATENT_TOLERANCE * before.flatten(1).norm(dim=1)
    return given if bool(rows.all()) else None
