"""One tower alone: what it makes, what it costs, and what the host's nodes and ours do with its latent."""

from __future__ import annotations

import comfy.cli_args
import latent_preview
import native_host as host
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_audio import VAEDecodeAudio
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from comfy_extras.nodes_lt import LTXVConcatAVLatent, LTXVSeparateAVLatent
from fusion_cases import published_weights, write_model
from native_cases import CPU, drawn, loaded, sample, small_vaes
from ovi_native.nodes.latents import EmptyOviLatent, OviImageToVideo
from ovi_native.nodes.locks import OviLockAudio, OviLockVideo
from ovi_native.ovi_core import latents
from ovi_native.ovi_core.loader import load_model
from refusals import refusal
from torch.utils.flop_counter import FlopCounterMode

from nodes import KSampler, KSamplerAdvanced, SetLatentNoiseMask, VAEDecode

VIDEO, AUDIO = "video only", "audio only"
each_tower = pytest.mark.parametrize("towers", [VIDEO, AUDIO])


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():  # as the host runs nodes
        yield


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    """The MODEL of the same weights whose towers answer each other with nothing: values of the fusion are 0."""
    weights = published_weights(host.SIZES)
    silent = {key: w * 0 if ".v_fusion." in key else w for key, w in weights.items()}
    assert any(".v_fusion." in key for key in silent)
    return load_model(str(write_model(tmp_path_factory.mktemp("apart"), silent)))


@pytest.fixture(scope="module")
def vaes():
    return small_vaes()


def empty(towers, batch=1, seconds=0.4):
    return EmptyOviLatent.execute(96, 64, seconds, batch, towers).result[0]


def part(samples, towers):
    """The part of a latent that is there."""
    return samples.unbind()[1] if towers == AUDIO else samples.unbind()[0] if samples.is_nested else samples


def alone(joint, towers):
    """That part of a joint latent, as a latent of its own."""
    video, audio = joint.unbind()
    return latents.join(video, None) if towers == VIDEO else latents.join(None, audio)


# -- what it makes and costs ----------------------------------------------------------------------------------------


@each_tower
@pytest.mark.parametrize("kept", [False, True])
def test_a_tower_alone_makes_what_it_makes_beside_one_it_does_not_look_at(model, apart, towers, kept):
    joint = host.drawn_latent(3) if kept else host.empty_latent()
    noise = host.noise_for(joint)
    own = {**joint, "samples": alone(joint["samples"], towers)}
    if kept:
        video, audio = joint["samples"].unbind()
        masks = torch.ones(1, 1, 3, 1, 1), torch.ones(1, 1, 10)
        masks[0][:, :, 0], masks[1][..., :4] = 0, latents.FOLLOW
        joint = latents.with_parts(joint, video, audio, *masks)
        own = latents.with_parts(own, *latents.parts(own["samples"], ""), masks[0] if towers == VIDEO else None, None)
        if towers == AUDIO:
            own = latents.with_parts(own, None, audio, audio_mask=masks[1])
    together = host.run(host.guider(apart), joint, noise)[towers == AUDIO]
    made = host.run_both(host.guider(model), own, alone(noise, towers))[0]["samples"]
    assert host.same([part(made, towers)], [together])
    assert not host.same([together], [host.run(host.guider(model), joint, noise)[towers == AUDIO]], 1e-2)


def flops(model, *given):
    x = [torch.zeros(shape) for shape in given]
    context = torch.zeros(1, 512, host.SIZES["text_dim"])
    with FlopCounterMode(display=False) as counter:
        loaded(host.with_pytorch_attention(model)).model.diffusion_model(x, torch.tensor([500.0]), context)
    return counter.get_total_flops()


def test_the_work_of_the_absent_tower_and_of_the_fusion_is_not_spent(model):
    video, audio, cell = (1, 48, 3, 4, 6), (1, 20, 10), (1, 48, 1, 1, 1)
    both, pictures, sound = flops(model, video, audio), flops(model, video), flops(model, cell, audio)
    dim, tokens, steps = host.SIZES["dim"], 3 * 2 * 3, 10
    projections = 2 * (tokens + steps) * 2 * dim * dim  # of key and value, 2 operations each
    attention = 2 * 2 * 2 * tokens * steps * dim  # scores and sums, both ways
    assert both - pictures - sound == host.SIZES["num_layers"] * (projections + attention)
    assert pictures < 0.75 * both
    assert sound < 0.75 * both
