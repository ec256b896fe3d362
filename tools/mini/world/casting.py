"""Draws scenes from a seed, and keeps some combinations of facts out of the training split."""

from __future__ import annotations

import colorsys
from dataclasses import replace
from typing import Literal

import numpy as np
from ovi_native.ovi_core.spec import ClipShape

from .scene import HUES, MATERIALS, RADII, WORDS, Ball, Bar, Face, Lamp, Scene, Stage, Thing

Split = Literal["train", "held_out"]

COLOURS = tuple(HUES)
# Share of each kind of scene, in percent.
SHARES = {
    "floor": 30,
    "walls": 13,
    "two balls": 13,
    "float": 8,
    "lamp": 9,
    "bar": 9,
    "face": 11,
    "ball and lamp": 7,
}
# Combinations that training never shows: every kind of thing occurs there in every colour, in other company.
HELD_OUT_BALLS = {("red", "metal"), ("blue", "wood"), ("green", "rubber"), ("purple", "metal")}
HELD_OUT_LAMPS = {("cyan", "small"), ("red", "large")}
HELD_OUT_BARS = {("yellow", "large"), ("purple", "small")}
HELD_OUT_FACES = {("red", "boo"), ("green", "ba"), ("blue", "bee"), ("yellow", "bo")}

TONES = {  # hue in degrees, saturation, brightness of the wall: pale enough not to pass for a thing's colour
    "light grey": (0, 0.0, 0.78),
    "dark grey": (0, 0.0, 0.3),
    "beige": (38, 0.13, 0.74),
    "slate": (215, 0.16, 0.42),
    "white": (60, 0.02, 0.93),
}


def is_held_out(thing: Thing) -> bool:
    """Whether the combination of this thing's facts is kept out of training."""
    if isinstance(thing, Ball):
        return (thing.colour, thing.material) in HELD_OUT_BALLS
    if isinstance(thing, Lamp):
        return (thing.colour, thing.size) in HELD_OUT_LAMPS
    if isinstance(thing, Bar):
        return (thing.colour, thing.size) in HELD_OUT_BARS
    return (thing.colour, thing.word) in HELD_OUT_FACES


def draw_scene(seed: int, clip: ClipShape, split: Split = "train", kind: str | None = None) -> Scene:
    """The scene of ``seed``: the same for every call and machine.

    Args:
        clip: size and length of the picture.
        split: ``train`` holds no thing that :func:`is_held_out`; every scene of ``held_out`` has one.
        kind: a key of :data:`SHARES`, to draw only such scenes; ``float`` has nothing to hold out but its ball.
    """
    rng = _source(seed, split)
    kind = kind or _kind(rng)
    while True:
        scene = _draw(rng, seed, clip, kind)
        if any(map(is_held_out, scene.things)) == (split == "held_out"):
            return scene


def drawn_kind(seed: int, split: Split = "train") -> str:
    """Which of :data:`SHARES` the scene of ``seed`` is, without drawing it."""
    return _kind(_source(seed, split))


def _source(seed: int, split: Split) -> np.random.Generator:
    return np.random.default_rng([seed, split == "held_out"])


def _kind(rng: np.random.Generator) -> str:
    shares = np.array(list(SHARES.values()), dtype=float)
    return list(SHARES)[rng.choice(len(shares), p=shares / shares.sum())]


def _draw(rng: np.random.Generator, seed: int, clip: ClipShape, kind: str) -> Scene:
    side = min(clip.width, clip.height)
    width, height = clip.width / side, clip.height / side
    stage = _stage(rng, width, height, walled=kind == "walls")
    colours = [str(colour) for colour in rng.permutation(COLOURS)]
    things: list[Thing]
    if kind in ("floor", "walls", "float"):
        things = [_ball(rng, colours[0], kind, stage, width, clip.seconds)]
    elif kind == "two balls":
        things = _two_balls(rng, colours[0], stage, width, clip.seconds)
    elif kind == "lamp":
        things = [_lamp(rng, colours[0], width, stage)]
    elif kind == "bar":
        things = [_bar(rng, colours[0], stage)]
    elif kind == "face":
        things = [_face(rng, colours[0], width, height, clip.seconds)]
    else:
        left = bool(rng.integers(2))  # beside each other, the lamp high up
        lamp = replace(_lamp(rng, colours[1], width, stage), x=(0.2 if left else 0.8) * width, y=0.24)
        ball = _ball(rng, colours[0], "floor", stage, width, clip.seconds)
        things = [lamp, replace(ball, x=(0.7 if left else 0.3) * width, drift=0.5 * ball.drift / clip.seconds)]
    return Scene(clip, tuple(things), stage, seed)


