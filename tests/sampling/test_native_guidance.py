"""Guidance: what each strength, skipped layer and range does, and ComfyUI's conditioning nodes and hooks under it."""

from __future__ import annotations

import comfy.hooks
import comfy.model_patcher
import comfy.utils
import pytest
import tiny_ovi as tiny
import torch
from comfy_extras.nodes_apg import APG
from comfy_extras.nodes_cfg import CFGNorm, CFGZeroStar
from comfy_extras.nodes_custom_sampler import BasicGuider
from comfy_extras.nodes_hooks import SetModelHooksOnCond
from comfy_extras.nodes_model_advanced import RescaleCFG
from comfy_extras.nodes_slg import SkipLayerGuidanceDiT, SkipLayerGuidanceDiTSimple
from comfy_extras.nodes_tcfg import TCFG
from tiny_ovi import both_differ, finite, same

import nodes


def first_step(model, **more) -> dict:
    seen = tiny.Predictions(model)
    tiny.run(tiny.guider(seen.model, **more), steps=1)
    return seen.steps[0]


# -- strengths -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("video_cfg", "audio_cfg"), [(4.0, 3.0), (1.0, 3.0), (6.5, 1.0), (0.0, 2.0)])
def test_each_strength_acts_on_its_own_tower(model, video_cfg, audio_cfg):
    step = first_step(model, video_cfg=video_cfg, audio_cfg=audio_cfg)
    for i, strength in enumerate((video_cfg, audio_cfg)):
        positive, negative, guided = (step[name][i] for name in ("positive", "negative", "guided"))
        assert torch.allclose(guided, negative + strength * (positive - negative), atol=1e-5)
    assert both_differ(step["positive"], step["negative"])


def test_both_strengths_at_one_run_the_positive_prompt_alone(model):
    counted = tiny.Forwards(model)
    unguided = tiny.run(tiny.guider(counted.model, 1.0, 1.0))
    assert counted.rows == [1] * tiny.STEPS
    assert same(unguided, tiny.run(BasicGuider.execute(model, tiny.positive()).result[0]), 0)
    counted.rows.clear()
    tiny.run(tiny.guider(counted.model))
    assert counted.rows == [2] * tiny.STEPS


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (0.3, 1.0), (0.0, 0.7), (0.3, 0.7)])
def test_guidance_ends_and_begins_at_its_share_of_the_run(model, start, end):
    counted = tiny.Forwards(model)
    out = tiny.run(tiny.guider(counted.model, start_percent=start, end_percent=end), steps=5, solver="dpm++")
    assert counted.rows == [2 if start <= i / 5 <= end else 1 for i in range(5)]
    if (start, end) != (0.0, 1.0):
        assert both_differ(out, tiny.run(tiny.guider(model), steps=5, solver="dpm++"))


# -- skipped layers --------------------------------------------------------------------------------------------


def test_skipped_layers_change_the_negative_prediction_alone(model):
    whole = first_step(model, skip_layers="")
    assert same(first_step(model, skip_layers="0")["negative"], whole["negative"], 0)
    predictions = [first_step(model, skip_layers=layers) for layers in ("1", "2", "1, 2")]
    for step in predictions:
        assert same(step["positive"], whole["positive"])
        assert both_differ(step["negative"], whole["negative"], by=0.01)
    one, two, both = (step["negative"] for step in predictions)
    assert both_differ(one, two, by=0.01)
    assert both_differ(one, both, by=0.01)


def test_a_skipped_layer_leaves_the_tokens_of_the_negative_rows_as_they_were(model):
    seen = []

    def look(args, extra):
        out = extra["original_block"](args)
        seen.append((args["transformer_options"]["cond_or_uncond"], args["img"], out["img"]))
        return out

    patched = model.clone()
    patched.set_model_patch_replace(look, "dit", "double_block", 1)
    tiny.run(tiny.guider(patched, skip_layers=""), steps=1)
    tiny.run(tiny.guider(patched, skip_layers="1"), steps=1)
    (roles, _, whole), (_, _, positive_only) = seen
    assert [part.shape[0] for part in positive_only] == [1, 1]
    row = roles.index(0)
    assert same(positive_only, [part[row : row + 1] for part in whole])


