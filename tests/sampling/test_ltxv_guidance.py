"""ComfyUI's guidance nodes for LTX-AV on Ovi: they give what our own settings for the same give.

The nodes came after 0.30. Where this ComfyUI lacks them, what they do is done here, by their own source.
"""

from __future__ import annotations

import comfy.samplers
import pytest
import tiny_ovi as tiny
from comfy_extras import nodes_lt
from ovi_native.nodes.sampling.guidance import OviGuidanceOptions
from tiny_ovi import same


def modality_guidance(model, scale):
    if hasattr(nodes_lt, "LTXVModalityGuidance"):
        return nodes_lt.LTXVModalityGuidance.execute(model, scale, 0.0, 1.0).result[0]

    def post_cfg(args):
        apart = {**args["model_options"]["transformer_options"], "a2v_cross_attn": False, "v2a_cross_attn": False}
        options = {**args["model_options"], "transformer_options": apart}
        inputs = (args["model"], [args["cond"]], args["input"], args["sigma"], options)
        return args["denoised"] + (args["cond_denoised"] - comfy.samplers.calc_cond_batch(*inputs)[0]) * (scale - 1)

    model = model.clone()
    model.set_model_sampler_post_cfg_function(post_cfg)
    return model


@pytest.mark.parametrize("skip_layers", ["0", "1"])
def test_modality_guidance_at_scale_3_is_our_modality_guidance_of_2(model, skip_layers):
    options = OviGuidanceOptions.execute(modality_guidance=2.0).result[0]
    ours = tiny.run(tiny.guider(model, guidance_options=options, skip_layers=skip_layers))
    theirs = tiny.run(tiny.guider(modality_guidance(model, 3.0), skip_layers=skip_layers))
    assert same(theirs, ours)
    assert not same(theirs, tiny.run(tiny.guider(model, skip_layers=skip_layers)), 1e-3)


def test_modality_guidance_works_under_the_stock_guider(model):
    plain = tiny.run(tiny.stock_guider(model))
    assert tiny.both_differ(tiny.run(tiny.stock_guider(modality_guidance(model, 3.0))), plain)


@pytest.mark.skipif(not hasattr(nodes_lt, "LTXVDualCFGGuider"), reason="this ComfyUI has no LTXV Dual CFG Guider")
def test_the_dual_cfg_guider_is_ours_without_skipped_layers(model):
    guider = nodes_lt.LTXVDualCFGGuider.execute(model, tiny.positive(), tiny.negative(), 4.0, 3.0).result[0]
    assert same(tiny.run(guider), tiny.run(tiny.guider(model, 4.0, 3.0, skip_layers="0")))
