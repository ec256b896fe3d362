"""Guidance over time and for each tower on its own, along the coupling, rescaled, with layers skipped in one tower."""

from __future__ import annotations

import pytest
import tiny_ovi as tiny
import torch
from comfy_extras.nodes_cfg import CFGNorm
from comfy_extras.nodes_easycache import EasyCacheNode
from comfy_extras.nodes_slg import SkipLayerGuidanceDiTSimple
from ovi_native.nodes.sampling.guidance import OviCoupling, OviGuidanceOptions
from ovi_native.nodes.sampling.sampler import OviSampler
from ovi_native.ovi_core.sampling.schedules import Interval, Schedule, share_of_run
from refusals import refusal
from tiny_ovi import both_differ, same

STEPS = 5


def options(**more):
    return OviGuidanceOptions.execute(**more).result[0]


def guider(model, video_cfg: float = 4.0, audio_cfg: float = 3.0, given=None, **more):
    return tiny.guider(model, video_cfg, audio_cfg, guidance_options=options(**more) if given is None else given)


def strengths(model, **more) -> list[list[float | None]]:
    """In every step the strength that video and audio were guided with: g in n + g (p - n); None without a negative."""
    seen, counted = tiny.Predictions(model), tiny.Forwards(model)
    seen.model.add_wrapper_with_key("diffusion_model", "rows", counted._count)
    tiny.run(guider(seen.model, **more), steps=STEPS, solver="dpm++")
    found = []
    for step, rows in zip(seen.steps, counted.rows, strict=True):
        away = [p - n for p, n in zip(step["positive"], step["negative"], strict=True)]
        moved = [g - n for g, n in zip(step["guided"], step["negative"], strict=True)]
        g = [float((m * a).sum() / (a * a).sum()) for m, a in zip(moved, away, strict=True)]
        found.append([round(value, 3) for value in g] if rows == 2 else [None, None])
    return found


# -- over time ------------------------------------------------------------------------------


def test_without_options_and_with_those_that_change_nothing_no_bit_differs(model):
    plain = tiny.run(tiny.guider(model))
    assert same(tiny.run(guider(model)), plain, 0)
    assert same(tiny.run(guider(model, schedule="points", points="0:4", tower="video")), plain, 1e-6)


def test_each_tower_has_its_own_interval_and_the_negative_is_skipped_where_none_needs_it(model):
    chain = options(tower="video", start_percent=0.3, end_percent=0.7)
    chain = options(tower="audio", start_percent=0.5, end_percent=0.9, options=chain)
    assert strengths(model, given=chain) == [[None] * 2, [None] * 2, [4.0, 1.0], [4.0, 3.0], [1.0, 3.0]]


@pytest.mark.parametrize(
    ("more", "video"),
    [
        ({"schedule": "linear"}, [4.0, 3.4, 2.8, 2.2, 1.6]),
        ({"schedule": "linear", "start_percent": 0.2, "end_percent": 0.6}, [1.0, 4.0, 2.5, 1.0, 1.0]),
        ({"schedule": "cosine"}, [4.0, 3.714, 2.964, 2.036, 1.286]),
        ({"schedule": "points", "points": "0:6, 0.4:2, 0.8:1"}, [6.0, 4.0, 2.0, 1.5, 1.0]),
    ],
)
def test_a_schedule_says_the_strength_of_every_step(model, more, video):
    """Steps at the shares 0, 0.2, 0.4, 0.6 and 0.8 of the run; the sound keeps its strength."""
    assert strengths(model, tower="video", **more) == [[pytest.approx(g, abs=2e-3), 3.0] for g in video]


def test_steps_in_which_both_strengths_are_one_cost_half(model):
    counted = tiny.Forwards(model)
    tiny.run(guider(counted.model, schedule="points", points="0.4:4, 0.5:1"), steps=STEPS, solver="dpm++")
    assert counted.rows == [2, 2, 2, 1, 1]


def test_the_all_in_one_sampler_takes_the_same_options(model):
    settings = {"seed": 3, "steps": 3, "video_cfg": 4.0, "audio_cfg": 3.0, "shift": 5.0, "solver": "euler"}
    settings |= {"skip_layers": "1", "guidance_options": options(schedule="linear")}
    inputs = model, tiny.positive(), tiny.negative(), tiny.empty_latent()
    ours = OviSampler.execute(*inputs, **settings).result[0]["samples"].unbind()
    noise = tiny.noise_for(tiny.empty_latent(), 3)
    assert same(ours, tiny.run(guider(model, schedule="linear"), noise=noise, steps=3), 1e-6)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_share_of_the_run_is_the_inverse_of_the_hosts_percent(model, share):
    sampling = model.get_model_object("model_sampling")
    assert share_of_run(sampling.percent_to_sigma(share), sampling) == pytest.approx(share, abs=1e-6)
    assert Schedule("linear").at(4.0, 2.0, Interval(0.2, 0.6)) == 1.0


# -- along the coupling ------------------------------------------------------------------------------


def alone(model):
    return OviCoupling.execute(model, 0.0, 0.0).result[0]


def first(model, run) -> dict:
    seen = tiny.Predictions(model)
    tiny.run(run(seen.model), steps=1)
    return seen.steps[0]


