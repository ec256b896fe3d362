"""What a scene of the world is made of, where everything is at any moment, and when it makes a sound.

Lengths are in units of the picture's shorter side, x to the right and y down from the upper left corner; times are in
seconds. All that follows from time is a pure function of it, so picture and sound are drawn from the same motion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from ovi_native.ovi_core.spec import FPS, ClipShape

Array = NDArray[np.floating]

# Hue of each named colour in degrees; the gaps are wide enough to tell them apart by pixels after a lossy codec.
HUES = {"red": 0.0, "yellow": 52.0, "green": 120.0, "cyan": 182.0, "blue": 228.0, "purple": 285.0}
MATERIALS = ("rubber", "wood", "metal")
RADII = {"small": 0.11, "medium": 0.14, "large": 0.18}
WORDS = ("ba", "bee", "bo", "boo")
DIMMEST = 0.5  # brightness of a lamp at its darkest: still coloured, so it can be found by its colour

Motion = Literal["floor", "walls", "float"]


@dataclass(frozen=True)
class Ball:
    """A ball that bounces on the floor, flies between two walls, or floats without touching anything.

    Attributes:
        x: its centre at the start where it bounces on the floor, the middle of its way where it floats.
        y: its height where it flies between walls or floats.
        drift: sideways speed while it bounces on the floor, per second.
        reach: height of a bounce, or how far a floating ball moves to each side.
        period: seconds from one contact to the next (floor, walls), or of one round (float).
        phase: seconds of the first contact, less than ``period``.
    """

    colour: str
    material: str
    size: str
    motion: Motion
    radius: float
    x: float
    y: float
    drift: float
    reach: float
    period: float
    phase: float

    def contacts(self, seconds: float) -> Array:
        """Times of all contacts before ``seconds``."""
        if self.motion == "float":
            return np.zeros(0)
        return np.arange(self.phase, seconds, self.period)

    def position(self, t: Array, stage: Stage, width: float) -> tuple[Array, Array]:
        """Centre (x, y) at times ``t``, in a picture ``width`` wide."""
        turns = (t - self.phase) / self.period
        if self.motion == "float":
            angle = 2 * np.pi * turns
            return self.x + self.reach * np.sin(angle), self.y + 0.6 * self.reach * np.sin(angle * 0.5 + 1.0)
        if self.motion == "walls":
            left, right = stage.walls + self.radius, width - stage.walls - self.radius
            from_right = np.abs((turns % 2.0) - 1.0)  # 1 at even contacts, 0 at odd ones
            return left + (right - left) * from_right, np.full_like(t, self.y)
        part = turns % 1.0
        rest = stage.floor - self.radius
        return self.x + self.drift * t, rest - self.reach * 4 * part * (1 - part)


@dataclass(frozen=True)
class Lamp:
    """A round lamp that glows and dims; its hum is as loud as it is bright."""

    colour: str
    size: str
    radius: float
    x: float
    y: float
    period: float
    phase: float

    def brightness(self, t: Array) -> Array:
        """From ``DIMMEST`` to 1."""
        return DIMMEST + (1 - DIMMEST) * self.loudness(t)

    def loudness(self, t: Array) -> Array:
        """From 0 to 1."""
        return 0.5 - 0.5 * np.cos(2 * np.pi * (t - self.phase) / self.period)


@dataclass(frozen=True)
class Bar:
    """An upright bar that sweeps from side to side; its tone is the higher the further right it is."""

    colour: str
    size: str
    thickness: float
    top: float
    bottom: float
    period: float
    phase: float

    def place(self, t: Array) -> Array:
        """From 0 (left) to 1 (right)."""
        return 0.5 - 0.5 * np.cos(2 * np.pi * (t - self.phase) / self.period)


@dataclass(frozen=True)
class Face:
    """A face that says one syllable several times; the mouth is open while it sounds.

    Attributes:
        starts: seconds at which the mouth opens.
        length: seconds of one syllable.
        pitch: Hz of the voice.
    """

    colour: str
    word: str
    radius: float
    x: float
    y: float
    pitch: float
    starts: tuple[float, ...]
    length: float

    def opening(self, t: Array) -> Array:
        """How far the mouth is open, 0 to 1."""
        since = t[..., None] - np.asarray(self.starts)
        rise = np.clip(since / 0.05, 0, 1)
        fall = np.clip((self.length - since) / 0.09, 0, 1)
        return (rise * fall).max(axis=-1, initial=0.0)


Thing = Ball | Lamp | Bar | Face


@dataclass(frozen=True)
class Stage:
    """What is behind the things: a wall, a floor, and side walls where a ball needs them.

    Attributes:
        tone: name of the wall's colour, as captions say it.
        wall, ground: RGB in 0..1 of wall and floor.
        shade: how much darker the wall is at the top than at the floor.
        floor: y of the floor's edge.
        walls: width of a side wall, 0 for none.
    """

    tone: str
    wall: tuple[float, float, float]
    ground: tuple[float, float, float]
    shade: float
    floor: float
    walls: float


@dataclass(frozen=True)
class Scene:
    """Everything that shows and sounds in one clip."""

    clip: ClipShape
    things: tuple[Thing, ...]
    stage: Stage
    seed: int

    @property
    def side(self) -> int:
        """Pixels of one unit of length."""
        return min(self.clip.width, self.clip.height)

    @property
    def width(self) -> float:
        return self.clip.width / self.side

    @property
    def height(self) -> float:
        return self.clip.height / self.side

    def frame_times(self) -> Array:
        return np.arange(self.clip.frames) / FPS


def kind_of(thing: Thing) -> str:
    """``ball``, ``lamp``, ``bar`` or ``face``."""
    return type(thing).__name__.lower()


def is_loud(scene: Scene) -> bool:
    """Whether anything in the scene makes a sound."""
    return any(not (isinstance(thing, Ball) and thing.motion == "float") for thing in scene.things)
