"""Stock samplers, guiders and schedules run Ovi: each of them with its effect on both parts of the joint latent."""

from __future__ import annotations

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import pytest
import tiny_ovi as tiny
import torch
from comfy.cli_args import LatentPreviewMethod
from comfy.nested_tensor import NestedTensor
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_custom_sampler import BasicGuider, BasicScheduler, KSamplerSelect
from comfy_extras.nodes_model_advanced import ModelSamplingSD3
from ovi_native.nodes.sampling.sampler import OviSampler
from tiny_ovi import both_differ, finite, same

import nodes


def ksampler(model, sampler: str, steps: int, scheduler: str = "simple", cfg: float = 1.0, latent=None) -> tuple:
    latent = latent or tiny.empty_latent()
    out = nodes.KSampler().sample(
        model, 1, steps, cfg, sampler, scheduler, tiny.positive(), tiny.negative(), latent, denoise=1.0
    )[0]
    return tuple(out["samples"].unbind())


# -- samplers -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exact(model):
    """Close to where every solver ends when its steps get smaller."""
    return ksampler(model, "euler", 80)


@pytest.mark.parametrize("scheduler", ["simple", "normal"])
@pytest.mark.parametrize("sampler", ["euler", "uni_pc", "dpmpp_2m"])
def test_ksampler_converges_in_both_parts(model, exact, sampler, scheduler):
    few, many = (ksampler(model, sampler, steps, scheduler) for steps in (8, 32))
    assert finite(few)
    for coarse, fine in zip(tiny.differences(few, exact), tiny.differences(many, exact), strict=True):
        assert fine < 0.5
        assert fine < 0.75 * coarse


@pytest.mark.parametrize("sampler", ["euler", "uni_pc", "dpmpp_2m"])
def test_ksampler_guides_both_parts(model, sampler):
    plain, guided = (ksampler(model, sampler, 4, cfg=cfg) for cfg in (1.0, 4.0))
    assert finite(guided)
    assert both_differ(guided, plain, by=0.05)


@pytest.mark.parametrize(("sampler", "tolerance"), [("euler", 1e-5), ("dpmpp_2m", 1e-5), ("uni_pc", 1e-2)])
def test_ksampler_returns_the_kept_first_frame(model, sampler, tolerance):
    """ComfyUI's uni_pc stops at sigma 0.001 and leaves that share of the noise."""
    latent = tiny.first_frame_kept(tiny.drawn_latent(7))
    before, after = latent["samples"].unbind()[0], ksampler(model, sampler, 4, cfg=4.0, latent=latent)[0]
    assert torch.allclose(after[:, :, 0], before[:, :, 0], atol=tolerance)
    assert not torch.allclose(after[:, :, 1:], before[:, :, 1:], atol=1.0)


def test_stock_euler_with_the_stock_guider_equals_the_packs_euler_with_equal_strengths(model):
    stock = tiny.run(tiny.stock_guider(model, 4.0), sampler=KSamplerSelect.execute("euler").result[0])
    own = tiny.run(tiny.guider(model, 4.0, 4.0, skip_layers=""))
    assert same(stock, own)


def test_the_packs_guider_drives_a_stock_sampler(model):
    stock = tiny.run(tiny.guider(model), sampler=KSamplerSelect.execute("euler").result[0])
    assert same(stock, tiny.run(tiny.guider(model)))


def test_basic_guider_equals_the_stock_guider_without_guidance(model):
    basic = BasicGuider.execute(model, tiny.positive()).result[0]
    assert same(tiny.run(basic), tiny.run(tiny.stock_guider(model, 1.0)))
    assert both_differ(tiny.run(basic), tiny.run(tiny.stock_guider(model, 4.0)))


@pytest.mark.parametrize("make", [tiny.stock_guider, lambda model, cfg: tiny.guider(model, cfg, cfg)])
def test_the_denoised_output_is_scaled_as_the_output(model, make):
    """The last step goes to sigma 0, where the state is the prediction itself."""
    output, denoised = tiny.run_both(make(model, 4.0))
    assert same(denoised["samples"], output["samples"])


def test_the_denoised_output_of_a_run_cut_short_differs_from_the_noisy_output(model, monkeypatch):
    whole = tiny.sigmas()
    monkeypatch.setattr(tiny, "sigmas", lambda *args: whole[:-1])
    output, denoised = tiny.run_both(tiny.guider(model))
    assert both_differ(denoised["samples"], output["samples"], by=0.01)
    assert finite(denoised["samples"].unbind())


