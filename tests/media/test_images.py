"""Images brought to a size, whatever type they have."""

from __future__ import annotations

import comfy.utils
import pytest
import torch
from ovi_native.ovi_core.media.images import FITS, fit


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("how", FITS)
def test_lanczos_takes_every_float_type(dtype, how):
    images = torch.rand(2, 40, 60, 3)
    fitted = fit(images.to(dtype), 96, 64, how)
    assert fitted.dtype == dtype
    assert torch.allclose(fitted.float(), fit(images, 96, 64, how), atol=0.02)


def test_the_resize_is_comfyuis():
    images = torch.rand(1, 40, 60, 3)
    expected = comfy.utils.common_upscale(images.movedim(-1, 1), 96, 64, "lanczos", "center").movedim(1, -1)
    assert torch.equal(fit(images, 96, 64, "crop"), expected)
    assert fit(images, 60, 40, "crop") is images


@pytest.mark.parametrize(("width", "height"), [(60, 40), (96, 64)])
def test_values_beyond_0_and_1_are_cut_as_comfyui_saves_them_whether_the_size_fits_or_not(width, height):
    flat = torch.tensor([8.0, -3.0, 0.5]).expand(1, 40, 60, 3)
    expected = torch.tensor([1.0, 0.0, 0.5]).expand(1, height, width, 3)
    assert torch.allclose(fit(flat, width, height, "crop"), expected, atol=0.01)
