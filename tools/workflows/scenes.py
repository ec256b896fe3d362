"""Thumbnails of templates that need weights that are not here, or that the small model fails at: scenes of its world.

Nothing in them was generated. Each says so: the label of what stands in has "(drawn)" behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from ovi_native.ovi_core.spec import ClipShape
from PIL import Image, ImageOps

from ..mini.world.casting import draw_scene
from ..mini.world.render import render
from ..mini.world.scene import Face, Scene
from .examples import BALL, FACE, SECOND
from .poster import NOTHING, SIDE, SILENCE, Clip, Row, even

DRAWN = " (drawn)"
WIDE, SQUARE = (256, 192), (192, 192)  # pixels
QUARTER = SIDE // 4
TALKER = 29
# Moments with the mouth shut and open, as shares of the clip, by the seeds of faces.
SPOKEN = {FACE: (0.0, 0.21, 0.36, 0.5), SECOND: (0.0, 0.26, 0.4, 0.57), TALKER: (0.0, 0.12, 0.25, 0.38)}


@dataclass(frozen=True)
class Seen:
    """A scene of the world: its seed, kind, size and seconds."""

    seed: int
    kind: str
    size: tuple[int, int] = WIDE
    seconds: float = 2.0

    @property
    def shape(self) -> ClipShape:
        return ClipShape.from_seconds(*self.size, self.seconds)

    def clip(self) -> Clip:
        return drawn(draw_scene(self.seed, self.shape, kind=self.kind))

    @property
    def at(self) -> tuple[float, ...]:
        """The moments of a strip: as many frames as there is room for, those of a face while it speaks."""
        return SPOKEN.get(self.seed, even(4)) if self.size == SQUARE else even(3)


def drawn(scene: Scene) -> Clip:
    made = render(scene)
    frames = [Image.fromarray((frame * 255).round().astype("uint8")) for frame in made.frames]
    return Clip(frames, np.asarray(made.sound))


def to_sound(name: str, seen: Seen) -> list[Row]:
    """Another system's silent clip, and the same with sound."""
    clip = seen.clip()
    before = Row(name + DRAWN, Clip(clip.frames, SILENCE), at=seen.at)
    return [before, Row("sound by Ovi" + DRAWN, clip, at=seen.at)]


def to_clip(name: str, seen: Seen) -> list[Row]:
    """Another system's image, and the clip that begins with it."""
    clip = seen.clip()
    before = Row(name + DRAWN, Clip(clip.frames[:1], SILENCE))
    return [before, Row("clip by Ovi" + DRAWN, clip, at=seen.at)]


def after_ovi(name: str, seen: Seen, change: Callable[[Clip], tuple[Clip, Clip]], counts: tuple[int, int]) -> list[Row]:
    """Ovi's clip, and what another system makes of it; ``change`` returns both."""
    before, after = change(seen.clip())
    return [Row("Ovi" + DRAWN, before, at=even(counts[0])), Row(name + DRAWN, after, at=even(counts[1]))]


