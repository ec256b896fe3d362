"""Draws the frames of a scene, with edges smoothed over two pixels.

Only the rectangle that a thing passes through is touched, for all frames at once, so that a clip takes milliseconds.
Axis letters: F frames, H rows, W columns.
"""

from __future__ import annotations

import colorsys

import numpy as np

from .scene import DIMMEST, HUES, Array, Ball, Bar, Face, Lamp, Scene, Stage

DARK = np.array([0.07, 0.06, 0.08], dtype=np.float32)
EDGE = 2.0  # pixels over which a shape fades out: no sharper than the small VAE can show
# How far a syllable's mouth is (wide, high) in radii of the face.
MOUTHS = {"ba": (0.34, 0.3), "bee": (0.46, 0.15), "bo": (0.24, 0.26), "boo": (0.15, 0.18)}


def rgb(colour: str, saturation: float = 0.9, value: float = 0.95) -> Array:
    """A named colour as RGB in 0..1."""
    return np.array(colorsys.hsv_to_rgb(HUES[colour] / 360, saturation, value), dtype=np.float32)


def draw_frames(scene: Scene, times: Array | None = None) -> Array:
    """Frames [F, H, W, 3], float32 in 0..1: all of the clip, or those at ``times`` (seconds)."""
    canvas = Canvas(scene, scene.frame_times() if times is None else times)
    for thing in scene.things:
        if isinstance(thing, Ball):
            _ball(canvas, thing, scene)
        elif isinstance(thing, Lamp):
            _lamp(canvas, thing)
        elif isinstance(thing, Bar):
            _bar(canvas, thing, scene.width)
        else:
            _face(canvas, thing)
    return canvas.frames


class Canvas:
    """The frames being drawn, and what converts the scene's units to pixels."""

    def __init__(self, scene: Scene, times: Array):
        self.side, self.times = scene.side, times
        self.columns = ((np.arange(scene.clip.width) + 0.5) / self.side).astype(np.float32)
        self.rows = ((np.arange(scene.clip.height) + 0.5) / self.side).astype(np.float32)
        self.frames = _backdrop(self, scene.stage, scene.width)

    def coverage(self, distance: Array) -> Array:
        """Share of a pixel inside a shape, from the distance to its edge (positive inside)."""
        return np.clip(distance * self.side / EDGE + 0.5, 0, 1)

    def window(self, x: Array, y: Array, half_width: float, half_height: float) -> Window:
        """Pixels that a shape of this half size with centres (x, y) [F] ever touches."""
        return Window(self, x.astype(np.float32), y.astype(np.float32), half_width, half_height)


class Window:
    """A rectangle of the canvas, with pixel distances from a moving centre: dx [F, 1, w], dy [F, h, 1]."""

    def __init__(self, canvas: Canvas, x: Array, y: Array, half_width: float, half_height: float):
        pixel = EDGE / canvas.side
        across = _span(canvas.columns, x, half_width + pixel)
        down = _span(canvas.rows, y, half_height + pixel)
        self.canvas = canvas
        self.frames = canvas.frames[:, down, across]
        self.dx = (canvas.columns[across] - x[:, None])[:, None, :]
        self.dy = (canvas.rows[down] - y[:, None])[:, :, None]

    def disc(self, radius: float) -> Array:
        """Coverage [F, h, w] of a disc."""
        return self.canvas.coverage(radius - np.sqrt(self.dx**2 + self.dy**2))

    def ellipse(self, x: float, y: float, half_width: Array | float, half_height: Array | float) -> Array:
        """Coverage of an upright ellipse at an offset (x, y) from the centre; half sizes may change by frame [F]."""
        a = np.maximum(_per_frame(half_width), 1e-4)
        b = np.maximum(_per_frame(half_height), 1e-4)
        scaled = np.sqrt(((self.dx - x) / a) ** 2 + ((self.dy - y) / b) ** 2)
        return self.canvas.coverage((1 - scaled) * np.minimum(a, b))

    def box(self, half_width: float, half_height: float) -> Array:
        cover = self.canvas.coverage
        return cover(half_width - np.abs(self.dx)) * cover(half_height - np.abs(self.dy))

    def paint(self, cover: Array, colour: Array) -> None:
        """Lay ``colour`` [3], or [F, 1, 1, 3] or [F, h, w, 3], over the frames where ``cover`` [F, h, w] says."""
        cover = cover[..., None]
        self.frames += cover * (colour - self.frames)


