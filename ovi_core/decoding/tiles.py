"""Sizes of the tiles in which a video latent is decoded, from the memory that is there.

Wan 2.2's VAE decodes one latent frame after another, so that a tile takes as much memory for a long clip as for a short
one, but for the frames themselves: tiles divide the image and never the time, which is what the VAE remembers along.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

OVERLAP = 4
"""Latent cells that two tiles share, 64 px, as in ComfyUI."""
DEFAULT = 32
"""Cells of a side where tiles are asked for: ComfyUI's 512 px."""
SMALLEST = 16
"""Cells of a side below which a tile would be mostly overlap; ComfyUI takes it when memory ran out."""


def tiles(shape: Sequence[int], fits: Callable[[int, int], bool], most: int | None = None) -> dict[str, int]:
    """Arguments of ComfyUI's ``decode_tiled`` for a latent [B, 48, T, H, W].

    The tiles that compute the fewest cells twice among those that fit; the smallest where none does.

    Args:
        fits: whether a tile of so many rows and columns of cells fits into memory.
        most: cells of a side that a tile has at most. Tiles of that size are taken if they fit, else as without.
    """
    frames, height, width = shape[2:]
    if most is not None and fits(min(most, height), min(most, width)):
        return _arguments(frames, most, most)
    heights, widths = _sides(height), _sides(width)
    pairs = sorted(itertools.product(heights, widths), key=lambda pair: _computed(pair, (height, width)))
    rows, columns = next((pair for pair in pairs if fits(*pair)), (heights[-1], widths[-1]))
    return _arguments(frames, rows, columns)


def _arguments(frames: int, rows: int, columns: int) -> dict[str, int]:
    """ComfyUI takes ``tile_x`` for the rows and ``tile_y`` for the columns of a video."""
    return {"tile_x": rows, "tile_y": columns, "overlap": OVERLAP, "tile_t": max(2, frames), "overlap_t": 1}


def _sides(side: int) -> list[int]:
    """Sides of even tiles of an axis of ``side`` cells, for one tile, for two and so on, down to the smallest."""
    least, sides = min(SMALLEST, side), []
    for count in range(1, side + 1):
        tile = math.ceil((side + (count - 1) * OVERLAP) / count)
        if tile <= least:
            break
        sides.append(tile)
    return [*sides, least]


def _computed(tile: tuple[int, int], sides: tuple[int, int]) -> tuple[int, int]:
    """Cells that are computed with such tiles, and how many tiles there are."""
    counts = [
        1 if part >= side else math.ceil((side - OVERLAP) / (part - OVERLAP))
        for part, side in zip(tile, sides, strict=True)
    ]
    return math.prod(counts) * math.prod(tile), math.prod(counts)
