"""What the report measures of clips parts of which are given: a whole tower, an end picture, all but a span."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from ovi_native.ovi_core.conditioning import locked_media
from ovi_native.ovi_core.latents import denoise_mask
from ovi_native.ovi_core.spec import FPS, FRAMES_PER_LATENT

from tools.mini.measure import seams

from ..measure.checks import Sync, psnr
from ..measure.sound import onsets
from ..world.render import render
from .figures import Figure, Section, contrasted, made, of_kinds, orders
from .scores import Clip, shuffled_sync, shuffled_sync_within, sync_of, sync_within
from .studio import SPAN, Order, Studio, spliced

BALLS = ("floor", "walls")
IN_SYNC = 0.85
END_REACHED = 24.0  # dB: the small video VAE alone gives 27.6
FOLLOWING = "follow the noise"


def locked(studio: Studio, seeds: int) -> Iterator[Figure]:
    for mode in locked_media.MODES:
        clips = made(studio, of_kinds(BALLS, seeds // 2, given="video", mode=mode), f"sound for a clip, {mode}")
        own, other = sync_of(clips), shuffled_sync(clips)
        what = f"sound for a given clip, {mode}"
        yield in_sync(f"{what}: contacts heard ({own.events})", own.heard_share, other.heard_share)
        yield in_sync(f"{what}: onsets that belong to a contact ({own.onsets})", own.seen_share, other.seen_share)
    for mode in locked_media.MODES:
        clips = made(studio, of_kinds(BALLS, seeds // 2, given="sound", mode=mode), f"pictures for ticks, {mode}")
        own, other = sync_of(clips), shuffled_sync(clips)
        what = f"pictures for given ticks, {mode}"
        yield in_sync(f"{what}: ticks seen ({own.onsets})", own.seen_share, other.seen_share)
        yield in_sync(f"{what}: contacts that belong to a tick ({own.events})", own.heard_share, other.heard_share)


def in_sync(what: str, value: float, control: float) -> Figure:
    return contrasted(what, value, IN_SYNC, "another clip's", control)


def ends(studio: Studio, seeds: int) -> Iterator[Figure]:
    for given, name in (("end", "an end picture"), ("both ends", "a start and an end picture")):
        some = orders(seeds // 2, given=given)
        clips = made(studio, some, name)
        likeness, other = end_likeness(clips, [last_frame(order) for order in some])
        holds = likeness >= END_REACHED > other
        bound = f"at least {END_REACHED:g} dB"
        yield Figure(f"{name}: the last frame", f"{likeness:.1f} dB", bound, holds, f"another picture {other:.1f} dB")
        clips = made(studio, some, name)
        own, cut = approach(clips)
        yield Figure(f"{name}: change where it begins, of those around it", f"{own:.1f}", "", None, f"a cut {cut:.1f}")


def approach(clips: Sequence[Clip]) -> tuple[float, float]:
    """How abruptly the last latent step of the pictures begins; and, as a control, another clip's in its place."""
    begin, changes, cuts = -FRAMES_PER_LATENT, [], []
    for i, clip in enumerate(clips):
        frames = clip.made.frames
        abrupt = np.concatenate((frames[:begin], clips[i - 1].made.frames[begin:]))
        changes.append(seams.cut(frames, len(frames) + begin))
        cuts.append(seams.cut(abrupt, len(frames) + begin))
    return float(np.median(changes)), float(np.median(cuts))


def last_frame(order: Order) -> np.ndarray:
    """[H, W, 3]."""
    return render(order.drawn()).frames[-1]


def end_likeness(clips: Sequence[Clip], given: Sequence[np.ndarray]) -> tuple[float, float]:
    """Mean PSNR in dB of the last frames against the given pictures; and, as a control, against those of others."""
    pairs = list(zip(clips, given, strict=True))
    own = [psnr(clip.made.frames[-1], picture) for clip, picture in pairs]
    other = [psnr(clip.made.frames[-1], given[i - 1]) for i, (clip, _) in enumerate(pairs)]
    return float(np.mean(own)), float(np.mean(other))


