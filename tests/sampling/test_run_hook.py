"""Around one run: whatever ends it, the model is as before, and what later versions of ComfyUI pass goes through."""

from __future__ import annotations

import comfy.model_management
import pytest
import tiny_ovi as tiny
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_custom_sampler import KSamplerSelect, SamplerCustomAdvanced
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.latents import joint
from ovi_native.ovi_core.network.run_cache import SamplingRun
from ovi_native.ovi_core.sampling import comfyui, context_windows, run_hook, solvers
from ovi_native.ovi_core.sampling.guidance import Guidance, GuidanceOptions, TowerOptions
from ovi_native.ovi_core.sampling.guider import OviGuider
from ovi_native.ovi_core.sampling.sample import sample
from sampler_cases import each_sampler, ksampler, own_sampler
from tiny_ovi import GivenNoise, same


def clean(model) -> bool:
    """Whether nothing of a run is left on the model or on what ComfyUI previews it with."""
    return model.model.sampling_run is None and model.model.latent_format.sampling_run is None


def interrupted(*_, **__):
    raise comfy.model_management.InterruptProcessingException


def out_of_memory(*_, **__):
    raise comfy.model_management.OOM_EXCEPTION("out of memory")


def broken(*_, **__):
    raise ZeroDivisionError


ENDS = (comfy.model_management.InterruptProcessingException, comfy.model_management.OOM_EXCEPTION, ZeroDivisionError)
STAGES = (WrappersMP.OUTER_SAMPLE, WrappersMP.PREPARE_SAMPLING, WrappersMP.SAMPLER_SAMPLE, WrappersMP.DIFFUSION_MODEL)


@pytest.mark.parametrize("fail", [interrupted, out_of_memory, broken])
@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_ends_early_leaves_the_model_clean_and_the_next_one_right(model, stage, fail):
    whole = tiny.run(tiny.guider(model), tiny.first_frame_kept(tiny.drawn_latent(3)))
    failing = model.clone()
    failing.add_wrapper_with_key(stage, "fail", fail)
    with pytest.raises(ENDS):
        tiny.run(tiny.guider(failing), tiny.drawn_latent(4))
    assert clean(model)
    assert same(tiny.run(tiny.guider(model), tiny.first_frame_kept(tiny.drawn_latent(3))), whole, 0)


@each_sampler
def test_a_sampler_that_fails_in_a_step_leaves_the_model_clean(model, sample):
    failing = model.clone()
    failing.set_model_sampler_post_cfg_function(broken)
    with pytest.raises(ZeroDivisionError):
        sample(failing, tiny.empty_latent())
    assert clean(model)


def test_a_run_inside_a_run_gives_the_model_back_to_the_outer_one(model):
    ovi, outer, inner = model.model, SamplingRun(), SamplingRun()
    with ovi.sampling(outer):
        with ovi.sampling(inner):
            assert ovi.sampling_run is ovi.latent_format.sampling_run is inner
        assert ovi.sampling_run is ovi.latent_format.sampling_run is outer
    assert clean(model)


def test_a_latent_is_checked_once(model, monkeypatch):
    checked, check = [], joint.check_shapes
    monkeypatch.setattr(joint, "check_shapes", lambda shapes, input: checked.append(input) or check(shapes, input))
    latent = tiny.empty_latent()
    checked.clear()
    own_sampler(model, latent)
    assert checked == ["latent"]
    checked.clear()
    ksampler(model, latent)
    assert checked == ["latent_image"]


def test_what_later_versions_of_comfyui_pass_on_goes_through(model):
    """Further arguments of a run, of a step's callback and of a mask's function; and shapes that are not given."""
    seen = {}

    class Guider:
        model_patcher, model_options = model, {}

    class Executor:
        class_obj = Guider()

        def __call__(self, noise, latent, sampler, sigmas, mask, callback, disable, seed, *more, **named):
            seen.update(more=more, named=named)
            seen["callback"] = callback(0, latent, latent, 1, "later", also="later")
            return latent

    video, audio = tiny.drawn_latent(3)["samples"].unbind()
    packed, shapes = comfyui.pack_latents([video, audio])
    mask = torch.full_like(packed, 2.0**-18 * 1.5)  # held for half of the run
    callback = lambda *args, **named: (args[4:], named)  # noqa: E731
    result = run_hook.sample_hook(
        Executor(), packed, packed, None, None, mask, callback, True, 1, "later", latent_shapes=shapes, later=1
    )
    assert torch.equal(result, packed)
    assert seen["more"] == ("later",)
    assert seen["named"] == {"latent_shapes": shapes, "later": 1}
    assert seen["callback"] == (("later",), {"also": "later"})
    free = Guider.model_options["denoise_mask_function"]
    assert free(torch.tensor([0.01]), mask, extra_options={}, later=1).unique().tolist() == [1.0]

    alone = run_hook.sample_hook(Executor(), video, video, None, None, None, callback)
    assert torch.equal(alone, video)
    assert model.model.memory_required(video.shape, {}, memory_efficient_attention=True) > 0


def test_other_context_windows_stop_the_node_for_them_alone(model, monkeypatch):
    monkeypatch.setattr(comfyui, "WindowingState", object)
    with pytest.raises(OviError, match="Update Ovi native"):
        context_windows.with_context_windows(model, 3, 0.2, False)
    assert tiny.finite(tiny.run(tiny.guider(model), steps=1))


NAN = float("nan")
LEVELS = ([1.0], [1.0, NAN, 0.0], [float("inf"), 0.5, 0.0], [1.0, -0.5, 0.0], [[1.0, 0.0]])


@pytest.mark.parametrize("levels", LEVELS)
def test_noise_levels_of_no_run_are_named_before_the_first_step(model, levels):
    """By samplers of ComfyUI. One level alone is what Split Sigmas leaves at step 0: no clip would be left."""
    latent, sampler = tiny.empty_latent(), KSamplerSelect.execute("euler").result[0]
    given = GivenNoise(tiny.noise_for(latent)), tiny.guider(model), sampler, torch.tensor(levels), latent
    with pytest.raises(OviError, match="noise levels") as refused:
        SamplerCustomAdvanced.execute(*given)
    assert refused.value.input == "sigmas"


@pytest.mark.parametrize("solver", ["unipc", "dpm++"])
def test_the_references_solvers_begin_at_1(solver):
    with pytest.raises(OviError, match="numbers from 1 to 0"):
        solvers.sampler(solver).sampler_function(None, torch.ones(1, 1, 2), torch.tensor([2.0, 0.5, 0.0]))


@pytest.mark.parametrize("index", [[3], [0, 1, 2], 5])
def test_each_clip_has_one_number_of_noise(model, index):
    latent = {**tiny.empty_latent(2), "batch_index": index}
    with pytest.raises(OviError, match="one for each of its 2"):
        sample(model, tiny.positive(), tiny.negative(), Guidance(skip_layers=()), latent, "euler", tiny.sigmas(), 0)


@pytest.mark.parametrize("people", [3, [3], "two"])
def test_people_of_another_kind_are_named(model, people):
    """By guidance too, which looks for them first; none at all are none."""
    options = GuidanceOptions(*[TowerOptions(reference=1.0)] * 2)

    def run(given):
        guider = OviGuider(model, Guidance(skip_layers=(), options=options))
        guider.set_conds([[tiny.text("positive"), {"ovi_references": given}]], tiny.negative())
        return tiny.run(guider, steps=1)

    with pytest.raises(OviError, match="reference people"):
        run(people)
    assert same(run(None), run([]), 0)
