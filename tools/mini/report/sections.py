"""What the report on Ovi mini measures, section by section: figures, bounds, controls that have to fail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from ..measure.checks import log_mel_distance, psnr
from ..measure.sound import onsets
from ..world.render import render
from . import sections_given, sections_long
from .figures import FIRST_SCENE, Figure, Section, made, orders, share
from .reconstruct import heard_again, seen_again
from .scores import (
    FACTS,
    Clip,
    first_frame,
    motion,
    picture_score,
    rightness,
    shuffled_sync,
    sound_score,
    sync_of,
    wrong_prompt_rightness,
)
from .studio import Order, Studio

COUPLING = 1.0  # guidance along the coupling, with which sync is measured too


def synchrony(studio: Studio, seeds: int) -> Iterator[Figure]:
    clips = made(studio, orders(seeds), "text to clip")
    apart = sync_of(made(studio, orders(seeds, coupled=False), "towers apart"))
    own, shuffled = sync_of(clips), shuffled_sync(clips)
    controls = "other clip's sound {:.0%}, towers apart {:.0%}"
    yield share(
        f"contacts and openings with an onset within 2 frames ({own.events} in {seeds} clips)",
        own.heard_share,
        0.9,
        controls.format(shuffled.heard_share, apart.heard_share),
    )
    yield share(
        f"onsets with a contact or opening ({own.onsets})",
        own.seen_share,
        0.9,
        controls.format(shuffled.seen_share, apart.seen_share),
    )
    led = made(studio, orders(seeds // 2, modality=(COUPLING, COUPLING)), "led by their coupling")
    own, shuffled = sync_of(led), shuffled_sync(led)
    what = f"with modality_guidance {COUPLING:g} of Ovi Guidance Options"
    yield share(
        f"{what}: events with an onset ({own.events})", own.heard_share, 0.9, f"other's {shuffled.heard_share:.0%}"
    )
    yield share(
        f"{what}: onsets with an event ({own.onsets})", own.seen_share, 0.9, f"other's {shuffled.seen_share:.0%}"
    )
    to_sound = sync_of(made(studio, orders(seeds // 2, given="video"), "sound for a clip"))
    yield share(f"sound made for a given clip: events heard ({to_sound.events})", to_sound.heard_share, 0.9)
    yield share("the same: onsets that belong to an event", to_sound.seen_share, 0.9)
    to_video = sync_of(made(studio, orders(seeds // 2, given="sound"), "pictures for a sound"))
    yield share(f"pictures made for a given sound: onsets seen ({to_video.onsets})", to_video.seen_share, 0.9)


def prompts(studio: Studio, seeds: int) -> Iterator[Figure]:
    clips = made(studio, orders(seeds), "text to clip")
    right, wrong = rightness(clips), wrong_prompt_rightness(clips)
    for fact in (*FACTS, "all"):
        name = {"kind": "object", "loud": "loud or silent", "all": "all of them"}.get(fact, fact)
        yield share(f"{name} right", right[fact], 0.9, f"next clip's prompt {wrong[fact]:.0%}")


Strengths = tuple[float, float]  # video_cfg, audio_cfg
NAMED = "video_cfg {:g}, audio_cfg {:g}"
STRENGTHS: tuple[Strengths, ...] = ((0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (4.0, 1.0), (1.0, 3.0))
RAISED = (  # what is raised, the tower that it guides, from and to what
    ("video_cfg from 0 to 4", 0, (0.0, 1.0), (4.0, 1.0)),
    ("audio_cfg from 0 to 3", 1, (1.0, 0.0), (1.0, 3.0)),
)


def guidance(studio: Studio, seeds: int) -> Iterator[Figure]:
    """Facts right without the prompt (0), with it (1) and guided towards it, the other tower with its prompt.

    With the attention between the towers neither is alone: a wrong picture has its own, wrong, sound. Without it only
    the guidance is left.
    """
    clips = {strengths: guided(studio, seeds // 2, strengths) for strengths in STRENGTHS}
    for strengths, some in clips.items():
        name = NAMED.format(*strengths)
        yield Figure(f"{name}: facts of picture, of sound right", "{:.0%}, {:.0%}".format(*both_scores(some)))
    for name, own, low, high in RAISED:
        by, others = _moved(own, clips[low], clips[high])
        what = f"{name} moves the score of its own tower by, the other's by"
        yield Figure(what, f"{by:+.0%}, {others:+.0%}", "own more", by > abs(others))
        by, others = _moved(own, *(guided(studio, seeds // 2, at, coupled=False) for at in (low, high)))
        yield Figure("the same with the towers apart", f"{by:+.0%}, {others:+.0%}", "own alone", by > 0 == others)
    yield from skipping(studio, clips[1.0, 1.0])


def guided(studio: Studio, count: int, strengths: Strengths, coupled: bool = True) -> list[Clip]:
    settings = {"video_cfg": strengths[0], "audio_cfg": strengths[1], "skip_layers": (), "coupled": coupled}
    return made(studio, orders(count, **settings), NAMED.format(*strengths))


def both_scores(clips: Sequence[Clip]) -> tuple[float, float]:
    """Of the picture and of the sound."""
    return picture_score(clips), sound_score(clips)


def _moved(own: int, before: Sequence[Clip], after: Sequence[Clip]) -> tuple[float, float]:
    """By how much the score of the tower ``own`` changed, and the other's."""
    moved = [now - then for now, then in zip(both_scores(after), both_scores(before), strict=True)]
    return moved[own], moved[1 - own]


