"""Each way by which a user samples, for a test that must hold under all of them."""

from __future__ import annotations

import pytest
import tiny_ovi as tiny
from comfy_extras.nodes_custom_sampler import KSamplerSelect
from ovi_native.nodes.sampling.sampler import OviGuider, OviSampler

import nodes


def ksampler(model, latent):
    nodes.KSampler().sample(model, 1, 2, 4.0, "euler", "simple", tiny.positive(), tiny.negative(), latent)


def stock_guider(model, latent):
    euler = KSamplerSelect.execute("euler").result[0]
    tiny.run_both(tiny.stock_guider(model), latent, sampler=euler, steps=2)


def own_guider(model, latent):
    tiny.run_both(tiny.guider(model), latent, steps=2)


def own_sampler(model, latent):
    settings = {"seed": 1, "steps": 2, "video_cfg": 4.0, "audio_cfg": 3.0, "shift": 5.0, "solver": "unipc"}
    OviSampler.execute(model, tiny.positive(), tiny.negative(), latent, skip_layers="1", **settings)


each_sampler = pytest.mark.parametrize("sample", [ksampler, stock_guider, own_guider, own_sampler])


def ksampled(model, positive, negative):
    return nodes.KSampler().sample(model, 0, 1, 1.0, "euler", "simple", positive, negative, tiny.empty_latent())


def ours(model, positive, negative):
    settings = {"steps": 1, "video_cfg": 3.0, "audio_cfg": 4.0, "shift": 5.0, "solver": "euler"}
    return OviSampler.execute(model, positive, negative, tiny.empty_latent(), seed=0, **settings)


def through_the_guider(model, positive, negative):
    return tiny.run(OviGuider.execute(model, positive, negative, 3.0, 4.0).result[0])


each_sampler_of_prompts = pytest.mark.parametrize("sample", [ksampled, ours, through_the_guider])
"""One step with given prompts."""
