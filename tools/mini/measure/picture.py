"""What a clip shows, by its pixels alone: coloured things, where they are in every frame, what they are, what they do.

A thing is a region of one named colour that hangs together in space and time. Axis letters: F frames, H rows, W
columns. Lengths are in units of the picture's shorter side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ovi_native.ovi_core.spec import FPS
from scipy import ndimage

from ..world.scene import HUES, Array

CHROMA = 0.2  # least difference between the strongest and weakest of RGB in a coloured pixel
SMALLEST = 0.004  # area of the smallest thing, of the squared shorter side
LASTING = 0.6  # share of the frames in which a thing shows
SHARPNESS = 0.35  # least speed on both sides of a contact, of the thing's fastest
SLOWEST = 0.006  # least speed at a contact, per frame


@dataclass(frozen=True)
class Seen:
    """A thing that was found.

    Attributes:
        colour: a key of ``HUES``.
        kind: ``ball``, ``lamp``, ``bar`` or ``face``.
        x, y: its centre in every frame [F]; NaN in frames without it.
        radius: half its typical width.
        brightness: mean of its brightest colour channel in every frame [F], 0..1.
        mouth: dark share of the lower half of its box in every frame [F].
    """

    colour: str
    kind: str
    x: Array
    y: Array
    radius: float
    brightness: Array
    mouth: Array

    @property
    def contacts(self) -> Array:
        """Seconds at which a ball turns round sharply; none for other things."""
        return _contacts(self.x, self.y) if self.kind == "ball" else np.zeros(0)

    @property
    def openings(self) -> Array:
        """Seconds at which a face begins to open its mouth; none for other things."""
        return _openings(self.mouth) if self.kind == "face" else np.zeros(0)


def things_seen(frames: Array) -> list[Seen]:
    """Everything coloured in the frames [F, H, W, 3] in 0..1, the largest first."""
    frames = np.asarray(frames, dtype=np.float32)
    brightest, hue_index = _colours(frames)
    side = min(frames.shape[1:3])
    least = LASTING * SMALLEST * side * side * len(frames)
    found = []
    for index, colour in enumerate(HUES):
        mask = hue_index == index
        if mask.sum() < least:
            continue
        for place, region in _regions(mask, side):
            found.append((region.sum(), _describe(colour, region, place, brightest, side)))
    found.sort(key=lambda pair: -pair[0])
    return [seen for _, seen in found]


def _colours(frames: Array) -> tuple[Array, Array]:
    """Brightest channel, and the index of the nearest named hue, -1 where there is no colour; each [F, H, W]."""
    r, g, b = np.moveaxis(frames, -1, 0)
    brightest = np.maximum(np.maximum(r, g), b)
    chroma = brightest - np.minimum(np.minimum(r, g), b)
    coloured = chroma > CHROMA
    r, g, b, top, spread = r[coloured], g[coloured], b[coloured], brightest[coloured], chroma[coloured]
    sixths = np.where(top == r, (g - b) / spread % 6, np.where(top == g, (b - r) / spread + 2, (r - g) / spread + 4))
    degrees = (sixths * 60).astype(np.int32) % 360
    nearest = np.abs((np.arange(360)[:, None] - np.array(list(HUES.values())) + 180) % 360 - 180).argmin(axis=1)
    hue_index = np.full(brightest.shape, -1, dtype=np.int8)
    hue_index[coloured] = nearest[degrees]
    return brightest, hue_index


def _regions(mask: Array, side: int) -> list[tuple[tuple[slice, slice], Array]]:
    """What hangs together, without what is too small or too brief: its box (rows, columns) and mask in it [F, h, w]."""
    labels, _ = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    kept = []
    for index, place in enumerate(ndimage.find_objects(labels), start=1):
        span, *box = place
        inside = labels[place] == index
        if (inside.sum(axis=(1, 2)) > SMALLEST * side * side).sum() < LASTING * len(mask):
            continue
        region = np.zeros((len(mask), *inside.shape[1:]), dtype=bool)
        region[span] = inside
        kept.append((tuple(box), region))
    return kept


def _describe(colour: str, region: Array, place: tuple[slice, slice], brightest: Array, side: int) -> Seen:
    rows, columns = ((np.arange(axis.start, axis.stop) + 0.5) / side for axis in place)
    across, down = region.sum(axis=1), region.sum(axis=2)
    area = down.sum(axis=1)
    there = area > SMALLEST * side * side / 2
    safe = np.maximum(area, 1)
    x = np.where(there, across @ columns / safe, np.nan)
    y = np.where(there, down @ rows / safe, np.nan)
    wide = float(np.median(_extent(across > 0)[there])) / side
    high = float(np.median(_extent(down > 0)[there])) / side
    inside = brightest[:, place[0], place[1]]
    brightness = (inside * region).sum(axis=(1, 2)) / safe
    mouth = _dark_share(inside)
    kind = _kind(x, y, wide, high, brightness[there])
    return Seen(colour, kind, x, y, wide / 2, brightness, mouth)


def _extent(present: Array) -> Array:
    """Distance from the first to the last True along the second axis, [F] pixels."""
    size = present.shape[1]
    first, last = present.argmax(axis=1), size - 1 - present[:, ::-1].argmax(axis=1)
    return np.where(present.any(axis=1), last - first + 1, 0)


def _dark_share(box: Array) -> Array:
    """Dark share [F] of the lower half of a box of brightness [F, h, w], without its edges: an open mouth."""
    height, width = box.shape[1:]
    lower = box[:, height // 2 : height - height // 12, width // 5 : width - width // 5]
    return np.clip((0.45 - lower) / 0.3, 0, 1).mean(axis=(1, 2)) if lower.size else np.zeros(len(box))


def _kind(x: Array, y: Array, wide: float, high: float, brightness: Array) -> str:
    """A bar is upright, a face is large, a lamp changes its brightness; what is left is a ball."""
    if high > 2.2 * wide:
        return "bar"
    if wide > 0.45 and high > 0.4:
        return "face"
    swing = float(np.percentile(brightness, 95) - np.percentile(brightness, 5))
    moved = float(np.nanstd(x) + np.nanstd(y))
    return "lamp" if swing > 0.25 and moved < 0.06 else "ball"


def _contacts(x: Array, y: Array) -> Array:
    """Seconds of sharp turns: downwards to upwards, or sideways at either end."""
    vertical = _turns(y, rising_only=True)
    sideways = _turns(x, rising_only=False)
    # A ball that bounces on the floor also drifts: only the axis along which it really moves has contacts.
    if np.nanstd(y) >= np.nanstd(x):
        return vertical
    return sideways


def _turns(track: Array, rising_only: bool) -> Array:
    """Seconds at which a coordinate [F] reverses at speed; ``rising_only``: only from growing to falling."""
    known = np.flatnonzero(~np.isnan(track))
    if len(known) < 8:
        return np.zeros(0)
    path = np.interp(np.arange(len(track)), known, track[known])
    speed = np.diff(path)
    fastest = np.percentile(np.abs(speed), 90)
    limit = max(SHARPNESS * fastest, SLOWEST)
    times = []
    for at in range(2, len(path) - 2):
        before, after = path[at - 1] - path[at - 2], path[at + 2] - path[at + 1]
        turn = before > 0 > after or (not rising_only and before < 0 < after)
        if turn and min(abs(before), abs(after)) > limit:
            times.append((_crossing(at, path[at - 1], path[at + 1], before, after), abs(before) + abs(after)))
    return _strongest(times)


def _crossing(at: int, left: float, right: float, before: float, after: float) -> float:
    """Frame at which two straight lines meet: through (at - 1, left) and (at + 1, right), at the given speeds."""
    return float(np.clip(at + (right - left - after - before) / (before - after), at - 1, at + 1))


def _strongest(times: list[tuple[float, float]]) -> Array:
    """Of turns within three frames of each other the mean of the strongest, in seconds."""
    kept: list[tuple[float, float]] = []
    for frame, strength in times:
        if kept and frame - kept[-1][0] < 3:
            if strength > kept[-1][1]:
                kept[-1] = (frame, strength)
        else:
            kept.append((frame, strength))
    return np.array([frame for frame, _ in kept]) / FPS


def _openings(mouth: Array) -> Array:
    """Seconds at which the dark share rises through half of its swing."""
    low, high = np.percentile(mouth, 10), np.percentile(mouth, 97)
    if high - low < 0.02:
        return np.zeros(0)
    level = (mouth - low) / (high - low)
    up = np.flatnonzero((level[:-1] < 0.4) & (level[1:] >= 0.4))
    part = (0.4 - level[up]) / np.maximum(level[up + 1] - level[up], 1e-6)
    return (up + part) / FPS
