"""Tiles of a decode: as few and as large as memory allows, never along time, joined by ComfyUI's own tiling."""

from __future__ import annotations

from types import SimpleNamespace

import comfy.model_management
import pytest
import torch
from comfy.utils import tiled_scale_multidim
from native_cases import drawn, small_vaes
from ovi_native.ovi_core.decoding import towers
from ovi_native.ovi_core.decoding.tiles import DEFAULT, OVERLAP, SMALLEST, tiles


@pytest.fixture(scope="module")
def vae():
    return small_vaes()[0]


def seen_by_comfyui(shape, asked):
    """Shapes of the tiles that ComfyUI makes, whose join has to be the whole."""
    latent, seen = torch.randn(1, 1, *shape[2:]), []

    def keep(tile):
        seen.append(tuple(tile.shape[2:]))
        return tile

    sizes = asked["tile_t"], asked["tile_x"], asked["tile_y"]
    overlap = asked["overlap_t"], asked["overlap"], asked["overlap"]
    joined = tiled_scale_multidim(latent, keep, tile=sizes, overlap=overlap, upscale_amount=1, out_channels=1)
    assert torch.allclose(joined, latent, atol=1e-5)
    return seen


@pytest.mark.parametrize("sides", [(44, 44), (60, 60), (33, 62), (20, 90), (8, 70), (16, 16)])
@pytest.mark.parametrize("cells", [10_000, 1_000, 500, 256])
def test_tiles_fit_and_no_other_even_tiles_compute_less(sides, cells):
    shape = (1, 48, 31, *sides)

    def fits(rows, columns):
        return rows * columns <= cells

    asked = tiles(shape, fits)
    seen = seen_by_comfyui(shape, asked)
    assert all(frames == 31 for frames, _, _ in seen)
    computed = sum(rows * columns for _, rows, columns in seen)
    assert max(rows * columns for _, rows, columns in seen) <= cells
    if sides[0] * sides[1] <= cells:
        assert seen == [(31, *sides)]
    for rows, columns in [(rows, columns) for rows in range(16, 61, 4) for columns in range(16, 91, 4)]:
        if fits(min(rows, sides[0]), min(columns, sides[1])):
            others = seen_by_comfyui(shape, {**asked, "tile_x": rows, "tile_y": columns})
            others = {(min(r, rows), min(c, columns)) for _, r, c in others}, len(others)
            even = others[1] * max(r * c for r, c in others[0])
            assert computed <= even


@pytest.mark.parametrize(("cells", "side"), [(2_000, DEFAULT), (DEFAULT**2, DEFAULT), (700, 24), (1, SMALLEST)])
def test_tiles_that_are_asked_for_are_comfyuis_where_these_fit(cells, side):
    asked = tiles((1, 48, 31, 44, 44), lambda rows, columns: rows * columns <= cells, DEFAULT)
    assert (asked["tile_x"], asked["tile_y"], asked["overlap"], asked["tile_t"]) == (side, side, OVERLAP, 31)


@pytest.mark.parametrize(("free", "largest"), [(1e12, (20, 80)), (None, (20, 44))])
def test_a_decode_takes_tiles_of_the_memory_that_is_free(vae, monkeypatch, free, largest):
    """``None``: as much as a tile of 20 x 44 cells takes with its frames."""
    latent, seen = drawn(1, 48, 2, 20, 80, seed=1), []
    shape = (1, 48, 2, 20, 44)
    enough = towers._memory_of_tile(vae, shape)
    assert enough > vae.memory_used_decode(shape, vae.vae_dtype)
    monkeypatch.setattr(towers, "_memory_once_free", lambda vae: enough if free is None else free)
    decode = vae.first_stage_model.decode
    monkeypatch.setattr(vae.first_stage_model, "decode", lambda z: seen.append(tuple(z.shape)) or decode(z))
    with torch.inference_mode():
        frames = towers.decode_video(vae, latent, "auto")
    assert frames.shape == (1, 5, 320, 1280, 3)
    assert max(seen)[1:] == (48, 2, *largest) if free else all(tile[2:] <= (2, *largest) for tile in seen)


def test_of_a_card_only_what_other_programs_leave_counts(vae, monkeypatch):
    """24 GB: 3 are free, 5 hold a text encoder that ComfyUI can put away; the 9 on another card do not count."""
    card, other = torch.device("cuda", 0), torch.device("cuda", 1)
    loaded = [SimpleNamespace(device=device, model_loaded_memory=lambda size=size: size * 1e9)
              for device, size in ((card, 5), (other, 9))]  # fmt: skip
    manager = comfy.model_management
    monkeypatch.setattr(manager, "current_loaded_models", loaded)
    monkeypatch.setattr(manager, "get_total_memory", lambda device: 24e9)
    monkeypatch.setattr(manager, "get_free_memory", lambda device: 3e9)
    monkeypatch.setattr(vae, "device", card)
    assert towers._memory_once_free(vae) == pytest.approx(0.9 * 8e9 - vae.model_size())
