"""What other packs hang on a model: caches, block replacements, wrappers, another attention."""

from __future__ import annotations

import pytest
import tiny_ovi as tiny
import torch
from comfy.ldm.modules.attention import attention_pytorch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from tiny_ovi import both_differ, same


@pytest.fixture(scope="module")
def plain(model):
    return tiny.run(tiny.guider(model))


# -- caches ---------------------------------------------------------------------------------------------------------


class Blocks:
    """Counts how often the blocks really run, which a cache is there to spare."""

    def __init__(self, model, at: int = 0):
        self.model, self.runs = model.clone(), 0
        self.model.set_model_patch_replace(self._count, "dit", "double_block", at)

    def _count(self, args: dict, extra: dict) -> dict:
        self.runs += 1
        return extra["original_block"](args)


@pytest.mark.parametrize("node", [EasyCacheNode, LazyCacheNode])
def test_a_cache_spares_forwards_and_keeps_both_towers(model, node):
    idle, busy = (Blocks(node.execute(model, threshold, 0.1, 0.95, False).result[0]) for threshold in (0.0, 1.0))
    whole = tiny.run(tiny.guider(model), steps=12)
    assert same(tiny.run(tiny.guider(idle.model), steps=12), whole)
    assert idle.runs == 12
    cached = tiny.run(tiny.guider(busy.model), steps=12)
    assert busy.runs <= 9
    fewer = tiny.run(tiny.guider(model), steps=6)
    for off, off_with_fewer in zip(tiny.differences(cached, whole), tiny.differences(fewer, whole), strict=True):
        assert 0 < off < off_with_fewer  # a tower that was left out would be far off


def test_a_cache_does_not_write_into_the_latent_of_the_sampler(model):
    """In float32 the latent of the sampler reaches the transformer without a copy of ComfyUI's."""
    changed = []

    def look(executor, x, *args, **more):
        before = x.clone()
        out = executor(x, *args, **more)
        changed.append(not torch.equal(x, before))
        return out

    cached = EasyCacheNode.execute(model, 1.0, 0.1, 0.95, False).result[0]
    cached.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
    tiny.run(tiny.guider(cached), steps=8)
    assert changed == [False] * 8


# -- blocks ----------------------------------------------------------------------------------------------------------


def negate_sound(args: dict, extra: dict) -> dict:
    """A replacement of another pack: the block runs, then the audio tokens change their sign."""
    video, audio = extra["original_block"](args)["img"]
    return {"img": (video, -audio)}


def first_predictions(model, **more) -> dict[int, list]:
    """What the first forward predicts for each role: positive 0, negative 1."""
    seen: dict[int, list] = {}

    def look(executor, x, timestep, context, options, **kwargs):
        out = executor(x, timestep, context, options, **kwargs)
        roles = options["cond_or_uncond"]
        for role, *rows in zip(roles, *(part.chunk(len(roles)) for part in out), strict=True):
            seen.setdefault(role, rows)
        return out

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "look", look)
    tiny.run(tiny.guider(model, **more), steps=1)
    return seen


def test_a_block_replacement_sees_and_changes_the_tokens_of_both_towers(model, plain):
    shapes = []

    def look(args, extra):
        shapes.append([tuple(tokens.shape) for tokens in args["img"]])
        return negate_sound(args, extra)

    patched = model.clone()
    patched.set_model_patch_replace(look, "dit", "double_block", 0)
    assert both_differ(tiny.run(tiny.guider(patched)), plain)
    assert shapes == [[(2, 3 * 2 * 3, 128), (2, 10, 128)]] * tiny.STEPS


def test_a_block_replacement_and_a_skipped_layer_at_the_same_block_both_act(model):
    patched = model.clone()
    patched.set_model_patch_replace(negate_sound, "dit", "double_block", 1)
    both = first_predictions(patched, skip_layers="1")
    replaced, skipped = first_predictions(patched, skip_layers=""), first_predictions(model, skip_layers="1")
    assert same(both[0], replaced[0])
    assert same(both[1], skipped[1])
    assert both_differ(replaced[0], skipped[0])
    assert both_differ(replaced[1], skipped[1])


def test_a_patch_after_blocks_is_called_for_each_and_changes_the_tokens(model, plain):
    seen = []

    def patch(args):
        seen.append((args["block_index"], args["transformer_options"]["block_index"]))
        video, audio = args["img"]
        return {"img": (video * 1.1, audio * 1.1)}

    patched = model.clone()
    patched.set_model_patch(patch, "double_block")
    assert both_differ(tiny.run(tiny.guider(patched)), plain)
    assert seen == [(0, 0), (1, 1), (2, 2)] * tiny.STEPS


# -- wrappers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "calls"),
    [
        (WrappersMP.OUTER_SAMPLE, 1),
        (WrappersMP.SAMPLER_SAMPLE, 1),
        (WrappersMP.PREDICT_NOISE, tiny.STEPS),
        (WrappersMP.CALC_COND_BATCH, tiny.STEPS),
        (WrappersMP.APPLY_MODEL, tiny.STEPS),
        (WrappersMP.DIFFUSION_MODEL, tiny.STEPS),
    ],
)
def test_wrappers_of_other_packs_are_called_and_change_the_result(model, plain, kind, calls):
    made, factor = [], 1.0

    def wrapper(executor, *args, **more):
        made.append(kind)
        out = executor(*args, **more)
        return [part * factor for part in out] if isinstance(out, list) else out * factor

    wrapped = model.clone()
    wrapped.add_wrapper_with_key(kind, "other pack", wrapper)
    assert same(tiny.run(tiny.guider(wrapped)), plain, 0)
    assert len(made) == calls
    factor = 0.9
    assert both_differ(tiny.run(tiny.guider(wrapped)), plain)


def test_a_model_function_wrapper_stands_between_sampler_and_model(model, plain):
    seen, factor = [], 1.0

    def wrapper(apply_model, args):
        seen.append((args["input"].shape[0], args["cond_or_uncond"]))
        return apply_model(args["input"], args["timestep"], **args["c"]) * factor

    wrapped = model.clone()
    wrapped.set_model_unet_function_wrapper(wrapper)
    assert same(tiny.run(tiny.guider(wrapped)), plain, 0)
    assert seen == [(2, [1, 0])] * tiny.STEPS
    factor = 0.9
    assert both_differ(tiny.run(tiny.guider(wrapped)), plain)


def test_another_attention_is_used_everywhere(model, plain):
    calls, factor = 0, 1.0

    def override(function, *args, **more):
        nonlocal calls
        calls += 1
        return attention_pytorch(*args, **more) * factor

    patched = model.clone()
    patched.model_options["transformer_options"]["optimized_attention_override"] = override
    assert same(tiny.run(tiny.guider(patched)), plain)
    # in each tower: self-attention, text, the other tower
    assert calls == tiny.STEPS * 3 * 2 * 3
    factor = 0.9
    assert both_differ(tiny.run(tiny.guider(patched)), plain)