def _stage(rng: np.random.Generator, width: float, height: float, walled: bool) -> Stage:
    tone = str(rng.choice(list(TONES)))
    hue, saturation, value = TONES[tone]
    value = value * rng.uniform(0.97, 1.03)
    wall = colorsys.hsv_to_rgb(hue / 360, saturation, min(value, 1.0))
    ground = colorsys.hsv_to_rgb(hue / 360, saturation * 0.7, value * 0.64)
    return Stage(
        tone=tone,
        wall=wall,
        ground=ground,
        shade=0.12,
        floor=height - rng.uniform(0.1, 0.16),
        walls=0.08 if walled else 0.0,
    )


def _ball(rng: np.random.Generator, colour: str, motion: str, stage: Stage, width: float, seconds: float) -> Ball:
    size = str(rng.choice(list(RADII)))
    radius = RADII[size] * rng.uniform(0.94, 1.06)
    x, y, drift, reach, period = 0.5 * width, 0.5, 0.0, 0.2, 3.0
    if motion == "floor":
        reach = rng.uniform(0.24, min(0.56, stage.floor - 2 * radius - 0.06))
        period = float(np.sqrt(8 * reach / rng.uniform(2.6, 3.6)))  # a fall of this height under a like gravity
        margin = radius + 0.06
        x, end = rng.uniform(margin, width - margin, size=2)
        drift = float(np.clip((end - x) / seconds, -0.1, 0.1))
    elif motion == "walls":
        y = rng.uniform(0.3, stage.floor - radius - 0.08)
        period = (width - 2 * stage.walls - 2 * radius) / rng.uniform(0.5, 0.8)
    else:
        reach = rng.uniform(0.1, 0.2)
        period = rng.uniform(3.0, 5.0)
        x = rng.uniform(0.35, width - 0.35)
        y = rng.uniform(0.32, 0.45)
    material = str(rng.choice(MATERIALS))
    phase = rng.uniform(0, period)
    return Ball(colour, material, size, motion, radius, x, y, drift, reach, period, phase)  # type: ignore[arg-type]


def _two_balls(rng: np.random.Generator, colour: str, stage: Stage, width: float, seconds: float) -> list[Thing]:
    """Two balls of one kind in lanes of their own; never in step, so that their contacts can be told apart."""
    first = _ball(rng, colour, "floor", stage, width, seconds)
    radius = min(first.radius, RADII["medium"])
    size = first.size if first.radius == radius else "medium"
    balls = []
    for lane in (0.25, 0.75):
        reach = rng.uniform(0.3, min(0.56, stage.floor - 2 * radius - 0.06))
        period = float(np.sqrt(8 * reach / rng.uniform(2.4, 3.4)))
        x = width * lane + rng.uniform(-0.04, 0.04)
        balls.append(
            replace(
                first,
                size=size,
                radius=radius,
                x=x,
                drift=rng.uniform(-0.05, 0.05) / seconds,
                reach=reach,
                period=period,
                phase=rng.uniform(0, period),
            )
        )
    return list(balls)


def _lamp(rng: np.random.Generator, colour: str, width: float, stage: Stage) -> Lamp:
    size = str(rng.choice(["small", "large"]))
    radius = (0.11 if size == "small" else 0.17) * rng.uniform(0.95, 1.05)
    return Lamp(
        colour=colour,
        size=size,
        radius=radius,
        x=rng.uniform(0.3, width - 0.3),
        y=rng.uniform(0.28, stage.floor - radius - 0.1),
        period=rng.uniform(0.8, 1.6),
        phase=rng.uniform(0, 1.6),
    )


def _bar(rng: np.random.Generator, colour: str, stage: Stage) -> Bar:
    size = str(rng.choice(["small", "large"]))
    return Bar(
        colour=colour,
        size=size,
        thickness=(0.08 if size == "small" else 0.13) * rng.uniform(0.95, 1.05),
        top=rng.uniform(0.06, 0.16),
        bottom=stage.floor - rng.uniform(0.0, 0.04),
        period=rng.uniform(1.8, 3.2),
        phase=rng.uniform(0, 3.2),
    )


def _face(rng: np.random.Generator, colour: str, width: float, height: float, seconds: float) -> Face:
    radius = rng.uniform(0.27, 0.34)
    length = rng.uniform(0.2, 0.3)
    gap = rng.uniform(0.22, 0.4)
    times = np.arange(rng.uniform(0.12, 0.5), seconds - length - 0.12, length + gap)
    return Face(
        colour=colour,
        word=str(rng.choice(WORDS)),
        radius=radius,
        x=width / 2 + rng.uniform(-0.1, 0.1),
        y=height / 2 + rng.uniform(-0.08, 0.04),
        pitch=150 * (0.3 / radius) ** 3 * rng.uniform(0.92, 1.08),
        starts=tuple(float(time) for time in times[: rng.integers(2, 4) if seconds < 3 else rng.integers(3, 6)]),
        length=length,
    )
