"""The numbers of the reference: forwards, schedules, whole runs through the pack's nodes, the published keys."""

from __future__ import annotations

import json

import comfy.latent_formats
import comfy.sample
import numpy as np
import pytest
import torch
from comfy.nested_tensor import NestedTensor
from comfy_extras.nodes_custom_sampler import SamplerCustomAdvanced
from fusion_cases import (
    CASES,
    FORWARD_CASES,
    GOLDEN,
    MODES,
    SOLVER_CASES,
    Inputs,
    relative_error,
    results,
    write_model,
)
from ovi_native.nodes.conditioning import OviDualConditioning
from ovi_native.nodes.sampling.sampler import OviGuider, OviSampler, OviSamplerSelect, OviScheduler
from ovi_native.ovi_core.latents import denoise_mask, joint
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.model import checkpoint
from ovi_native.ovi_core.network import layers
from ovi_native.ovi_core.network.timesteps import TimestepShares
from ovi_native.ovi_core.network.transformer import OviConfig
from ovi_native.ovi_core.sampling import solvers

FORWARD_TOLERANCE, RUN_TOLERANCE = 2e-5, 5e-4


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(str(write_model(tmp_path_factory.mktemp("reference"))))


class GivenNoise:
    """A NOISE that is already there, for SamplerCustomAdvanced."""

    seed = 0

    def __init__(self, noise):
        self.noise = noise

    def generate_noise(self, latent):
        return self.noise


def first_frame_shares(case: dict) -> TimestepShares | None:
    tokens = torch.ones(1, case["T"], case["H"] * case["W"] // 4)
    tokens[:, 0] = 0
    return TimestepShares.of_mask(tokens.flatten(1), case["T"])


@pytest.mark.parametrize("kernel", [False, True], ids=["PyTorch's norm", "comfy_kitchen's norm"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FORWARD_CASES)
def test_one_forward_equals_the_reference(model, name, mode, kernel, monkeypatch):
    monkeypatch.setattr(layers, "FUSED_NORM", kernel)
    case = CASES[name]
    inputs = Inputs(case)
    video, shares, options = inputs.video.clone(), None, {}
    if mode == "i2v":
        video[:, :, :1] = inputs.image
        shares = first_frame_shares(case)
    texts = ("vneg", "aneg") if case.get("negative") else ("pos", "pos")
    if case.get("negative"):
        options = {"patches_replace": {"dit": {("double_block", case["slg_layer"]): lambda args, extra: args}}}
    with torch.no_grad():
        out_video, out_audio = model.model.diffusion_model(
            [video, inputs.audio],
            torch.tensor([case["t"]]),
            inputs.text(texts[0]),
            options,
            audio_context=inputs.text(texts[1]),
            video_shares=shares,
        )
    assert relative_error(out_video[0], results()[f"{name}.{mode}.video"]) <= FORWARD_TOLERANCE
    assert relative_error(out_audio[0].T, results()[f"{name}.{mode}.audio"]) <= FORWARD_TOLERANCE


@pytest.mark.parametrize("name", SOLVER_CASES)
def test_schedules_equal_the_reference(name):
    case = CASES[name]
    (sigmas,) = OviScheduler.execute(case["solver"], case["steps"], case["shift"]).result
    golden_sigmas, golden_timesteps = (results()[f"{name}.t2v.{part}"] for part in ("sigmas", "timesteps"))
    assert np.abs(sigmas.numpy() - golden_sigmas).max() <= 1e-6
    assert np.abs(solvers.schedule(case["solver"], case["steps"], case["shift"])[1] - golden_timesteps).max() <= 1e-6


@pytest.mark.parametrize("solver", ["unipc", "dpm++"])
def test_sigmas_cut_to_the_timesteps_of_the_reference_at_any_length(solver):
    for steps in range(1, 120):
        for shift in (1.0, 3.0, 5.0, 7.3):
            sigmas, timesteps = solvers.schedule(solver, steps, shift)
            assert ((sigmas[:-1] * 1000).floor().numpy() == timesteps).all(), (steps, shift)


def conditionings(inputs: Inputs):
    positive = [[inputs.text("pos"), {}]]
    negative = OviDualConditioning.execute([[inputs.text("vneg"), {}]], [[inputs.text("aneg"), {}]]).result[0]
    return positive, negative


def start(inputs: Inputs, mode: str) -> dict:
    """The LATENT a run starts from, in ComfyUI's (not normalised) units."""
    video, audio = torch.zeros_like(inputs.video), torch.zeros_like(inputs.audio)
    if mode == "t2v":
        return {"samples": joint.join(video, audio)}
    video[:, :, :1] = inputs.image
    mask = torch.ones(1, 1, *video.shape[2:])
    mask[:, :, 0] = 0
    video = comfy.latent_formats.Wan22().process_out(video)
    return denoise_mask.with_parts({"samples": None}, video, audio, mask)


def assert_equals_run(samples, name: str, mode: str) -> None:
    video, audio = samples.unbind()
    video = comfy.latent_formats.Wan22().process_in(video)
    assert relative_error(video[0], results()[f"{name}.{mode}.video"]) <= RUN_TOLERANCE
    assert relative_error(audio[0].T, results()[f"{name}.{mode}.audio"]) <= RUN_TOLERANCE


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SOLVER_CASES)
def test_a_run_through_guider_scheduler_and_sampler_select_equals_the_reference(model, name, mode):
    case = CASES[name]
    inputs = Inputs(case)
    guider = OviGuider.execute(
        model, *conditionings(inputs), case["video_cfg"], case["audio_cfg"], str(case["slg_layer"])
    ).result[0]
    sampler = OviSamplerSelect.execute(case["solver"]).result[0]
    sigmas = OviScheduler.execute(case["solver"], case["steps"], case["shift"]).result[0]
    noise = GivenNoise(NestedTensor([inputs.video, inputs.audio]))
    out = SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, start(inputs, mode)).result[0]
    assert_equals_run(out["samples"], name, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SOLVER_CASES)