SKIPPED = (2,)  # block pairs: one of six is much, so little guidance is enough


def skipping(studio: Studio, plain: Sequence[Clip]) -> Iterator[Figure]:
    """What a negative pass without some block pairs does to the unguided clips ``plain``.

    With the prompt as its own negative nothing else guides.
    """
    guided = {"against_itself": True, "video_cfg": 1.5, "audio_cfg": 1.5}
    itself, skipped = (
        made(studio, orders(len(plain), **guided, skip_layers=layers), f"against itself without {layers}")
        for layers in ((), SKIPPED)
    )
    none, some = (
        float(np.mean([np.abs(a.made.frames - b.made.frames).mean() for a, b in zip(plain, clips, strict=True)]))
        for clips in (itself, skipped)
    )
    what = "the prompt as its own negative: change of a pixel with block pair {} left out of it, none left out"
    yield Figure(what.format(*SKIPPED), f"{some:.3f}, {none:.3f}", "some, none", some > 0.01 > 0.004 > none)
    moved = picture_score(skipped) - picture_score(plain)
    yield Figure("facts of picture right by leaving it out, against unguided", f"{moved:+.0%}")


def pictures(studio: Studio, seeds: int) -> Iterator[Figure]:
    clips = made(studio, orders(seeds // 2, given="picture"), "picture to clip")
    given = [render(clip.order.drawn()).frames for clip in clips]
    likeness = float(np.mean([first_frame(clip, frames[0]) for clip, frames in zip(clips, given, strict=True)]))
    other = float(np.mean([first_frame(clip, given[i - 1][0]) for i, clip in enumerate(clips)]))
    yield Figure(
        "first frame against the given picture",
        f"{likeness:.1f} dB",
        "at least 28 dB",
        likeness >= 28,
        f"another picture {other:.1f} dB",
    )
    pairs = zip(clips, given, strict=True)
    ratio = float(np.median([motion(clip.made.frames) / motion(frames) for clip, frames in pairs]))
    yield Figure(
        "motion afterwards, of the scene's own", f"{ratio:.2f}", "0.5 to 2", 0.5 <= ratio <= 2, "a still has 0"
    )


def autoencoders(studio: Studio, seeds: int) -> Iterator[Figure]:
    for size, seconds in ((96, 2.0), (96, 5.0), (128, 2.0), (160, 1.0), (256, 1.0)):
        count = max(4, seeds // 8)
        scenes = [Order(FIRST_SCENE + i, width=size, height=size, seconds=seconds).drawn() for i in range(count)]
        values = [psnr(frames, seen_again(studio, frames)) for frames in (render(scene).frames for scene in scenes)]
        value = float(np.mean(values))
        yield Figure(f"video VAE, {size}x{size}, {seconds:g} s", f"{value:.1f} dB", "at least 28 dB", value >= 28)
    sounds = [render(order.drawn()).sound for order in orders(seeds)]
    again = [heard_again(studio, sound) for sound in sounds]
    distance = float(np.mean([log_mel_distance(a, b) for a, b in zip(sounds, again, strict=True)]))
    other = f"another sound {np.mean([log_mel_distance(sounds[i - 1], b) for i, b in enumerate(again)]):.1f} dB"
    yield Figure("audio VAE and vocoder, log-mel distance", f"{distance:.1f} dB", control=other)
    found = [(time, onsets(b)) for a, b in zip(sounds, again, strict=True) for time in onsets(a)]
    kept = float(np.mean([np.abs(times - time).min(initial=9) <= 0.032 for time, times in found]))
    yield share(f"onsets kept within a latent step, 32 ms ({len(found)})", kept, 0.95)


def sampling(studio: Studio, seeds: int) -> Iterator[Figure]:
    some = orders(max(8, seeds // 4))
    base = made(studio, some, "unipc, 20 steps")
    for change in ({"solver": "dpm++"}, {"solver": "euler"}, {"steps": 50}):
        clips = made(studio, [replace(order, **change) for order in some], str(change))
        agree = float(np.mean([one.verdict == other.verdict for one, other in zip(base, clips, strict=True)]))
        name = ", ".join(f"{key} {value}" for key, value in change.items())
        right, heard = rightness(clips)["all"], sync_of(clips).heard_share
        yield share(f"{name}: same facts as unipc with 20 steps (right {right:.0%}, heard {heard:.0%})", agree, 0.8)
    order = some[0]
    one, two = (studio.sampled(order, studio.latent(order))["samples"].unbind() for _ in range(2))
    equal = all(bool((a == b).all()) for a, b in zip(one, two, strict=True))
    yield Figure("same seed, same bytes", "yes" if equal else "no", "yes", equal)
    apart, other = unlike(studio, order)
    yield Figure(
        "batch of 4 against 4 clips alone: largest difference, of the latent's deviation",
        f"{apart:.1e}",
        f"at most {AS_ROUNDED:.0e}",
        apart <= AS_ROUNDED < other,
        f"the next clip of the batch {other:.1f}",
    )


AS_ROUNDED = 1e-2  # what is rounded otherwise in a batch grows from step to step; in float32 on a processor to 1e-4


def unlike(studio: Studio, order: Order, batch: int = 4) -> tuple[float, float]:
    """How unlike clips of one batch are to the same made alone, and (a control) to the next of the batch.

    The largest difference in either tower, in units of the latent's deviation.
    """
    source = torch.Generator().manual_seed(order.noise)
    shapes = order.clip.video_shape(batch), order.clip.audio_shape(batch)
    noise = [torch.randn(shape, generator=source) for shape in shapes]
    together = studio.from_noise(order, noise)
    alone = [studio.from_noise(order, [part[i : i + 1] for part in noise]) for i in range(batch)]
    worst = [0.0, 0.0]
    for whole, parts in zip(together, zip(*alone, strict=True), strict=True):
        single = torch.cat(parts)
        for n, against in enumerate((single, single.roll(1, 0))):
            worst[n] = max(worst[n], float((whole - against).abs().max() / whole.std()))
    return worst[0], worst[1]


SECTIONS: dict[str, Section] = {
    "Picture and sound together": synchrony,
    "What the prompt says": prompts,
    "Guidance": guidance,
    "A picture to start from": pictures,
    "VAEs": autoencoders,
    "Solvers, steps, seeds": sampling,
    **sections_given.SECTIONS,
    **sections_long.SECTIONS,
}
