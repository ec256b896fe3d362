"""Few-step schedules, as speed-up LoRAs and distilled weights want them: any sigmas, one forward a step."""

from __future__ import annotations

import folder_paths
import pytest
import tiny_ovi as tiny
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_custom_sampler import BasicGuider, KSamplerSelect, ManualSigmas, SamplerCustomAdvanced
from ovi_native.nodes.loading.lora import OviLoraLoader
from ovi_native.nodes.sampling.sampler import OviSampler, OviSamplerSelect, OviScheduler
from safetensors.torch import save_file

from nodes import KSampler

SIGMAS = "1.0, 0.757, 0.522, 0.0"
"""Noise levels of weights that are distilled to three steps."""


def all_in_one(model, cfg: float):
    settings = {"seed": 1, "steps": 3, "shift": 6.0, "solver": "unipc", "skip_layers": "1"}
    OviSampler.execute(
        model, tiny.positive(), tiny.negative(), tiny.empty_latent(), video_cfg=cfg, audio_cfg=cfg, **settings
    )


def in_parts(model, cfg: float):
    run(tiny.guider(model, cfg, cfg), OviSamplerSelect.execute("euler").result[0])


def stock(model, cfg: float):
    KSampler().sample(model, 1, 3, cfg, "euler", "simple", tiny.positive(), tiny.negative(), tiny.empty_latent())


def run(guider, sampler, sigmas: str = SIGMAS):
    """Video and audio of a run on sigmas that were typed in."""
    typed = ManualSigmas.execute(sigmas).result[0]
    latent = tiny.empty_latent()
    noise = tiny.GivenNoise(tiny.noise_for(latent))
    return SamplerCustomAdvanced.execute(noise, guider, sampler, typed, latent).result[0]["samples"].unbind()


@pytest.mark.parametrize("sample", [all_in_one, in_parts, stock])
def test_guidance_1_costs_one_forward_of_one_row_a_step(model, sample):
    counted = tiny.Forwards(model)
    sample(counted.model, 1.0)
    assert counted.rows == [1, 1, 1]
    assert counted.roles == [[0], [0], [0]]
    counted.rows.clear()
    sample(counted.model, 4.0)
    assert counted.rows == [2, 2, 2]


def seen_timesteps(model) -> tuple:
    """A MODEL, and the timesteps its transformer will be asked at."""
    seen: list[float] = []

    def look(executor, x, timestep, *args, **more):
        seen.append(float(timestep[0]))
        return executor(x, timestep, *args, **more)

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "timesteps", look)
    return model, seen


@pytest.mark.parametrize("name", ["unipc", "dpm++", "euler", "stock lcm", "stock euler"])
def test_sigmas_that_are_typed_in_are_the_steps_that_are_taken(model, name):
    model, seen = seen_timesteps(model)
    kind = name.removeprefix("stock ")
    sampler = (KSamplerSelect if name.startswith("stock") else OviSamplerSelect).execute(kind).result[0]
    result = run(BasicGuider.execute(model, tiny.positive()).result[0], sampler)
    assert seen == pytest.approx([1000.0, 757.0, 522.0], abs=1.0 if kind in ("unipc", "dpm++") else 1e-3)
    assert tiny.finite(result)
    assert all(float(part.std()) > 0.1 for part in result)


def test_on_typed_sigmas_the_pack_s_euler_is_the_stock_one(model):
    guider = BasicGuider.execute(model, tiny.positive()).result[0]
    ours, stock_one = (select.execute("euler").result[0] for select in (OviSamplerSelect, KSamplerSelect))
    assert tiny.same(run(guider, ours), run(guider, stock_one))


@pytest.mark.parametrize("solver", ["unipc", "dpm++", "euler"])
@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_every_solver_has_schedules_of_few_steps(model, solver, steps):
    model, seen = seen_timesteps(model)
    result = tiny.run(tiny.guider(model, 1.0, 1.0), steps=steps, solver=solver)
    assert len(seen) == steps
    assert tiny.finite(result)
    sigmas = OviScheduler.execute(solver, steps, 6.0).result[0]
    assert torch.all(sigmas.diff() < 0)
    assert sigmas[-1] == 0


def test_a_speed_up_lora_for_wan_acts_on_the_picture_s_tower_in_a_run_of_few_steps(model, tmp_path, monkeypatch):
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(tmp_path)], {".safetensors"}))
    dim = tiny.SIZES["dim"]
    weights = {
        f"diffusion_model.blocks.{i}.{layer}.{half}.weight": torch.randn(
            shape, generator=torch.Generator().manual_seed(i)
        )
        for i in range(tiny.SIZES["num_layers"])
        for layer in ("self_attn.q", "cross_attn.v")
        for half, shape in (("lora_A", (4, dim)), ("lora_B", (dim, 4)))
    }
    save_file(weights, tmp_path / "fast.safetensors")
    fast = OviLoraLoader.execute(model, "fast.safetensors", 0.5, 1.0).result[0]
    sampler = KSamplerSelect.execute("lcm").result[0]
    results = [run(BasicGuider.execute(m, tiny.positive()).result[0], sampler) for m in (fast, model)]
    assert tiny.finite(results[0])
    assert tiny.both_differ(*results)  # the sound hears the picture