def test_a_run_through_the_dual_tower_sampler_equals_the_reference(model, name, mode, monkeypatch):
    case = CASES[name]
    inputs = Inputs(case)
    noise = NestedTensor([inputs.video, inputs.audio])
    monkeypatch.setattr(comfy.sample, "prepare_noise", lambda *args: noise)
    out = OviSampler.execute(
        model,
        *conditionings(inputs),
        start(inputs, mode),
        seed=0,
        steps=case["steps"],
        video_cfg=case["video_cfg"],
        audio_cfg=case["audio_cfg"],
        shift=case["shift"],
        solver=case["solver"],
        skip_layers=str(case["slg_layer"]),
    ).result[0]
    assert_equals_run(out["samples"], name, mode)


def test_the_kept_first_frame_comes_back_exactly(model, monkeypatch):
    inputs = Inputs(CASES["sample_unipc"])
    latent = start(inputs, "i2v")
    out = OviSampler.execute(
        model, *conditionings(inputs), latent, seed=1, steps=4, video_cfg=4, audio_cfg=3, shift=5, solver="unipc",
        skip_layers="1",
    ).result[0]  # fmt: skip
    before, after = latent["samples"].unbind()[0], out["samples"].unbind()[0]
    assert torch.allclose(after[:, :, 0], before[:, :, 0], atol=1e-6)
    assert not torch.allclose(after[:, :, 1:], before[:, :, 1:], atol=1e-1)


def test_the_published_size_has_exactly_the_published_keys_and_shapes():
    expected = checkpoint.to_published_keys(checkpoint.expected_weights(OviConfig()))
    golden = json.loads((GOLDEN / "checkpoint_11b_keys.json").read_text())
    assert {key: list(weight.shape) for key, weight in expected.items()} == golden
    assert len(expected) == 2073
    assert sum(weight.numel() for weight in expected.values()) == 11_660_753_108
