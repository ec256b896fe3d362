"""Whole runs with reference people: the numbers of the engine of DreamID-Omni, through the pack's nodes."""

from __future__ import annotations

import comfy.latent_formats
import comfy.sample
import numpy as np
import pytest
import torch
from comfy.nested_tensor import NestedTensor
from comfy_extras.nodes_custom_sampler import SamplerCustomAdvanced
from fusion_cases import published_weights, relative_error, write_model
from identity_cases import CASES, SOLVER_CASES, PeopleInputs, results
from ovi_native.nodes.conditioning import OviDualConditioning
from ovi_native.nodes.sampling.guidance import OviGuidanceOptions
from ovi_native.nodes.sampling.sampler import OviGuider, OviSampler, OviSamplerSelect, OviScheduler
from ovi_native.ovi_core.latents import joint
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.network.references import KEY
from tiny_ovi import GivenNoise

RUN_TOLERANCE = 5e-4


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    case = CASES[SOLVER_CASES[0]]
    weights = published_weights(case["model"], case["seed"])
    return load_model(str(write_model(tmp_path_factory.mktemp("references"), weights)))


def conditionings(inputs: PeopleInputs):
    """Positive and negative with the case's people, faces in the VAE's own units."""
    people = [
        {**person, "face": None if person["face"] is None else comfy.latent_formats.Wan22().process_out(person["face"])}
        for person in inputs.people()
    ]
    positive = [[inputs.text("pos"), {}]]
    negative = OviDualConditioning.execute([[inputs.text("vneg"), {}]], [[inputs.text("aneg"), {}]]).result[0]
    return tuple([[text, {**options, KEY: people}] for text, options in part] for part in (positive, negative))


def reference_guidance(case: dict):
    options = None
    for tower in ("video", "audio"):
        options = OviGuidanceOptions.execute(
            tower, options=options, reference_guidance=case[f"{tower}_ref_cfg"]
        ).result[0]
    return options


def start(inputs: PeopleInputs) -> dict:
    return {"samples": joint.join(torch.zeros_like(inputs.video), torch.zeros_like(inputs.audio))}


def assert_equals_run(samples, name: str) -> None:
    video, audio = samples.unbind()
    video = comfy.latent_formats.Wan22().process_in(video)
    assert relative_error(video[0], results()[f"{name}.video"]) <= RUN_TOLERANCE
    assert relative_error(audio[0].T, results()[f"{name}.audio"]) <= RUN_TOLERANCE


@pytest.mark.parametrize("name", SOLVER_CASES)
def test_a_run_through_guider_scheduler_and_sampler_select_equals_the_reference(model, name):
    case = CASES[name]
    inputs = PeopleInputs(case)
    guider = OviGuider.execute(
        model,
        *conditionings(inputs),
        case["video_cfg"],
        case["audio_cfg"],
        "0",
        guidance_options=reference_guidance(case),
    ).result[0]
    sampler = OviSamplerSelect.execute(case["solver"]).result[0]
    sigmas = OviScheduler.execute(case["solver"], case["steps"], case["shift"]).result[0]
    assert np.abs(sigmas.numpy() - results()[f"{name}.sigmas"]).max() <= 1e-6
    noise = GivenNoise(NestedTensor([inputs.video, inputs.audio]))
    out = SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, start(inputs)).result[0]
    assert_equals_run(out["samples"], name)


@pytest.mark.parametrize("name", SOLVER_CASES)
def test_a_run_through_the_dual_tower_sampler_equals_the_reference(model, name, monkeypatch):
    case = CASES[name]
    inputs = PeopleInputs(case)
    monkeypatch.setattr(comfy.sample, "prepare_noise", lambda *args: NestedTensor([inputs.video, inputs.audio]))
    out = OviSampler.execute(
        model,
        *conditionings(inputs),
        start(inputs),
        seed=0,
        steps=case["steps"],
        video_cfg=case["video_cfg"],
        audio_cfg=case["audio_cfg"],
        shift=case["shift"],
        solver=case["solver"],
        skip_layers="0",
        guidance_options=reference_guidance(case),
    ).result[0]
    assert_equals_run(out["samples"], name)
