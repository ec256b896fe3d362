"""Whether a clip shows and sounds what it should, by pixels and samples alone: no network judges another here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ovi_native.ovi_core.spec import FPS, SAMPLE_RATE

from ..world.render import Truth
from ..world.scene import Array
from .picture import Seen, things_seen
from .sound import is_silent, log_mel_distance, loudness, onsets, pitch

__all__ = ["Measured", "Sync", "Verdict", "judge", "log_mel_distance", "match", "measure", "psnr", "sync"]

TOLERANCE = 2 / FPS  # seconds between what is seen and what is heard
EDGE = 0.05  # seconds beyond the tolerance at either end in which a partner may lie outside the clip


@dataclass(frozen=True)
class Measured:
    """What was found in a clip.

    Attributes:
        things: everything seen, the largest first.
        events: seconds at which something seen should sound: contacts and openings, sorted.
        onsets: seconds at which something begins to sound.
        loud: whether there is any sound.
        seconds: length that both picture and sound have.
        follows: of lamps and bars, the correlation of brightness with loudness, of place with pitch; None without.
    """

    things: tuple[Seen, ...]
    events: Array
    onsets: Array
    loud: bool
    seconds: float
    follows: float | None


@dataclass(frozen=True)
class Sync:
    """Events and onsets of one or many clips, and how many of each have a partner within two frames."""

    events: int = 0
    heard: int = 0
    onsets: int = 0
    seen: int = 0

    def __add__(self, other: Sync) -> Sync:
        return Sync(
            self.events + other.events, self.heard + other.heard, self.onsets + other.onsets, self.seen + other.seen
        )

    @property
    def heard_share(self) -> float:
        """Share of the events that have an onset; 0 without events."""
        return self.heard / self.events if self.events else 0.0

    @property
    def seen_share(self) -> float:
        """Share of the onsets that have an event; 0 without onsets."""
        return self.seen / self.onsets if self.onsets else 0.0


@dataclass(frozen=True)
class Verdict:
    """Which facts of a prompt a clip got right; of things of two kinds each has to be of its own colour."""

    colour: bool
    kind: bool
    count: bool
    loud: bool

    @property
    def right(self) -> bool:
        return self.colour and self.kind and self.count and self.loud


def measure(frames: Array, sound: Array) -> Measured:
    """Find what frames [F, H, W, 3] in 0..1 (24 a second) and sound [S] in -1..1 (16 kHz) hold."""
    things = tuple(things_seen(frames))
    events = np.sort(np.concatenate([np.zeros(0), *(thing.contacts for thing in things), *_openings(things)]))
    return Measured(
        things=things,
        events=events,
        onsets=onsets(sound),
        loud=not is_silent(sound),
        seconds=min(len(frames) / FPS, len(sound) / SAMPLE_RATE),
        follows=_follows(things, sound),
    )


def _openings(things: Sequence[Seen]) -> list[Array]:
    return [thing.openings for thing in things]


def _follows(things: Sequence[Seen], sound: Array) -> float | None:
    """Correlation of a lamp's brightness with the loudness, or of a bar's place with the pitch, over time."""
    for thing in things:
        times = np.arange(len(thing.x)) / FPS
        there = ~np.isnan(thing.x) & (times < len(sound) / SAMPLE_RATE - 0.04)
        if thing.kind == "lamp":
            return _correlation(thing.brightness[there], loudness(sound, times[there]))
        if thing.kind == "bar":
            return _correlation(thing.x[there], np.log(pitch(sound, times[there])))
    return None


def _correlation(a: Array, b: Array) -> float:
    if len(a) < 3 or np.std(a) < 1e-6 or np.std(b) < 1e-6:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def match(wanted: Sequence[float] | Array, found: Sequence[float] | Array, seconds: float) -> tuple[int, int]:
    """How many of the ``wanted`` times, and how many of them have one of ``found`` within two frames.

    Times so near an end of the clip that their partner may lie outside it count only if it does not.
    """
    found = np.asarray(found)
    count = met = 0
    for time in wanted:
        partner = bool(len(found)) and bool(np.abs(found - time).min() <= TOLERANCE)
        inside = bool(EDGE + TOLERANCE <= time <= seconds - EDGE - TOLERANCE)
        count += inside or partner
        met += partner
    return count, met


def sync(measured: Measured, other_onsets: Array | None = None) -> Sync:
    """How well events and onsets of a clip meet; with ``other_onsets`` those of another sound (a control)."""
    heard = measured.onsets if other_onsets is None else other_onsets
    return Sync(*match(measured.events, heard, measured.seconds), *match(heard, measured.events, measured.seconds))


def judge(measured: Measured, truth: Truth) -> Verdict:
    """Hold a clip against what its prompt says."""
    found = {(thing.kind, thing.colour) for thing in measured.things}
    right_kinds = {kind for kind, _ in found} == set(truth.kinds)
    right_colours = {colour for _, colour in found} == set(truth.colours)
    return Verdict(
        colour=right_colours and (not right_kinds or found == set(zip(truth.kinds, truth.colours, strict=True))),
        kind=right_kinds,
        count=len(measured.things) == truth.count,
        loud=measured.loud == truth.loud,
    )


def psnr(one: Array, other: Array) -> float:
    """Peak signal-to-noise ratio in dB of two pictures or clips in 0..1."""
    error = float(np.mean(np.square(np.asarray(one, dtype=np.float64) - other)))
    return 10 * float(np.log10(1 / max(error, 1e-12)))
