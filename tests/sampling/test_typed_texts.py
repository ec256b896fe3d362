"""Texts and numbers of guidance and schedules, typed or from another node: taken, or refused in one line."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import tiny_ovi as tiny
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.sampling.guidance import parse_skip_layers
from ovi_native.ovi_core.sampling.model_patches import parse_layers
from ovi_native.ovi_core.sampling.sample import sigmas_for
from ovi_native.ovi_core.sampling.schedules import parse_points
from ovi_native.ovi_core.sampling.solvers import SOLVERS, sampler

LAYERS = 30
LONG = (
    "1" * 5000,
    "1," * 50_000,
    "-" * 50_000,
    " " * 200_000,
    "0-29," * 20_000,
    "0:1," * 20_000,
    "0." + "0" * 5000 + ":1",
)
pieces = st.sampled_from(
    [
        "0",
        "1",
        "11",
        "29",
        "30",
        "-",
        " - ",
        ",",
        ";",
        ":",
        ".",
        " ",
        "all",
        "nan",
        "inf",
        "1e999",
        "٣",
        "²",
        "\n",
        "\0",
        "0:4",
    ]
)
texts = st.one_of(st.text(max_size=40), st.lists(pieces, max_size=12).map("".join), st.sampled_from(LONG))
numbers = st.one_of(st.floats(), st.integers(-10, 2000).map(float))


def parsed(parse, *inputs):
    """What ``parse`` gives; None where it refuses, in one line that can be read."""
    try:
        return parse(*inputs)
    except OviError as error:
        refused = str(error)
    assert len(refused.splitlines()) == 1
    assert len(refused) < 1000
    return None


@given(texts)
def test_skip_layers_are_block_pairs_or_refused(text):
    layers = parsed(parse_skip_layers, text, LAYERS)
    assert layers is None or (layers == tuple(sorted(set(layers))) and set(layers) <= set(range(1, LAYERS)))


@given(texts)
@example("9-2")
@example("0-3, 9-2")
def test_layers_are_block_pairs_or_refused(text):
    layers = parsed(parse_layers, text, LAYERS)
    if layers is not None:
        assert layers
        assert set(layers) <= set(range(LAYERS))
    assert "9-2" not in text or layers is None


@given(texts)
@example("0:nan")
@example("nan:1")
@example("0:4, 0:3")
def test_points_rise_and_are_in_range_or_refused(text):
    points = parsed(parse_points, text)
    if points is not None:
        assert 0 < len(points) <= 1000
        assert all(0 <= share <= 1 and 0 <= strength <= 30 for share, strength in points)
        assert all(first[0] < second[0] for first, second in pairwise(points))


@given(st.sampled_from(SOLVERS), st.one_of(st.integers(), st.just(10**5000)), numbers, numbers)
@example("unipc", 10**9, 5.0, 1.0)
@example("unipc", 50, math.nan, 1.0)
@example("unipc", 50, 0.0, 1.0)
@example("euler", 50, 5.0, 1e-300)
@example("dpm++", 50, 5.0, 7.0)
@example("dpm++", 50, 5.0, math.nan)
@example("euler", 1, 1e-9, 1.0)
def test_a_schedule_falls_to_0_or_its_numbers_are_refused(solver, steps, shift, denoise):
    sigmas = parsed(sigmas_for, solver, steps, shift, denoise)
    if sigmas is not None:
        assert len(sigmas) == (steps + 1 if denoise > 0 else 0)
        assert bool(sigmas.isfinite().all())
        assert not len(sigmas) or sigmas[-1] == 0


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    "sigmas", [(1.0, math.nan, 0.0), (1.0, 0.0, 0.0), (math.inf, 0.5, 0.0), (1.0, -0.5, 0.0), (1.0, 0.5, math.nan)]
)
def test_noise_levels_of_another_node_that_no_run_has_are_refused(model, solver, sigmas):
    with pytest.raises(OviError, match="Ovi Scheduler"):
        _run(model, solver, sigmas)


@pytest.mark.parametrize("solver", ["unipc", "dpm++"])
def test_noise_levels_that_do_not_fall_are_refused_by_the_solvers_that_look_back(model, solver):
    with pytest.raises(OviError, match="each lower than the one before"):
        _run(model, solver, (1.0, 0.5, 0.5, 0.0))
    _run(model, "euler", (1.0, 0.5, 0.5, 0.0))


def _run(model, solver, sigmas):
    latent, guider = tiny.empty_latent(), tiny.guider(model)
    return guider.sample(tiny.noise_for(latent), latent["samples"], sampler(solver), torch.tensor(sigmas))
