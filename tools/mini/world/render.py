"""The world in one call: a seed to a scene, a scene to frames, sound and what is true of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ovi_native.ovi_core.spec import FPS, SAMPLE_RATE

from .audio import make_sound
from .frames import draw_frames
from .scene import Array, Ball, Face, Scene, Thing, is_loud, kind_of


@dataclass(frozen=True)
class Truth:
    """What a clip shows and says, in the words the measures use.

    Attributes:
        colours, kinds, materials: of each thing, in the order of ``Scene.things``; "" where it has no material.
        count: number of things.
        loud: whether anything sounds.
        contacts: seconds of every contact of a ball, sorted.
        openings: seconds at which a mouth opens, sorted.
    """

    colours: tuple[str, ...]
    kinds: tuple[str, ...]
    materials: tuple[str, ...]
    count: int
    loud: bool
    contacts: tuple[float, ...]
    openings: tuple[float, ...]


@dataclass(frozen=True)
class Rendered:
    """A clip: ``frames`` [F, H, W, 3] float32 in 0..1 at 24 a second, ``sound`` [S] float32 in -1..1 at 16 kHz."""

    frames: Array
    sound: Array
    truth: Truth


def render(scene: Scene) -> Rendered:
    """Frames, sound and truth of a scene; the same bytes for the same scene."""
    return Rendered(draw_frames(scene), make_sound(scene), truth_of(scene))


def truth_of(scene: Scene) -> Truth:
    """What is true of a scene, without drawing it."""
    seconds = min(scene.clip.frames / FPS, scene.clip.samples / SAMPLE_RATE)
    contacts = [thing.contacts(seconds) for thing in scene.things if isinstance(thing, Ball)]
    openings = [start for thing in scene.things if isinstance(thing, Face) for start in thing.starts]
    return Truth(
        colours=tuple(_colour(thing) for thing in scene.things),
        kinds=tuple(kind_of(thing) for thing in scene.things),
        materials=tuple(thing.material if isinstance(thing, Ball) else "" for thing in scene.things),
        count=len(scene.things),
        loud=is_loud(scene),
        contacts=tuple(float(time) for time in np.sort(np.concatenate([*contacts, np.zeros(0)]))),
        openings=tuple(sorted(openings)),
    )


def _colour(thing: Thing) -> str:
    return thing.colour
