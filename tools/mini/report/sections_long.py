"""What the report measures of clips longer than the model was trained on, and of films of many clips."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import torch
from ovi_native.ovi_core.conditioning import extend
from ovi_native.ovi_core.media import concat, drift_correction
from ovi_native.ovi_core.sampling import context_windows
from ovi_native.ovi_core.spec import (
    FPS,
    FRAMES_PER_LATENT,
    SAMPLE_RATE,
    Overlap,
    latent_frames_lasting,
    nearest_latent_frames,
)

from tools.mini.measure import seams

from ..measure.checks import Sync
from ..measure.sound import rms
from ..world.scene import Array
from .figures import Figure, Section, contrasted, made, of_kinds
from .scores import Span, shuffled_sync, shuffled_sync_within, sync_of, sync_within
from .sections_given import BALLS, IN_SYNC
from .studio import OVERLAP, Made, Order, Studio, as_audio

LONG, WINDOW = 6.0, 2.0  # s
CLICK, CUT = 2.0, 4.0  # what a seam may have at most, of its surroundings, of the changes around
LEVEL = 3.0  # dB by which a seam's step of loudness may exceed those elsewhere

JOINS, TAIL = 12, 0.5  # s
DRIFT = {"colour": 0.01, "contrast": 0.05, "loudness": 1.5}  # of a range of 1, of the first clip's, dB


def overlaps() -> list[Span]:
    """Seconds in which two windows of a long clip go over into one another."""
    length, total = nearest_latent_frames(WINDOW), nearest_latent_frames(LONG)
    starts = context_windows.starts(total, length, max(1, latent_frames_lasting(OVERLAP)))
    step = FRAMES_PER_LATENT / FPS
    return [(start * step, (before + length) * step) for before, start in pairwise(starts)]


def between() -> list[Span]:
    """Seconds in which a long clip is one window's alone, away from its ends."""
    edges = [0.3, *(edge for span in overlaps() for edge in span), LONG - 0.3]
    return list(zip(edges[::2], edges[1::2], strict=True))