def _per_frame(value: Array | float) -> Array:
    return np.asarray(value, dtype=np.float32).reshape(-1, 1, 1)


def _span(pixels: Array, centres: Array, half: float) -> slice:
    low, high = np.searchsorted(pixels, [centres.min() - half, centres.max() + half])
    return slice(int(low), max(int(high), int(low) + 1))


def _backdrop(canvas: Canvas, stage: Stage, width: float) -> Array:
    """Wall, floor and side walls: one frame, repeated."""
    x, y = canvas.columns[None], canvas.rows[None]
    light = 1 - stage.shade * (1 - np.clip(y / stage.floor, 0, 1))
    light = np.repeat(light[:, :, None], len(canvas.columns), axis=2)
    frames = light[..., None] * np.array(stage.wall, dtype=np.float32)
    ground = np.array(stage.ground, dtype=np.float32)
    frames += canvas.coverage(y - stage.floor)[:, :, None, None] * (ground - frames)
    if stage.walls:
        side = np.maximum(canvas.coverage(stage.walls - x), canvas.coverage(x - (width - stage.walls)))
        frames += side[:, None, :, None] * (ground * 0.8 - frames)
    return np.repeat(np.clip(frames, 0, 1).astype(np.float32), len(canvas.times), axis=0)


def _ball(canvas: Canvas, ball: Ball, scene: Scene) -> None:
    x, y = ball.position(canvas.times, scene.stage, scene.width)
    r = ball.radius
    if ball.motion == "floor":  # its shadow, the smaller and darker the nearer the ball is
        height = (scene.stage.floor - r - y)[:, None, None]
        shadow = canvas.window(x, np.full_like(y, scene.stage.floor + 0.01), 1.3 * r, 0.05)
        shadow.paint(shadow.ellipse(0, 0, r * 0.85, 0.03) * (0.3 / (1 + 6 * height)).astype(np.float32), DARK)
    window = canvas.window(x, y, r, r)
    body = window.disc(r)
    colour = rgb(ball.colour)
    window.paint(body, colour)
    if ball.material == "wood":  # a darker band across
        window.paint(body * canvas.coverage(0.3 * r - np.abs(window.dy)), colour * 0.75)
    elif ball.material == "metal":  # a darker edge
        window.paint(body - window.disc(r * 0.6), colour * 0.75)


def _lamp(canvas: Canvas, lamp: Lamp) -> None:
    bright = lamp.brightness(canvas.times).astype(np.float32)
    at = np.full_like(canvas.times, lamp.x), np.full_like(canvas.times, lamp.y)
    window = canvas.window(*at, lamp.radius * 1.9, lamp.radius * 1.9)
    halo = np.clip(1.9 - np.sqrt(window.dx**2 + window.dy**2) / lamp.radius, 0, 0.9)
    glow = rgb(lamp.colour, 0.55, 1.0)
    window.paint(halo * (bright[:, None, None] - DIMMEST) * 0.4, glow)
    body = rgb(lamp.colour, 0.92, 1.0) * bright[:, None, None, None]
    window.paint(window.disc(lamp.radius), body)


def _bar(canvas: Canvas, bar: Bar, width: float) -> None:
    margin = bar.thickness / 2 + 0.08
    x = margin + (width - 2 * margin) * bar.place(canvas.times)
    middle, half = (bar.top + bar.bottom) / 2, (bar.bottom - bar.top) / 2
    window = canvas.window(x, np.full_like(x, middle), bar.thickness / 2, half)
    window.paint(window.box(bar.thickness / 2, half), rgb(bar.colour))


def _face(canvas: Canvas, face: Face) -> None:
    r = face.radius
    opening = face.opening(canvas.times).astype(np.float32)
    at = np.full_like(canvas.times, face.x), np.full_like(canvas.times, face.y)
    window = canvas.window(*at, r, r)
    window.paint(window.disc(r), rgb(face.colour, 0.75, 0.92))
    for side in (-1, 1):
        window.paint(window.ellipse(side * 0.36 * r, -0.28 * r, 0.11 * r, 0.15 * r), DARK)
    wide, high = MOUTHS[face.word]
    closed = 0.28 * r * (1 - opening) + wide * r * opening
    window.paint(window.ellipse(0, 0.42 * r, closed, (0.035 + high * opening) * r), DARK)
