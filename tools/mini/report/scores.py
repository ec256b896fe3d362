"""What a set of clips is worth: shares over many clips, each with a control that has to fail."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..measure.checks import Measured, Sync, Verdict, judge, match, measure, psnr, sync
from ..measure.sound import material_heard
from ..world.render import Truth, truth_of
from ..world.scene import Array
from .studio import Made, Order

FACTS = ("colour", "kind", "count", "loud")
Span = tuple[float, float]  # seconds


@dataclass(frozen=True)
class Clip:
    """A made clip beside what its prompt asked for."""

    order: Order
    made: Made
    found: Measured
    truth: Truth

    @property
    def verdict(self) -> Verdict:
        return judge(self.found, self.truth)


def examined(order: Order, made: Made) -> Clip:
    return Clip(order, made, measure(made.frames, made.sound), truth_of(order.drawn()))


def sync_of(clips: Iterable[Clip]) -> Sync:
    """Events and onsets of all clips."""
    return sum((sync(clip.found) for clip in clips), Sync())


def shuffled_sync(clips: Sequence[Clip]) -> Sync:
    """Control: the events of each clip against the onsets of the next one's sound."""
    return sum(
        (sync(clip.found, clips[(i + 1) % len(clips)].found.onsets) for i, clip in enumerate(clips)),
        Sync(),
    )


def sync_within(found: Measured, spans: Sequence[Span], other_onsets: Array | None = None) -> Sync:
    """Events and onsets that lie in ``spans``, and how many of them have a partner anywhere in the clip.

    With ``other_onsets`` those of another sound (a control).
    """
    heard = found.onsets if other_onsets is None else other_onsets
    wanted, sounding = (
        [time for time in times if any(first <= time < end for first, end in spans)] for times in (found.events, heard)
    )
    return Sync(*match(wanted, heard, found.seconds), *match(sounding, found.events, found.seconds))


def shuffled_sync_within(clips: Sequence[Clip], spans: Sequence[Span]) -> Sync:
    """Control: as :func:`shuffled_sync`, in ``spans`` of each clip."""
    others = [clips[(i + 1) % len(clips)].found.onsets for i in range(len(clips))]
    return sum((sync_within(clip.found, spans, other) for clip, other in zip(clips, others, strict=True)), Sync())


def rightness(clips: Sequence[Clip]) -> dict[str, float]:
    """Share of the clips that have each fact of their prompt right, and all of them."""
    return _shares([clip.verdict for clip in clips])


def wrong_prompt_rightness(clips: Sequence[Clip]) -> dict[str, float]:
    """Control: each clip held against the next one's prompt."""
    return _shares([judge(clip.found, clips[(i + 1) % len(clips)].truth) for i, clip in enumerate(clips)])


def _shares(verdicts: Sequence[Verdict]) -> dict[str, float]:
    shares = {fact: float(np.mean([getattr(verdict, fact) for verdict in verdicts])) for fact in FACTS}
    return shares | {"all": float(np.mean([verdict.right for verdict in verdicts]))}


def picture_score(clips: Sequence[Clip]) -> float:
    """Share of the picture's facts that are right: colour, kind and count."""
    return float(np.mean([(v.colour, v.kind, v.count) for v in (clip.verdict for clip in clips)]))


def sound_score(clips: Sequence[Clip]) -> float:
    """Share of the clips whose sound is as their prompt says: loud or silent, and the ball's material by its pitch."""
    return float(np.mean([sound_is_right(clip) for clip in clips]))


def sound_is_right(clip: Clip) -> bool:
    if clip.found.loud != clip.truth.loud:
        return False
    materials = {material for material in clip.truth.materials if material}
    return not (materials and clip.truth.contacts) or material_heard(clip.made.sound) in materials


def motion(frames: np.ndarray) -> float:
    """Mean change of a pixel from the first frame to all later ones, 0..1."""
    return float(np.abs(frames[1:] - frames[:1]).mean())


def first_frame(clip: Clip, given: np.ndarray) -> float:
    """PSNR in dB of the first frame against the given picture [H, W, 3]."""
    return psnr(clip.made.frames[0], given)