def _coarse(clip: Clip) -> tuple[Clip, Clip]:
    """In a third of its size, and in its own."""
    third = [frame.resize((frame.width // 10, frame.height // 10)) for frame in clip.frames]
    shown = [
        small.resize(frame.size, Image.Resampling.NEAREST) for small, frame in zip(third, clip.frames, strict=True)
    ]
    return Clip(shown, clip.sound), clip


def _same(clip: Clip) -> tuple[Clip, Clip]:
    return clip, clip


def _mixed(clip: Clip) -> tuple[Clip, Clip]:
    """With a voice that sets in after a pause."""
    voice = Seen(FACE, "face", SQUARE).clip().sound[: clip.sound.size // 2]
    mix = clip.sound / np.abs(clip.sound).max() * 0.5
    mix[-voice.size :] += voice / np.abs(voice).max()
    return clip, Clip(clip.frames, mix)


def _person(label: str, seen: Seen, height: int = SIDE // 2) -> Row:
    """A face beside its voice."""
    clip = seen.clip()
    return Row(label, Clip(clip.frames[:1], clip.sound), height=height)


def one_person() -> list[Row]:
    given = Seen(FACE, "face", SQUARE)
    elsewhere = draw_scene(SECOND, given.shape, kind="face").stage
    clip = drawn(replace(draw_scene(FACE, given.shape, kind="face"), stage=elsewhere))
    return [_person("face and voice", given), Row("clip" + DRAWN, clip, at=given.at)]


def two_people() -> list[Row]:
    pair = _pair()
    first, second = (seen.clip() for seen in pair)
    silent = [clip.frames[:1] * len(clip.frames) for clip in (first, second)]
    turns = [*zip(first.frames, silent[1], strict=True), *zip(silent[0], second.frames, strict=True)]
    clip = Clip([_beside(*both) for both in turns], np.concatenate((first.sound, second.sound)))
    rows = [_person(f"face, voice {number}", seen, QUARTER) for number, seen in enumerate(pair, 1)]
    return [*rows, Row("clip" + DRAWN, clip, at=(0.105, 0.63))]


def _pair() -> list[Seen]:
    return [Seen(seed, "face", SQUARE) for seed in (FACE, SECOND)]


def _beside(one: Image.Image, other: Image.Image) -> Image.Image:
    both = Image.new("RGB", (one.width + other.width, one.height))
    both.paste(one, (0, 0))
    both.paste(other, (one.width, 0))
    return both


def cast() -> list[Row]:
    pair = _pair()
    first, second = (seen.clip() for seen in pair)
    halves = [[ImageOps.fit(frame, (96, 192)) for frame in clip.frames] for clip in (first, second)]
    together = [_beside(*both) for both in zip(*halves, strict=True)]
    film = Clip([*first.frames, *second.frames, *together], np.concatenate((first.sound, second.sound, first.sound)))
    rows = [_person(name, seen, QUARTER) for name, seen in zip(("Sunny", "Blue"), pair, strict=True)]
    return [*rows, Row("film" + DRAWN, film, at=(0.07, 0.17, 0.42, 0.73))]


def kept_voice() -> list[Row]:
    """A voice alone, and other words in it."""
    given = Seen(FACE, "face", SQUARE)
    scene = draw_scene(FACE, given.shape, kind="face")
    (face,) = (thing for thing in scene.things if isinstance(thing, Face))
    other = drawn(replace(scene, things=(replace(face, word="bo", starts=(0.2, 0.75, 1.3)),)))
    voice = Row("the voice", Clip([], given.clip().sound), height=QUARTER)
    return [voice, Row("new speech" + DRAWN, other, height=SIDE - QUARTER, at=(0.0, 0.17, 0.45, 0.72))]


def longer() -> list[Row]:
    """Both halves of 12 s."""
    clip = Seen(BALL, "floor", SQUARE, 12.0).clip()
    frames, samples = len(clip.frames) // 2, clip.sound.size // 2
    first = Clip(clip.frames[:frames], clip.sound[:samples])
    second = Clip(clip.frames[frames:], clip.sound[samples:])
    return [Row("0 to 6 s" + DRAWN, first), Row("6 to 12 s" + DRAWN, second)]


def with_lora() -> list[Row]:
    """The same clip without and with a LoRA, which paints walls orange, as tests/mini/test_mini_lora.py trains one."""
    seen = Seen(BALL, "floor", SQUARE)
    scene = draw_scene(BALL, seen.shape, kind="floor")
    orange = drawn(replace(scene, stage=replace(scene.stage, wall=(0.95, 0.55, 0.15), ground=(0.6, 0.34, 0.1))))
    return [Row("before" + DRAWN, seen.clip()), Row("after, with a LoRA" + DRAWN, orange)]


def draft() -> list[Row]:
    clip = Seen(55, "two balls").clip()
    coarse, fine = _coarse(clip)
    return [Row("draft" + DRAWN, coarse, at=even(2)), Row("large" + DRAWN, fine, at=even(2))]


def enhanced() -> list[Row]:
    said = (
        "A fisherman on a pier",
        "talks about the sea.",
        "",
        "... becomes a whole prompt",
        "with <S>speech<E> and Audio:",
    )
    seen = Seen(TALKER, "face", SQUARE)
    return [Row("a few words", NOTHING, text=said), Row("clip" + DRAWN, seen.clip(), at=seen.at)]


STANDINS: dict[str, Callable[[], list[Row]]] = {
    "08 Keep a voice": kept_voice,
    "12 Draft, then large": draft,
    "13 Prompt enhancer": enhanced,
    "14 LoRA": with_lora,
    "17 Longer than trained": longer,
    "18 One person": one_person,
    "19 Two people": two_people,
    "20 Storyboard with a cast": cast,
    "21 SD 1.5 image to clip": lambda: to_clip("SD 1.5", Seen(3, "floor", SQUARE)),
    "22 SDXL image to clip": lambda: to_clip("SDXL", Seen(5, "lamp", SQUARE)),
    "23 AnimateDiff to sound": lambda: to_sound("AnimateDiff", Seen(8, "floor", SQUARE)),
    "24 CogVideoX to sound": lambda: to_sound("CogVideoX", Seen(11, "lamp")),
    "25 HunyuanVideo to sound": lambda: to_sound("HunyuanVideo", Seen(13, "two balls")),
    "26 LTX-Video to sound": lambda: to_sound("LTX-Video", Seen(14, "walls")),
    "27 Mochi to sound": lambda: to_sound("Mochi", Seen(16, "ball and lamp")),
    "28 Open-Sora to sound": lambda: to_sound("Open-Sora", Seen(18, "ball and lamp")),
    "29 Wan 2.1 to sound": lambda: to_sound("Wan 2.1", Seen(21, "floor")),
    "30 Wan 2.2 to sound": lambda: to_sound("Wan 2.2", Seen(24, "two balls")),
    "31 Ovi to LTX upscale": lambda: after_ovi("LTX-Video", Seen(52, "two balls"), _coarse, (2, 2)),
    "32 Ovi to upscaling": lambda: after_ovi("upscaled", Seen(FACE, "face", SQUARE), _coarse, (2, 2)),
    "33 Ovi to more frames a second": lambda: after_ovi("48 frames a second", Seen(31, "floor"), _same, (3, 6)),
    "34 Ovi to music and voice mix": lambda: after_ovi("with a voice", Seen(33, "lamp"), _mixed, (3, 3)),
}
"""Rows of the thumbnail, by title."""
