"""What a LATENT carries beside its samples and noise mask, through samplers too, and under which keys.

Under :data:`VIDEO` and :data:`AUDIO` lie the clip and the audio that its parts were encoded from, so that decoding
returns frames and samples bit for bit, not as the VAEs would give them back; under :data:`LEAD` how much stands before
the clip and is cut off.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeVar

from torch import Tensor

from ..errors import OviError
from . import layout
from .joint import unpacked

VIDEO = "ovi_kept_video"
"""Key of a LATENT: the :class:`SourceVideo` its video part was encoded from."""
AUDIO = "ovi_kept_audio"
"""Key of a LATENT: the :class:`SourceAudio` the start of its audio part was encoded from."""
LEAD = "ovi_lead"
"""Key of a LATENT: the :class:`Lead` before its clip."""
LIKENESS = "ovi_likeness"
"""Key of a LATENT: which of :data:`PARTS` of people the model was given when the clip was sampled."""
PARTS = ("face", "voice")

CONTEXT = 4
"""Audio frames, 0.128 s, that are decoded before a clip so that its start sounds like the rest."""

LATENT_TOLERANCE = 0.01
"""Relative difference up to which a latent is unchanged; samplers may have rounded it to 16 bit."""


@dataclass(frozen=True, eq=False)
class SourceVideo:
    """A clip as it was given.

    Attributes:
        images: [F, H, W, 3], at its own size.
        rate: frames per second.
        latent: [1, 48, T, h, w], what it was encoded to.
        locked: the sampler is to return it unchanged.
    """

    images: Tensor
    rate: Fraction
    latent: Tensor
    locked: bool = False


@dataclass(frozen=True, eq=False)
class SourceAudio:
    """Audio as it was given, from the clip's first moment on.

    Attributes:
        waveform: [B or 1, C, S], at its own rate.
        rate: Hz.
        latent: [B or 1, 20, L], what the clip's first L audio frames were encoded to.
        locked: the sampler is to return it unchanged.
    """

    waveform: Tensor
    rate: int
    latent: Tensor
    locked: bool = False


@dataclass(frozen=True)
class Lead:
    """What stands before a clip, in both towers, and is cut off at decoding.

    Attributes:
        latent_frames: of the video; the clip's own follow them.
        audio_frames: of the audio, the last of them in part.
        clip_begins: the clip's first latent frame stands for a single frame, such as a start image, not for four.
    """

    latent_frames: int
    audio_frames: int
    clip_begins: bool

    @property
    def frames(self) -> int:
        """Frames before the clip, where its first latent frame stands for four."""
        return layout.frames_after_start(self.latent_frames)

    @property
    def unheard(self) -> int:
        """Audio frames that need not be decoded: all but the last four whole ones, which are silent."""
        return self.audio_frames - 1 - CONTEXT

    @property
    def samples(self) -> int:
        """Samples at 16 kHz between those and the clip's first frame."""
        return layout.samples_at(self.frames) - layout.samples_of(self.unheard)


def likeness_of(latent: dict) -> tuple[str, ...]:
    """Those of :data:`PARTS` that a clip was made from, as its LATENT says."""
    found = latent.get(LIKENESS)
    return tuple(part for part in PARTS if isinstance(found, (list, tuple)) and part in found)


def with_likeness(latent: dict, parts: Iterable[str]) -> dict:
    """A LATENT that says that its clip was made from these parts of people, too; the same without any."""
    known = {*likeness_of(latent), *parts}
    return {**latent, LIKENESS: tuple(part for part in PARTS if part in known)} if known else latent


def lead_of(latent: dict) -> Lead | None:
    """What stands before the clip of a LATENT; None without any, and where another node cut so much that none is left.

    A video or an audio part that a node has separated is still led.
    """
    lead, (video, audio) = latent.get(LEAD), unpacked(latent["samples"])
    if not isinstance(lead, Lead):
        return None
    before = ((video, lead.latent_frames), (audio, lead.audio_frames))
    return lead if all(part is None or layout.length(part) > count for part, count in before) else None


def check_without_lead(latent: dict) -> None:
    """Raise OviError where something stands before the clip, so that the LATENT's times are not the clip's."""
    if lead_of(latent) is not None:
        raise OviError(
            input="latent",
            found="a latent that starts with a voice",
            accepted="one without",
            remedy="Connect Ovi Own Voice last, between this node and the sampler.",
        )


Source = TypeVar("Source", SourceVideo, SourceAudio)


def video_of(latent: dict) -> SourceVideo | None:
    """The source clip, if the video part of a LATENT is unchanged; None where none was given or a node changed it."""
    video, lead = latent["samples"].unbind()[0], lead_of(latent)
    if lead is not None:
        video = layout.span(video, lead.latent_frames, layout.length(video))
    return _if_unchanged(latent.get(VIDEO), video)


def audio_of(latent: dict) -> SourceAudio | None:
    """The source audio, if the start of the audio part of a LATENT is unchanged; None as for :func:`video_of`."""
    return _if_unchanged(latent.get(AUDIO), latent["samples"].unbind()[1])


def is_locked(latent: dict, key: str) -> bool:
    """Whether a LATENT carries under ``key`` what the sampler was to return unchanged."""
    given = latent.get(key)
    return isinstance(given, (SourceVideo, SourceAudio)) and given.locked


def with_lock(latent: dict, key: str, locked: bool) -> dict:
    """A LATENT that says under ``key`` whether the sampler is to return what was given; the same without any."""
    given = latent.get(key)
    if not isinstance(given, (SourceVideo, SourceAudio)) or given.locked == locked:
        return latent
    return {**latent, key: replace(given, locked=locked)}


def _if_unchanged(given: Source | None, now: Tensor) -> Source | None:
    """``given`` if it is what ``now`` [B, C, T or L, ...] begins with."""
    if not isinstance(given, (SourceVideo, SourceAudio)) or given.latent.shape[0] not in (1, now.shape[0]):
        return None
    shorter = min(layout.length(given.latent), layout.length(now))
    before, after = layout.span(given.latent, 0, shorter).to(now), layout.span(now, 0, shorter)
    if before.shape[1:] != after.shape[1:]:
        return None
    rows = (after - before).flatten(1).norm(dim=1) <= LATENT_TOLERANCE * before.flatten(1).norm(dim=1)
    return given if bool(rows.all()) else None