def redone(studio: Studio, seeds: int) -> Iterator[Figure]:
    yield from untouched(studio, of_kinds(BALLS, 4, given="clip", mode=FOLLOWING))
    for mode in locked_media.MODES:
        clips = made(studio, of_kinds(BALLS, seeds // 2, given="clip", mode=mode), f"a redone span, {mode}")
        own = sum((sync_within(clip.found, [SPAN]) for clip in clips), Sync())
        other, what = shuffled_sync_within(clips, [SPAN]), f"redone span, both towers, {mode}"
        yield in_sync(f"{what}: contacts in it heard ({own.events})", own.heard_share, other.heard_share)
        yield in_sync(f"{what}: onsets in it with a contact ({own.onsets})", own.seen_share, other.seen_share)
    clips = made(studio, of_kinds(BALLS, seeds // 2, given="wrong sound", mode=FOLLOWING), "a wrong sound redone")
    own, before = redone_sound(clips)
    least, name = IN_SYNC, "before"
    what = "wrong sound in a redone span"
    yield contrasted(f"{what}: contacts in it heard ({own.events})", own.heard_share, least, name, before.heard_share)
    yield contrasted(
        f"{what}: onsets in it with a contact ({own.onsets})", own.seen_share, least, name, before.seen_share
    )


def redone_sound(clips: Sequence[Clip]) -> tuple[Sync, Sync]:
    """Events and onsets in the span, after and before its wrong sound was redone."""
    after = sum((sync_within(clip.found, [SPAN]) for clip in clips), Sync())
    before = sum((sync_within(clip.found, [SPAN], onsets(spliced(clip.order))) for clip in clips), Sync())
    return after, before


def untouched(studio: Studio, some: Sequence[Order]) -> Iterator[Figure]:
    """What a redone span leaves as it was, in the latent and in what is decoded from it."""
    outside, inside, frames = [], [], []
    for order in some:
        before = studio.latent(order)
        after = studio.sampled(order, before)
        same, changed = span_changes(before, after)
        outside.append(same)
        inside.append(changed)
        first = int(SPAN[0] * FPS) - FRAMES_PER_LATENT
        shown, given = (studio.decoded(as_samples(latent)).frames[:first] for latent in (after, before))
        frames.append(np.array_equal(shown, given))
    count = len(some)
    what = "latent steps outside a redone span are bit for bit what they were"
    yield Figure(what, f"{sum(outside)} of {count}", "all", all(outside), "inside 0")
    least = min(inside)
    yield Figure("the span itself changes, of its own size, by at least", f"{least:.0%}", "at least 10%", least >= 0.1)
    yield Figure("frames before it are bit for bit the same", f"{sum(frames)} of {count}", "all", all(frames))


def span_changes(before: dict, after: dict) -> tuple[bool, float]:
    """Whether all that the noise mask keeps is bit for bit the same, and the least relative change of what it frees.

    Over both towers, of LATENTs before and after sampling.
    """
    same, changed = True, []
    masks = denoise_mask.video_mask(before), denoise_mask.audio_mask(before)
    for old, new, mask in zip(before["samples"].unbind(), after["samples"].unbind(), masks, strict=True):
        kept = denoise_mask.is_masked(mask).expand_as(old)
        same = same and torch.equal(old[kept], new[kept])
        if not kept.all():
            changed.append(float((new - old)[~kept].norm() / old[~kept].norm()))
    return same, min(changed)


def as_samples(latent: dict) -> dict:
    """The LATENT without the frames and sound that it was encoded from, to be decoded in any case."""
    return {"samples": latent["samples"]}


SECTIONS: dict[str, Section] = {
    "A clip or a sound that is given": locked,
    "A picture to end with": ends,
    "A redone span": redone,
}
