"""Arithmetic of the clip, against the reference's own sizes and lengths."""

import json
import math
from pathlib import Path

import pytest
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.spec import (
    FPS,
    SAMPLE_RATE,
    VARIANTS,
    ClipShape,
    Overlap,
    check_size,
    size_for_shape,
    snap_size,
)

GEOMETRY = json.loads((Path(__file__).parents[1] / "golden" / "geometry.json").read_text())


@pytest.mark.parametrize("case", GEOMETRY["snap"], ids=str)
def test_a_wanted_size_is_snapped_as_the_reference_does(case):
    assert snap_size(case["height"], case["width"], case["area"]) == tuple(case["snapped"])


PUBLISHED = [
    ("720x720_5s", (1, 1), (704, 704)),
    ("720x720_5s", (16, 9), (960, 544)),
    ("720x720_5s", (9, 16), (544, 960)),
    ("720x720_5s", (2, 1), (992, 512)),
    ("720x720_5s", (1, 2), (512, 992)),
    ("720x720_5s", (1120, 448), (1152, 448)),
    ("720x720_5s", (4, 3), (832, 640)),
    ("960x960_5s", (1, 1), (960, 960)),
    ("960x960_10s", (1920, 1080), (1280, 704)),
    ("960x960_10s", (9, 16), (704, 1280)),
    ("960x960_10s", (3, 4), (832, 1120)),
    ("dreamid_omni", (16, 9), (1280, 704)),
    ("dreamid_omni", (2, 1), (992, 512)),
    ("mini", (1, 1), (96, 96)),
]


@pytest.mark.parametrize(("variant", "shape", "size"), PUBLISHED, ids=str)
def test_a_shape_gets_the_published_size(variant, shape, size):
    assert size_for_shape(VARIANTS[variant], *shape) == size


@pytest.mark.parametrize("variant", ["720x720_5s", "960x960_5s"])
def test_a_shape_that_no_published_size_has_gets_the_references_size(variant):
    chosen = VARIANTS[variant]
    cases = [case for case in GEOMETRY["snap"] if case["area"] == chosen.area]
    others = [case for case in cases if tuple(case["snapped"][::-1]) not in chosen.recommended]
    kept = [case for case in others if not 1.75 < max(_ratio(case), 1 / _ratio(case)) < 2]  # 16:9 and 2:1
    assert len(kept) >= 2
    for case in kept:
        assert size_for_shape(chosen, case["width"], case["height"]) == tuple(case["snapped"][::-1]), case


def _ratio(case):
    return case["width"] / case["height"]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(1, 1), (4, 3), (2, 3), (16, 9), (21, 9), (9, 21), (1, 1000), (7680, 4320)])
def test_the_size_for_a_shape_is_on_the_grid(variant, shape):
    check_size(*size_for_shape(VARIANTS[variant], *shape))


def test_a_shape_without_a_side_is_refused():
    with pytest.raises(OviError, match="sides of 1 px or more"):
        size_for_shape(VARIANTS["mini"], 0, 100)


@pytest.mark.parametrize(
    ("seconds", "steps", "frames", "audio_frames", "samples"),
    [(5.0, 31, 121, 157, 80384), (10.0, 61, 241, 314, 160768)],
)
def test_trained_lengths_have_the_published_counts(seconds, steps, frames, audio_frames, samples):
    clip = ClipShape.from_seconds(960, 704, seconds)
    assert (clip.latent_frames, clip.frames, clip.audio_frames, clip.samples) == (steps, frames, audio_frames, samples)
    assert clip.video_shape(2) == (2, 48, steps, 44, 60)
    assert clip.audio_shape(2) == (2, 20, audio_frames)


@pytest.mark.parametrize(("seconds", "frames"), [(0.01, 5), (0.2, 5), (1.0, 25), (4.9, 117), (7.5, 181), (15, 361)])
def test_other_lengths_take_the_nearest_latent_step(seconds, frames):
    assert ClipShape.from_seconds(512, 512, seconds).frames == frames


@pytest.mark.parametrize("seconds", [5.0, 10.0])
def test_sound_and_picture_of_a_trained_length_end_within_one_frame(seconds):
    clip = ClipShape.from_seconds(704, 704, seconds)
    assert abs(clip.samples / SAMPLE_RATE - clip.frames / FPS) < 1 / FPS


def test_lengths_survive_the_round_trip_through_seconds():
    for steps in range(2, 400):
        clip = ClipShape(704, 704, steps)
        assert ClipShape.from_seconds(704, 704, clip.seconds) == clip


@pytest.mark.parametrize(
    ("seconds", "least", "latent_frames", "frames", "audio_frames"),
    [(0, 0, 0, 0, 0), (0, 1, 1, 1, 1), (0.04, 0, 1, 1, 1), (0.2, 0, 2, 5, 6), (1, 1, 7, 25, 32), (2, 1, 13, 49, 63)],
)
def test_an_overlap_is_whole_latent_frames(seconds, least, latent_frames, frames, audio_frames):
    overlap = Overlap.from_seconds(seconds, least)
    assert (overlap.latent_frames, overlap.frames, overlap.audio_frames) == (latent_frames, frames, audio_frames)


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf])
def test_a_length_that_is_none_is_refused(seconds):
    with pytest.raises(OviError, match=r"'seconds'.*Set seconds to 5 or 10"):
        ClipShape.from_seconds(512, 512, seconds)


@pytest.mark.parametrize(
    ("width", "height", "input", "remedy"),
    [
        (500, 512, "width", "Set width to 480 or 512."),
        (512, 720, "height", "Set height to 704 or 736."),
        (16, 0, "width and height", "Set width to 32 and height to 32."),
        (-33, 32, "width", "Set width to 32."),
    ],
)
def test_a_size_off_the_grid_names_the_nearest_accepted_ones(width, height, input, remedy):
    with pytest.raises(OviError) as caught:
        check_size(width, height)
    assert caught.value.input == input
    assert f"{width}x{height} px" in caught.value.found
    assert caught.value.remedy == remedy


def test_sizes_on_the_grid_pass():
    for width, height in [(32, 32), (704, 704), (960, 544), (4512, 192)]:
        check_size(width, height)


def test_sizes_without_area_are_refused():
    with pytest.raises(OviError, match="0x100 px"):
        snap_size(100, 0, 518400)


def test_variants_are_the_published_ones_best_first():
    assert [(v.name, v.file, v.area, v.seconds) for v in VARIANTS.values()] == [
        ("960x960_10s", "model_960x960_10s.safetensors", 921600, 10.0),
        ("960x960_5s", "model_960x960.safetensors", 921600, 5.0),
        ("720x720_5s", "model.safetensors", 518400, 5.0),
        ("mini", "ovi_mini.safetensors", 9216, 5.0),
        ("dreamid_omni", "dreamid_omni.safetensors", 901120, 5.0),
    ]
