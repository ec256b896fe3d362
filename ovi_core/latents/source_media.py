"""What decoding must know of a LATENT beside its samples.

A LATENT carries clips and sounds as they were given under :data:`VIDEO` and :data:`AUDIO`, through samplers too, so
that decoding can return frames and samples bit for bit, not as the VAEs would give them back; and under :data:`LEAD`
what stands before the clip and is not shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from torch import Tensor

from ..errors import OviError
from ..spec import FPS, FRAMES_PER_LATENT, SAMPLE_RATE, SAMPLES_PER_LATENT

VIDEO = "ovi_kept_video"
"""Key of a LATENT: the :class:`KeptVideo` its video part was encoded from."""
AUDIO = "ovi_kept_audio"
"""Key of a LATENT: the :class:`KeptAudio` the beginning of its audio part was encoded from."""
LEAD = "ovi_lead"
"""Key of a LATENT: the :class:`Lead` before its clip."""

CONTEXT = 4
"""Latent steps of the sound, 0.128 s, that are decoded before a clip so that its beginning sounds as it goes on."""

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


@dataclass(frozen=True)
class Lead:
    """What stands before a clip, in both towers, and is cut away at decoding.

    Attributes:
        latent_frames: latent steps of the video; the clip's own come after them.
        audio_frames: latent steps of the sound, the last of them in part.
        clip_begins: the clip's first step stands for a single frame, such as a start picture, not for four.
    """

    latent_frames: int
    audio_frames: int
    clip_begins: bool

    @property
    def frames(self) -> int:
        """Pictures before the clip, where its first step stands for four."""
        return FRAMES_PER_LATENT * self.latent_frames

    @property
    def unheard(self) -> int:
        """Latent steps of the sound that need not be decoded: all but the last four whole ones, which are silent."""
        return self.audio_frames - 1 - CONTEXT

    @property
    def samples(self) -> int:
        """Samples at 16 kHz between those steps and the clip's first picture."""
        return round(self.frames * SAMPLE_RATE / FPS) - self.unheard * SAMPLES_PER_LATENT


def check_without_lead(latent: dict) -> None:
    """Raise OviError where something stands before the clip, so that the LATENT's times are not the clip's."""
    if LEAD in latent:
        raise OviError(
            input="latent",
            found="a latent that begins with a voice",
            accepted="one without",
            remedy="Connect Ovi Own Voice last, between this node and the sampler.",
        )


Kept = TypeVar("Kept", KeptVideo, KeptAudio)


def video_of(latent: dict) -> KeptVideo | None:
    """The clip that the video part of a LATENT still is; None where none was given or something has changed it."""
    video, lead = latent["samples"].unbind()[0], latent.get(LEAD)
    return _if_still_there(latent.get(VIDEO), video if lead is None else video[:, :, lead.latent_frames :])


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
