"""Coupling: what each tower hears of the other, over blocks and over the run, and ComfyUI's own switches for it."""

from __future__ import annotations

import pytest
import tiny_ovi as tiny
import torch
from comfy.ldm.modules.attention import attention_pytorch
from comfy.patcher_extension import WrappersMP
from ovi_native.nodes.sampling.guidance import OviCoupling
from refusals import refusal
from tiny_ovi import both_differ, same

STEPS, LAYERS = tiny.STEPS, tiny.SIZES["num_layers"]


@pytest.fixture(scope="module")
def plain(model):
    return tiny.run(tiny.guider(model))


def coupled(model, **more):
    return OviCoupling.execute(model, **more).result[0]


def switched(model, **switches):
    """The MODEL with ComfyUI's own transformer options, as LTX-AV knows them."""
    model = model.clone()
    model.model_options["transformer_options"].update(switches)
    return model


def velocity(model, video: int, audio: int, options: dict | None = None):
    """One forward on inputs drawn from a seed for each tower."""

    def drawn(seed: int, *shape: int):
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    x = [drawn(video, 1, 48, 3, 4, 6), drawn(audio, 1, 20, 10)]
    with torch.no_grad():
        return model.model.diffusion_model(x, torch.tensor([500.0]), drawn(1, 1, 512, 64), options or {})


class Attentions:
    """Counts calls of the attention with the pytorch kernel."""

    def __init__(self, model):
        self.model, self.calls = model.clone(), 0
        self.model.model_options["transformer_options"]["optimized_attention_override"] = self._count

    def _count(self, function, *args, **more):
        self.calls += 1
        return attention_pytorch(*args, **more)


# -- strength ------------------------------------------------------------------------------------------------------


def test_strength_one_changes_no_bit(model, plain):
    assert same(tiny.run(tiny.guider(coupled(model))), plain, 0)


@pytest.mark.parametrize(
    ("strengths", "towers"),
    [({"video_to_audio": 0.0}, [1]), ({"audio_to_video": 0.0}, [0]), ({"video_to_audio": 1.7}, [1])],
)
def test_each_direction_is_scaled_on_its_own(model, strengths, towers):
    """In one step and with one block nothing comes back: the tower that hears as ever gives the very same."""
    one_block = {"layers": str(LAYERS - 1)}
    differences = tiny.differences(
        tiny.run(tiny.guider(coupled(model, **strengths, **one_block)), steps=1),
        tiny.run(tiny.guider(model), steps=1),
    )
    for tower in (0, 1):
        assert differences[tower] > 1e-4 if tower in towers else differences[tower] == 0


@pytest.mark.parametrize("strength", [0.0, 0.5, 2.0])
def test_the_other_towers_answer_is_added_as_often_as_the_strength_says(model, strength):
    """The other tower's value scaled by the weight of its projection is the same as its answer scaled."""
    scaled = model.clone()
    weights = {
        f"diffusion_model.{tower}blocks.{i}.cross_attn.v_fusion.{kind}": None
        for tower in ("", "audio_model.") for i in range(LAYERS) for kind in ("weight", "bias")
    }  # fmt: skip
    state = model.model.state_dict()
    scaled.add_patches({key: ("diff", (state[key] * (strength - 1),)) for key in weights}, 1.0, 1.0)
    expected = tiny.run(tiny.guider(scaled))
    ours = tiny.run(tiny.guider(coupled(model, video_to_audio=strength, audio_to_video=strength)))
    assert same(ours, expected, 1e-4)
    assert both_differ(ours, tiny.run(tiny.guider(model)), 1e-3)


def test_at_zero_the_other_tower_is_not_heard_and_its_work_is_not_done(model):
    deaf = coupled(model, video_to_audio=0.0)
    audio = tiny.run(tiny.guider(deaf))[1]
    other = tiny.noise_for(tiny.empty_latent(), 1)
    other = tiny.NestedTensor([torch.randn_like(other.unbind()[0]), other.unbind()[1]])
    assert torch.equal(audio, tiny.run(tiny.guider(deaf), noise=other)[1])
    assert not torch.equal(tiny.run(tiny.guider(model))[1], tiny.run(tiny.guider(model), noise=other)[1])
    whole, half, none = (
        Attentions(m) for m in (model, deaf, coupled(deaf, audio_to_video=0.0))
    )  # self-attention and text in both towers, and what is left of the other two
    for counted, kinds in ((whole, 6), (half, 5), (none, 4)):
        tiny.run(tiny.guider(counted.model))
        assert counted.calls == STEPS * LAYERS * kinds