def test_model_sampling_sd3_moves_the_sigmas_and_with_them_the_result(model):
    results = []
    for shift in (1.0, 8.0):
        shifted = ModelSamplingSD3().patch(model, shift)[0]
        sigmas = BasicScheduler.execute(shifted, "simple", 4, 1.0).result[0]
        levels = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0])
        assert torch.allclose(sigmas, shift * levels / (1 + (shift - 1) * levels), atol=1e-5)
        results.append(ksampler(shifted, "euler", 4))
    assert both_differ(*results, by=0.05)


def test_two_stages_of_ksampler_advanced_equal_one_run(model):
    settings = (3, 6, 4.0, "euler", "simple", tiny.positive(), tiny.negative())  # seed, steps, cfg, ...

    def stage(latent, add_noise, start, end, leftover):
        return nodes.KSamplerAdvanced().sample(model, add_noise, *settings, latent, start, end, leftover)[0]

    for batch in (1, 2):
        latent = tiny.empty_latent(batch)
        one = stage(latent, "enable", 0, 10000, "disable")["samples"]
        first = stage(latent, "enable", 0, 3, "enable")
        two = stage(first, "disable", 3, 10000, "disable")["samples"]
        assert both_differ(first["samples"], one, by=0.05)
        assert same(two, one)


# -- what goes on around a run ----------------------------------------------------------------------------------------


@pytest.fixture
def previews(monkeypatch):
    """What the server would send while sampling: (step, preview)."""
    seen: list = []
    monkeypatch.setattr(latent_preview.args, "preview_method", LatentPreviewMethod.Latent2RGB)
    monkeypatch.setattr(
        comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, preview, node_id=None: seen.append((value, preview))
    )
    return seen


def own_sampler(model, latent=None, **more) -> tuple:
    settings = {"seed": 1, "steps": 4, "video_cfg": 4.0, "audio_cfg": 3.0, "shift": 5.0, "solver": "unipc"}
    out = OviSampler.execute(
        model, tiny.positive(), tiny.negative(), latent or tiny.empty_latent(), skip_layers="1", **{**settings, **more}
    )
    return tuple(out.result[0]["samples"].unbind())


@pytest.mark.parametrize("sample", [lambda model: ksampler(model, "euler", 4), own_sampler])
def test_every_step_shows_a_preview_of_the_video(model, previews, sample):
    sample(model)
    assert [step for step, _ in previews] == [1, 2, 3, 4]
    for _, (kind, image, _) in previews:
        assert kind == "JPEG"
        assert image.size == (162, 128)  # 27 pixels for a latent cell of 96x64, and the strip of the sound
        darkest, brightest = image.convert("L").getextrema()
        assert brightest - darkest > 20


def test_an_interrupted_run_leaves_nothing_behind(model):
    whole = own_sampler(model)
    counted = tiny.Forwards(model)

    def interrupt(executor, *args, **more):
        if len(counted.rows) == 2:
            comfy.model_management.interrupt_current_processing()
        return executor(*args, **more)

    counted.model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "interrupt", interrupt)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        own_sampler(counted.model)
    assert len(counted.rows) == 2
    assert model.model.sampling_run is None
    assert same(own_sampler(model), whole, 0)


def item(batch: NestedTensor, i: int) -> NestedTensor:
    return NestedTensor([part[i : i + 1] for part in batch.unbind()])


@pytest.mark.parametrize("kept", [None, (True, True), (True, False)])
@pytest.mark.parametrize("solver", ["euler", "unipc"])
def test_a_batch_of_two_equals_two_runs_of_one(model, solver, kept):
    """In image-to-video each clip has a first frame, and a mask, of its own."""
    latent = tiny.empty_latent(2) if kept is None else tiny.first_frame_kept(tiny.drawn_latent(7, 2), kept)
    noise = tiny.noise_for(latent)

    together = tiny.run(tiny.guider(model), latent, noise, solver=solver)
    for i in range(2):
        single = {"samples": item(latent["samples"], i)}
        if kept is not None:
            single = tiny.first_frame_kept(single, (kept[i],))
        alone = tiny.run(tiny.guider(model), single, item(noise, i), solver=solver)
        assert same([part[i : i + 1] for part in together], alone)
    assert both_differ([part[:1] for part in together], [part[1:] for part in together], by=0.1)