def test_modality_guidance_adds_the_way_from_towers_that_do_not_hear_each_other(model):
    """guided + m (p - a), with a from a run of its own without coupling."""
    plain, deaf = first(model, tiny.guider), first(alone(model), tiny.guider)
    chain = options(tower="audio", modality_guidance=2.0, options=options(tower="video", modality_guidance=0.5))
    step = first(model, lambda m: guider(m, given=chain))
    for i, m in enumerate((0.5, 2.0)):
        expected = plain["guided"][i] + m * (plain["positive"][i] - deaf["positive"][i])
        assert torch.allclose(step["guided"][i], expected, atol=2e-4)
        assert not torch.allclose(step["guided"][i], plain["guided"][i], atol=1e-2)
    assert same(step["positive"], plain["positive"])
    assert same(step["negative"], plain["negative"])


@pytest.mark.parametrize(("cfg", "roles"), [(4.0, [2, 1, 0]), (1.0, [2, 0])])
def test_it_costs_one_more_forward_only_where_it_is_not_zero_in_the_same_batch(model, cfg, roles):
    counted = tiny.Forwards(model)
    out = tiny.run(guider(counted.model, cfg, cfg, modality_guidance=1.5, end_percent=0.5), steps=4, solver="dpm++")
    assert counted.roles == [roles, roles, roles, [0]]
    assert both_differ(out, tiny.run(guider(model, cfg, cfg, end_percent=0.5), steps=4, solver="dpm++"))


def test_without_room_for_a_batch_and_beside_other_nodes_it_is_the_same(model, monkeypatch):
    together = tiny.run(guider(model, modality_guidance=1.5))
    with monkeypatch.context() as patch:
        patch.setattr("comfy.model_patcher.ModelPatcher.get_free_memory", lambda *args: 0)
        assert same(tiny.run(guider(model, modality_guidance=1.5)), together)
    simple = SkipLayerGuidanceDiTSimple.execute(model, 0.0, 1.0, double_layers="2").result[0]
    assert both_differ(tiny.run(guider(simple, modality_guidance=1.5)), tiny.run(guider(simple)))
    normed = CFGNorm.execute(model, 1.0).result[0]
    assert both_differ(tiny.run(guider(normed, modality_guidance=1.5)), tiny.run(guider(normed)))
    cached = EasyCacheNode.execute(model, 0.0, 0.1, 0.95, False).result[0]
    assert same(tiny.run(guider(cached, modality_guidance=1.5)), together)


def test_skipped_layers_do_not_touch_it(model):
    """The prediction without coupling is of the whole model, whatever the negative pass leaves out."""
    chain = options(modality_guidance=1.0)
    skipping, whole = (
        first(model, lambda m, layers=layers: tiny.guider(m, 1.0, 1.0, layers, guidance_options=chain))
        for layers in ("1", "")
    )
    assert same(skipping["guided"], whole["guided"], 0)


# -- rescale ------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_rescaling_brings_the_velocity_back_to_the_spread_of_the_positive_one(model, share):
    """Lin et al.: f guided std(p) / std(guided) + (1 - f) guided, here for the video alone."""
    plain = first(model, lambda m: guider(m, 8.0, 6.0))
    step = first(model, lambda m: guider(m, 8.0, 6.0, tower="video", rescale=share))
    noise = tiny.noise_for(tiny.empty_latent()).unbind()[0]
    guided, positive, ours = (noise - x[name][0] for x, name in
                              ((plain, "guided"), (plain, "positive"), (step, "guided")))  # fmt: skip
    expected = guided * (1 - share + share * positive.std() / guided.std())
    assert torch.allclose(ours, expected, atol=2e-3)
    assert not torch.allclose(ours, guided, atol=1e-2)
    assert torch.equal(step["guided"][1], plain["guided"][1])


# -- skipped layers ------------------------------------------------------------------------------


def test_a_layer_skipped_in_one_tower_is_skipped_there_alone(model):
    """The last pair: what the other tower predicts does not depend on it."""
    whole = first(model, lambda m: tiny.guider(m, skip_layers=""))["negative"]
    both = first(model, lambda m: tiny.guider(m, skip_layers="2"))["negative"]
    for tower, name in enumerate(("video", "audio")):
        chosen = options(tower=name, skip_layers="2")
        one = first(model, lambda m, chosen=chosen: tiny.guider(m, skip_layers="", guidance_options=chosen))
        assert torch.allclose(one["negative"][tower], both[tower], atol=1e-5)
        assert torch.allclose(one["negative"][1 - tower], whole[1 - tower], atol=1e-5)
        assert not torch.allclose(both[tower], whole[tower], atol=1e-2)
    alike = options(skip_layers="2")
    assert same(first(model, lambda m: tiny.guider(m, skip_layers="", guidance_options=alike))["negative"], both, 0)


# -- bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "found"),
    [("", "no points"), ("0-4", "0-4"), ("0:4, 2:1", "2:1"), ("0:99", "0:99"), ("0.5:2, 0.2:3", "0.2 after 0.5"),
     ("0:nan", "nan")],
)  # fmt: skip
def test_points_that_are_none_are_refused(points, found):
    refusal(
        OviGuidanceOptions.execute, schedule="points", points=points, node="Ovi Guidance Options", input="points",
        found=found, remedy="list of points",
    )  # fmt: skip


def test_layers_and_intervals_that_are_none_are_refused(model):
    refusal(
        OviGuidanceOptions.execute, start_percent=0.9, end_percent=0.1, node="Ovi Guidance Options",
        input="start_percent", found="0.9", remedy="Exchange",
    )  # fmt: skip
    refusal(
        lambda: guider(model, skip_layers="77"), node="Ovi Guider", input="skip_layers", found="77",
        remedy="list of block pairs",
    )  # fmt: skip