# -- one batch or two ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [False, True])
def test_without_room_for_a_batch_both_prompts_run_one_after_the_other_with_the_same_result(model, monkeypatch, kept):
    latent = tiny.first_frame_kept(tiny.drawn_latent(5)) if kept else tiny.empty_latent()
    together = tiny.run(tiny.guider(model), latent)
    monkeypatch.setattr(comfy.model_patcher.ModelPatcher, "get_free_memory", lambda *args: 0)
    counted = tiny.Forwards(model)
    apart = tiny.run(tiny.guider(counted.model), latent)
    assert counted.rows == [1] * (2 * tiny.STEPS)
    assert sorted(map(tuple, counted.roles)) == [(0,)] * tiny.STEPS + [(1,)] * tiny.STEPS
    assert same(apart, together)


# -- ComfyUI's conditioning nodes -------------------------------------------------------------------------------


def other() -> list:
    return [[tiny.text("other", 20), {}]]


def test_combined_conditionings_are_averaged(model):
    combined = nodes.ConditioningCombine().combine(tiny.positive(), other())[0]
    both = first_step(model, positive=combined)
    one, two = (first_step(model, positive=text) for text in (tiny.positive(), other()))
    means = [(a + b) / 2 for a, b in zip(one["positive"], two["positive"], strict=True)]
    assert same(both["positive"], means)
    assert same(both["negative"], one["negative"])


def test_a_timestep_range_changes_the_prompt_on_the_way(model):
    ranges = nodes.ConditioningSetTimestepRange()
    early, late = (
        ranges.set_range(text, start, end)[0] for text, start, end in ((tiny.positive(), 0, 0.5), (other(), 0.5, 1))
    )
    seen = tiny.Predictions(model)
    switched = tiny.run(tiny.guider(seen.model, positive=early + late))
    first, second = (tiny.Predictions(model) for _ in range(2))
    before = tiny.run(tiny.guider(first.model))
    after = tiny.run(tiny.guider(second.model, positive=other()))
    assert same(seen.steps[0]["positive"], first.steps[0]["positive"])
    assert both_differ(seen.steps[-1]["positive"], first.steps[-1]["positive"])
    assert both_differ(switched, before)
    assert both_differ(switched, after)


def test_conditionings_are_averaged_and_zeroed(model):
    average = nodes.ConditioningAverage()
    same_text, mean = (average.addWeighted(tiny.positive(), other(), share)[0] for share in (1.0, 0.5))
    plain = tiny.run(tiny.guider(model))
    assert same(tiny.run(tiny.guider(model, positive=same_text)), plain)
    assert both_differ(tiny.run(tiny.guider(model, positive=mean)), plain)
    zeroed = nodes.ConditioningZeroOut().zero_out(other())[0]
    empty = [[torch.zeros(1, 1, tiny.SIZES["text_dim"]), {}]]
    assert same(tiny.run(tiny.guider(model, negative=zeroed)), tiny.run(tiny.guider(model, negative=empty)))
    assert both_differ(tiny.run(tiny.guider(model, negative=zeroed)), plain)


# -- hooks -----------------------------------------------------------------------------------------------------


def lora(strength: float = 1.0) -> dict:
    """A LoRA on the text keys of the video tower."""
    made = torch.Generator().manual_seed(4)
    key = "diffusion_model.blocks.{}.cross_attn.k.lora_{}.weight"
    shapes = {"A": (4, tiny.SIZES["dim"]), "B": (tiny.SIZES["dim"], 4)}
    return {
        key.format(i, side): strength * torch.randn(shape, generator=made) / 2
        for i in range(3)
        for side, shape in shapes.items()
    }


def hooked(conditioning: list, strength: float = 1.0) -> list:
    hooks = comfy.hooks.create_hook_lora(lora=lora(), strength_model=strength, strength_clip=0)
    return SetModelHooksOnCond().attach_hook(conditioning, hooks)[0]