def windowed(studio: Studio, seeds: int) -> Iterator[Figure]:
    count = max(4, seeds // 6)
    for given, what in (("video", "contacts heard"), ("sound", "ticks seen")):
        clips = made(studio, of_kinds(BALLS, count, given=given, seconds=LONG, window=WINDOW), f"long, {given} given")
        within = sum((sync_within(clip.found, overlaps()) for clip in clips), Sync())
        syncs = sync_of(clips), within, shuffled_sync(clips), shuffled_sync_within(clips, overlaps())
        shares = [part.heard_share if given == "video" else part.seen_share for part in syncs]
        numbers = [part.events if given == "video" else part.onsets for part in syncs]
        name = "another clip's"
        what = f"{LONG:g} s {given} given, windows of {WINDOW:g} s: {what}"
        yield contrasted(f"{what} ({numbers[0]})", shares[0], IN_SYNC, name, shares[2])
        yield contrasted(f"{what}, where windows meet ({numbers[1]})", shares[1], IN_SYNC, name, shares[3])
        if given == "sound":
            yield from unseen([clip.made.frames for clip in clips])
    clips = made(studio, of_kinds(("bar",), count, given="video", seconds=LONG, window=WINDOW), "long tones")
    yield from unheard([clip.made.sound for clip in clips])


def unheard(sounds: Sequence[Array]) -> Iterator[Figure]:
    """Seams of steady tones: the worst click and step of loudness where windows meet.

    The controls: tones put end to end in the middle of each overlap, and made 12 dB softer there, in turn.
    """

    def worst(measure: Callable[[Array, float], float], sounds: Sequence[Array], spans: Sequence[Span]) -> float:
        times = [at for first, end in spans for at in np.arange(first, end, 0.016)]
        return float(np.median([max(measure(sound, at) for at in times) for sound in sounds]))

    def click(sound: Array, at: float) -> float:
        return seams.jump(sound, SAMPLE_RATE, at)

    def step(sound: Array, at: float) -> float:
        return abs(seams.level_step(sound, SAMPLE_RATE, at, 0.1))

    abrupt = [end_to_end(sound, sounds[i - 1], SAMPLE_RATE) for i, sound in enumerate(sounds)]
    softer = [end_to_end(sound, 0.25 * sound, SAMPLE_RATE) for sound in sounds]
    what = "tones for given bars, where windows meet"
    value, other = (worst(click, some, overlaps()) for some in (sounds, abrupt))
    elsewhere = worst(click, sounds, between())
    yield Figure(
        f"{what}: click, of what is around it",
        f"{value:.1f}",
        f"at most {CLICK:g}",
        value <= CLICK < other,
        f"end to end {other:.1f}; elsewhere {elsewhere:.1f}",
    )
    elsewhere = worst(step, sounds, between())
    value, other = (worst(step, some, overlaps()) - elsewhere for some in (sounds, softer))
    yield Figure(
        f"{what}: step of loudness, above those elsewhere ({elsewhere:.1f} dB)",
        f"{value:.1f} dB",
        f"at most {LEVEL:g} dB",
        value <= LEVEL < other,
        f"12 dB less {other:.1f} dB",
    )


def unseen(clips: Sequence[Array]) -> Iterator[Figure]:
    """Seams of pictures [F, H, W, 3]: the worst cut where windows meet; the control are clips put end to end."""

    def worst(frames: Array) -> float:
        return max(
            seams.cut(frames, at) for first, end in overlaps() for at in range(round(first * FPS), round(end * FPS))
        )

    abrupt = [end_to_end(frames, clips[i - 1], FPS) for i, frames in enumerate(clips)]
    value, other = (float(np.median([worst(frames) for frames in some])) for some in (clips, abrupt))
    what = "pictures for given ticks, where windows meet: cut, of the changes around it"
    yield Figure(what, f"{value:.1f}", f"at most {CUT:g}", value <= CUT < other, f"end to end {other:.1f}")


def end_to_end(first: Array, second: Array, rate: int) -> Array:
    """``first``, and in turn ``second``, changing in the middle of each overlap without going over."""
    both, out = (first, second), first.copy()
    times = [*((a + b) / 2 for a, b in overlaps()), LONG + 1]
    for i, (start, end) in enumerate(pairwise(times)):
        part = slice(round(start * rate), round(end * rate))
        out[part] = both[(i + 1) % 2][part]
    return out


@dataclass(frozen=True)
class Drift:
    """Of a film's last two seconds against its first: mean colour (0..1), contrast (share), loudness (dB)."""

    colour: float
    contrast: float
    loudness: float

    @property
    def told(self) -> str:
        return f"{self.colour:.3f}, {self.contrast:.0%}, {self.loudness:.1f} dB"

    @property
    def small(self) -> bool:
        return all(getattr(self, name) <= bound for name, bound in DRIFT.items())


def joined(studio: Studio, seeds: int) -> Iterator[Figure]:
    some = [replace(order, noise=1000 * i) for i, order in enumerate(of_kinds(("bar",), max(1, seeds // 25)))]
    clip = some[0].clip
    overlap = Overlap.from_seconds(TAIL).frames
    frames = clip.frames + JOINS * (clip.frames - overlap)
    samples = math.ceil(Fraction(frames, FPS) * SAMPLE_RATE)
    films = {how: [film(studio, order, how) for order in some] for how in drift_correction.CORRECTIONS}
    exact = [len(one.frames) == frames and len(one.sound) == samples for part in films.values() for one in part]
    what = f"films of {JOINS} joins with {frames} frames and {samples} samples"
    yield Figure(what, f"{sum(exact)} of {len(exact)}", "all", all(exact))
    drifts = {how: worst_drift(part) for how, part in films.items()}
    bound = f"at most {Drift(**DRIFT).told}"
    off = f"{drift_correction.OFF}: {drifts[drift_correction.OFF].told}"
    for how in drift_correction.CORRECTIONS[:2]:
        holds = drifts[how].small and not drifts[drift_correction.OFF].small
        yield Figure(f"drift of colour, contrast, loudness, corrected {how}", drifts[how].told, bound, holds, off)


def worst_drift(films: Sequence[Made]) -> Drift:
    drifts = [drift_of(one) for one in films]
    return Drift(**{name: max(getattr(one, name) for one in drifts) for name in DRIFT})


def drift_of(made: Made) -> Drift:
    start, end = made.frames[: 2 * FPS], made.frames[-2 * FPS :]
    heard = [rms(part) + 1e-6 for part in (made.sound[: 2 * SAMPLE_RATE], made.sound[-2 * SAMPLE_RATE :])]
    return Drift(
        colour=float(np.abs(end.mean(axis=(0, 1, 2)) - start.mean(axis=(0, 1, 2))).max()),
        contrast=float(abs(end.std() / start.std() - 1)),
        loudness=abs(20 * float(np.log10(heard[1] / heard[0]))),
    )


def film(studio: Studio, order: Order, correct: str) -> Made:
    """A clip that goes on :data:`JOINS` times, as Ovi Extend and Ovi Join Clips make it."""
    return studio.kept(
        {"film": asdict(order), "joins": JOINS, "tail": TAIL, "correct": correct}, lambda: _film(studio, order, correct)
    )


@torch.inference_mode()
def _film(studio: Studio, order: Order, correct: str) -> Made:
    first = studio.make(order)
    images, audio = torch.from_numpy(first.frames), as_audio(first.sound)
    for n in range(JOINS):
        latent, _ = extend.extend(studio.vae, studio.audio_vae, images, audio, TAIL, order.seconds)
        clip = studio.decoded(studio.sampled(replace(order, noise=order.noise + n + 1), latent))
        frames = torch.from_numpy(clip.frames)
        overlap, rates = Overlap.from_seconds(TAIL).frames, concat.Rates(FPS, SAMPLE_RATE)
        longer, _ = concat.join(images, audio, frames, as_audio(clip.sound), overlap, correct, rates)
        images, audio = longer.images, {"waveform": longer.waveform, "sample_rate": longer.rate}
    return Made(images.numpy(), audio["waveform"][0, 0].numpy())


SECTIONS: dict[str, Section] = {
    "Longer than a window": windowed,
    "Clips that go on from one another": joined,
}