# -- blocks and time -----------------------------------------------------------------------------------------------


def test_layers_are_a_part_of_all_and_nodes_multiply(model):
    zero = {"video_to_audio": 0.0, "audio_to_video": 0.0}
    all_of_them = tiny.run(tiny.guider(coupled(model, **zero)))
    chained = coupled(coupled(model, **zero, layers="0-1"), **zero, layers="2")
    assert same(tiny.run(tiny.guider(chained)), all_of_them, 0)
    assert both_differ(tiny.run(tiny.guider(coupled(model, **zero, layers="1"))), all_of_them)
    halves = coupled(coupled(model, video_to_audio=0.5), video_to_audio=4.0)
    assert same(tiny.run(tiny.guider(halves)), tiny.run(tiny.guider(coupled(model, video_to_audio=2.0))), 0)


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.5), (0.5, 1.0), (0.3, 0.7)])
def test_it_begins_and_ends_at_its_share_of_the_run(model, start, end):
    counted = Attentions(coupled(model, video_to_audio=0.0, start_percent=start, end_percent=end))
    per_step = []

    def look(executor, *args, **more):
        before = counted.calls
        out = executor(*args, **more)
        per_step.append((counted.calls - before) // LAYERS)
        return out

    counted.model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "look", look)
    tiny.run(tiny.guider(counted.model), steps=5, solver="dpm++")
    assert per_step == [5 if start <= i / 5 <= end else 6 for i in range(5)]


# -- ComfyUI's switches, and other guiders ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("switch", "strengths"),
    [("a2v_cross_attn", {"audio_to_video": 0.0}), ("v2a_cross_attn", {"video_to_audio": 0.0})],
)
def test_the_hosts_switches_mean_what_they_mean_for_ltx(model, plain, switch, strengths):
    off = tiny.run(tiny.guider(switched(model, **{switch: False})))
    assert same(off, tiny.run(tiny.guider(coupled(model, **strengths))), 0)
    assert same(tiny.run(tiny.guider(switched(model, **{switch: True}))), plain, 0)
    towers = velocity(model, 2, 3), velocity(model, 2, 4), velocity(model, 5, 3)
    alone = [velocity(model, *seeds, {switch: False}) for seeds in ((2, 3), (2, 4), (5, 3))]
    deaf, changed = (0, 1) if switch == "a2v_cross_attn" else (1, 2)
    assert torch.equal(alone[0][deaf], alone[changed][deaf])
    assert not torch.equal(towers[0][deaf], towers[changed][deaf])


def test_it_works_under_the_hosts_own_guider_and_a_batch(model):
    deaf = coupled(model, video_to_audio=0.0)
    assert tiny.differences(tiny.run(tiny.stock_guider(deaf)), tiny.run(tiny.stock_guider(model)))[1] > 1e-3
    latent = tiny.empty_latent(batch=2)
    assert tiny.differences(tiny.run(tiny.guider(deaf), latent), tiny.run(tiny.guider(model), latent))[1] > 1e-3


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", ["", "most", "3", "0-3", "1-2-3", "-1"])
def test_layers_that_are_none_are_refused(model, layers):
    refusal(
        OviCoupling.execute, model, layers=layers, node="Ovi Coupling", input="layers", found=f"'{layers}'",
        remedy="list of block pairs",
    )  # fmt: skip


def test_an_interval_that_ends_before_it_begins_is_refused(model):
    refusal(
        OviCoupling.execute, model, start_percent=0.6, end_percent=0.4, node="Ovi Coupling", input="start_percent",
        found="0.6", remedy="Exchange",
    )  # fmt: skip