def test_a_lora_hook_on_a_prompt_changes_that_prompt_alone(model):
    plain, with_hook = first_step(model), first_step(model, positive=hooked(tiny.positive()))
    assert both_differ(with_hook["positive"], plain["positive"])
    assert same(with_hook["negative"], plain["negative"])
    loaded = comfy.sd.load_lora_for_models(model, None, lora(), 1.0, 0)[0]
    assert same(with_hook["positive"], first_step(loaded)["positive"])
    assert same(first_step(model)["positive"], plain["positive"], 0)


def test_a_hook_that_changes_on_the_way_is_not_met_with_kept_text_keys(model):
    """A keyframe takes the LoRA away after half the run: from there on the prompt predicts as without it."""
    conditioning = hooked(tiny.positive())
    keyframes = comfy.hooks.HookKeyframeGroup()
    keyframes.add(comfy.hooks.HookKeyframe(strength=1.0, start_percent=0.0))
    keyframes.add(comfy.hooks.HookKeyframe(strength=0.0, start_percent=0.5))
    conditioning[0][1]["hooks"].set_keyframes_on_hooks(hook_kf=keyframes)
    changing, constant = tiny.Predictions(model), tiny.Predictions(model)
    changed = tiny.run(tiny.guider(changing.model, positive=conditioning))
    kept = tiny.run(tiny.guider(constant.model, positive=hooked(tiny.positive())))
    assert same(changing.steps[0]["positive"], constant.steps[0]["positive"])
    assert both_differ(changing.steps[-1]["positive"], constant.steps[-1]["positive"])
    assert both_differ(changed, kept)


# -- guidance of other nodes -------------------------------------------------------------------------------------


def test_another_nodes_way_to_join_the_predictions_keeps_both_strengths(model):
    """RescaleCFG with multiplier 0 is plain guidance; with more it brings each tower back to its positive's spread."""
    plain = first_step(model, video_cfg=4.0, audio_cfg=2.0)
    neutral, rescaled = (
        first_step(RescaleCFG().patch(model, share)[0], video_cfg=4.0, audio_cfg=2.0) for share in (0.0, 1.0)
    )
    assert same(neutral["guided"], plain["guided"])
    assert both_differ(rescaled["guided"], plain["guided"])
    counted = tiny.Forwards(RescaleCFG().patch(model, 0.0)[0])
    tiny.run(tiny.guider(counted.model, 1.0, 3.0))
    assert counted.rows == [2] * tiny.STEPS


PATCHES = {
    "CFGNorm": lambda model: CFGNorm.execute(model, 1.0),
    "CFGNorm before guidance": lambda model: CFGNorm.execute(model, 1.0, pre_cfg=True),
    "CFGZeroStar": lambda model: CFGZeroStar.execute(model),
    "APG": lambda model: APG.execute(model, 0.5, 5.0, 0.0),
    "TCFG": lambda model: TCFG.execute(model),
    "SkipLayerGuidanceDiT": lambda model: SkipLayerGuidanceDiT.execute(model, 2.0, 0.0, 1.0, double_layers="2"),
    "SkipLayerGuidanceDiTSimple": lambda model: SkipLayerGuidanceDiTSimple.execute(model, 0.0, 1.0, double_layers="2"),
}


@pytest.mark.parametrize("name", PATCHES)
def test_guidance_patches_of_the_host_act_on_both_towers(model, name):
    patched = PATCHES[name](model).result[0]
    for guide in (tiny.guider, tiny.stock_guider):
        out = tiny.run(guide(patched))
        assert finite(out)
        assert both_differ(out, tiny.run(guide(model)))


def test_skip_layer_guidance_of_the_host_pushes_away_from_the_skipped_prediction(model):
    """guided + scale (positive - positive without the layer), as its node defines it."""
    plain = first_step(model)
    without = first_step(model_without(model, 2))["positive"]
    seen = tiny.Predictions(SkipLayerGuidanceDiT.execute(model, 2.0, 0.0, 1.0, double_layers="2").result[0])
    tiny.run(tiny.guider(seen.model), steps=1)
    expected = [
        guided + 2.0 * (positive - skipped)
        for guided, positive, skipped in zip(plain["guided"], plain["positive"], without, strict=True)
    ]
    assert same(seen.steps[0]["guided"], expected)


def model_without(model, layer: int):
    patched = model.clone()
    patched.set_model_patch_replace(lambda args, extra: args, "dit", "double_block", layer)
    return patched
