"""ComfyUI's NAGuidance on the text attention of both towers, against the formula of arXiv 2505.21179, section 3.2."""

from __future__ import annotations

import logging

import pytest
import tiny_ovi as tiny
import torch
from comfy.ldm.modules.attention import attention_pytorch
from comfy_extras.nodes_hypertile import HyperTile
from comfy_extras.nodes_nag import NAGuidance
from comfy_extras.nodes_pag import PerturbedAttentionGuidance
from ovi_native.nodes.sampling.guidance import OviGuidanceOptions
from ovi_native.ovi_core.network.layers import CrossAttention
from tiny_ovi import both_differ, finite, same

SCALE, ALPHA, TAU = 4.0, 0.3, 1.4


def with_nag(model, scale=SCALE, alpha=ALPHA, tau=TAU):
    return NAGuidance.execute(model, scale, alpha, tau).result[0]


def formula(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    """Z̃ = Z⁺ s − Z⁻ (s − 1), its L1 norm at most τ times that of Z⁺, mixed with Z⁺ by α."""
    extrapolated = positive * SCALE - negative * (SCALE - 1)
    ratio = extrapolated.abs().sum(-1, keepdim=True) / positive.abs().sum(-1, keepdim=True)
    bounded = extrapolated * torch.where(ratio > TAU, TAU / ratio, 1.0)
    return ALPHA * bounded + (1 - ALPHA) * positive


def unguided(model, **more):
    return tiny.guider(model, 1.0, 1.0, "0", **more)


def heads_apart(x):
    return x.unflatten(-1, (-1, 128)).transpose(1, 2)


def attention(q, k, v):
    """softmax(q kᵀ / √128) v, written out."""
    q, k, v = map(heads_apart, (q, k, v))
    return (torch.softmax(q @ k.transpose(-1, -2) / 128**0.5, -1) @ v).transpose(1, 2).flatten(-2)


def test_one_forward_is_the_formula_in_every_block_of_both_towers(model, monkeypatch):
    """Each text attention of the run, computed again from its query and both texts: with the stock node's numbers."""
    seen = []

    def written_out(self, x, text, other, scale, table, options, negative_text=None):
        q = self.norm_q(self.q(x))
        seen.append((x.shape[0], text[0].shape[1]))
        answer = formula(attention(q, *text), attention(q, *negative_text))
        if other is not None:
            from ovi_native.ovi_core.network.layers import rotate

            keys = self.other_keys(*other)
            answer = answer + attention(rotate(q, table), *keys)
        return self.o(answer)

    patched = with_nag(model)
    ours = tiny.run(unguided(patched), steps=2)
    monkeypatch.setattr(CrossAttention, "forward", written_out)
    theirs = tiny.run(unguided(patched), steps=2)
    assert seen == [(1, 512)] * (2 * 3 * 2)  # positive rows alone: steps, block pairs, towers
    assert same(ours, theirs, 1e-4)


def test_the_negative_prompt_acts_at_guidance_1_in_one_row_a_step(model):
    counted = tiny.Forwards(with_nag(model))
    ours = tiny.run(unguided(counted.model))
    assert counted.rows == [1] * tiny.STEPS
    assert both_differ(ours, tiny.run(unguided(model)), by=1e-3)
    other = [[tiny.text("another negative"), {}]]
    assert both_differ(ours, tiny.run(unguided(with_nag(model), negative=other)), by=1e-3)


@pytest.mark.parametrize("mild", [{"alpha": 0.0}, {"scale": 1.0}])
def test_without_strength_it_is_exact(model, mild):
    assert same(tiny.run(unguided(with_nag(model, **mild))), tiny.run(unguided(model)), 1e-5)


def test_the_stock_guider_runs_both_rows_and_the_patch_finds_them(model):
    """As in ComfyUI's other models: each row asks its own text, and the positive one is pushed away."""
    counted = tiny.Forwards(with_nag(model))
    out = tiny.run(tiny.stock_guider(counted.model, 1.0))
    assert counted.rows == [2] * tiny.STEPS
    assert finite(out)
    assert both_differ(out, tiny.run(tiny.stock_guider(model, 1.0)), by=1e-3)


def test_guided_it_acts_on_the_positive_prediction_alone(model):
    def first(patched):
        seen = tiny.Predictions(patched)
        tiny.run(tiny.guider(seen.model), steps=1)
        return seen.steps[0]

    with_it, without = first(with_nag(model)), first(model)
    assert same(with_it["negative"], without["negative"], 1e-5)
    assert both_differ(with_it["positive"], without["positive"], by=1e-3)


def test_a_row_of_the_batch_is_what_it_is_alone(model):
    """With the negative pass, skipped pairs and another contrast beside it."""
    options = OviGuidanceOptions.execute(modality_guidance=1.0).result[0]

    def positive(**more):
        seen = tiny.Predictions(with_nag(model))
        tiny.run(tiny.guider(seen.model, **more), steps=1)
        return seen.steps[0]["positive"]

    alone = positive(video_cfg=1.0, audio_cfg=1.0)
    assert same(positive(skip_layers="1"), alone)
    assert same(positive(skip_layers="1", guidance_options=options), alone)


def test_text_keys_that_are_not_kept_give_the_same(model, monkeypatch):
    kept = tiny.run(unguided(with_nag(model)))
    monkeypatch.setattr(type(model.model), "_may_keep_text_keys", lambda *args: False)
    assert same(tiny.run(unguided(with_nag(model))), kept)


def test_with_other_attention_of_comfyui_too(model):
    called = []

    def other(function, *args, **more):
        called.append(args[1].shape[1])
        return attention_pytorch(*args, **more)

    patched = with_nag(model)
    patched.model_options["transformer_options"]["optimized_attention_override"] = other
    assert same(tiny.run(unguided(patched), steps=1), tiny.run(unguided(with_nag(model)), steps=1))
    assert called.count(512) == 2 * 2 * 3  # positive and negative text


@pytest.mark.parametrize(
    ("patch", "named"),
    [
        (lambda model: PerturbedAttentionGuidance.execute(model, 3.0).result[0], "attn1 (replaced)"),
        (lambda model: HyperTile.execute(model, 256, 2, 0, False)[0], "attn1_patch, attn1_output_patch"),
    ],
)
def test_what_the_network_has_no_place_for_is_said_once(model, caplog, patch, named):
    with caplog.at_level(logging.WARNING):
        out = tiny.run(unguided(patch(model)))
    assert [record for record in caplog.messages if "changes nothing" in record and named in record]
    assert len([record for record in caplog.messages if "changes nothing" in record]) == 1
    assert finite(out)
