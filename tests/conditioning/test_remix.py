"""Remix: each tower back to a noise level of its own, under ComfyUI's samplers."""

from __future__ import annotations

import pytest
import tiny_ovi as tiny
import torch
from comfy_extras.nodes_differential_diffusion import DifferentialDiffusion
from ovi_native.nodes.remix import OviRemix
from ovi_native.nodes.sampling.sampler import OviSampler
from ovi_native.ovi_core.conditioning.remix import remix
from refusals import refusal
from tiny_ovi import same

import nodes

STEPS = 5


@pytest.fixture(scope="module")
def clip():
    return tiny.drawn_latent(5)


def remixed(latent, video: float, audio: float):
    return OviRemix.execute(latent, video, audio).result[0]


def run(model, latent, solver: str = "dpm++", **more):
    return tiny.run(tiny.guider(model), latent, tiny.noise_for(latent, 3), steps=STEPS, solver=solver, **more)


def stock(model, latent, name: str):
    """Through ComfyUI's KSampler."""
    out = nodes.KSampler().sample(model, 7, STEPS, 4.0, name, "simple", tiny.positive(), tiny.negative(), latent)
    return out[0]["samples"].unbind()


SAMPLERS = {
    "unipc": lambda model, latent: run(model, latent, "unipc"),
    "dpm++": lambda model, latent: run(model, latent, "dpm++"),
    "stock euler": lambda model, latent: stock(model, latent, "euler"),
    "stock dpmpp_2m": lambda model, latent: stock(model, latent, "dpmpp_2m"),
    "stock euler_ancestral": lambda model, latent: stock(model, latent, "euler_ancestral"),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_tower_goes_as_far_from_the_clip_as_its_share_says(model, clip, name):
    """0 keeps the sound bit for bit, 1 is the full run, and a little of the run goes less far than more of it."""
    given = clip["samples"].unbind()
    sounds = {share: SAMPLERS[name](model, remixed(clip, 1.0, share))[1] for share in (0.0, 0.2, 0.6, 1.0)}
    assert torch.equal(sounds[0.0], given[1])
    assert torch.equal(sounds[1.0], SAMPLERS[name](model, clip)[1])
    distances = [float((sounds[share] - given[1]).norm()) for share in sounds]
    assert 0 < distances[1] < distances[2]
    assert 0.1 < distances[1] / distances[3] < 0.9


def test_both_shares_alike_are_the_samplers_own_denoise(model, clip):
    """Held to the same level and then freed together: what a run over that last part of the schedule gives."""
    latent, denoise = OviRemix.execute(clip, 0.6, 0.6).result
    assert denoise == 0.6
    settings = {"seed": 3, "steps": 5, "video_cfg": 4.0, "audio_cfg": 3.0, "shift": 5.0, "skip_layers": "1"}
    conditionings = tiny.positive(), tiny.negative()

    def sampled(given, steps: int, share: float):
        more = {**settings, "steps": steps, "denoise": share, "solver": "euler"}
        return OviSampler.execute(model, *conditionings, given, **more).result[0]["samples"].unbind()

    partial = sampled(clip, 3, 0.6)
    assert same(sampled(latent, 3, 0.6), partial, 1e-6)
    assert min(tiny.differences(sampled(clip, 5, 1.0), partial)) > 0.05


def test_the_held_tower_is_seen_at_the_noise_level_of_each_step_and_is_free_afterwards(model, clip):
    seen = []

    def look(executor, x, timestep, *args, **more):
        seen.append((float(timestep[0]) / 1000, x[1][:1].clone(), more.get("audio_shares")))
        return executor(x, timestep, *args, **more)

    from comfy.patcher_extension import WrappersMP

    looked, noise = model.clone(), tiny.noise_for(clip, 3)
    looked.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "look", look)
    latent = remixed(clip, 1.0, 0.5)
    tiny.run(tiny.guider(looked), latent, noise, steps=4, solver="dpm++")
    on_the_way = [
        torch.allclose(x, level * noise.unbind()[1] + (1 - level) * clip["samples"].unbind()[1], atol=2e-3)
        for level, x, _ in seen
    ]
    assert on_the_way == [True, True, True, False]  # free from half of the run on, and so in the step after that
    assert all(shares is None for *_, shares in seen)


def test_what_the_mask_keeps_anyway_stays_kept(model, clip):
    latent = remixed(tiny.first_frame_kept(clip), 0.6, 0.0)
    video, audio = run(model, latent)
    given = clip["samples"].unbind()
    assert torch.equal(video[:, :, 0], given[0][:, :, 0])
    assert not torch.allclose(video[:, :, 1:], given[0][:, :, 1:], atol=1e-2)
    assert torch.equal(audio, given[1])


def test_items_of_a_batch_are_held_alike(model):
    pair = tiny.drawn_latent(5, batch=2)
    video, audio = run(model, remixed(pair, 0.2, 1.0))
    assert tiny.finite((video, audio))
    given = pair["samples"].unbind()[0]
    near, far = (float((a - given).norm()) for a in (video, run(model, pair)[0]))
    assert near < 0.9 * far


def test_differential_diffusion_beside_it_still_has_its_say(model, clip):
    """Its node thresholds the mask that this one has opened: nothing more is kept, nothing less."""
    both = DifferentialDiffusion.execute(model).result[0]
    latent = remixed(clip, 1.0, 0.4)
    assert same(run(both, latent), run(model, latent), 1e-5)


def test_a_share_out_of_range_or_nothing_to_start_from_is_refused(clip):
    node = "Ovi Remix"
    for share in (1.2, -0.1, float("nan")):
        expected = {"input": "video_denoise", "found": f"{share:g}"}
        refusal(OviRemix.execute, clip, share, 0.5, node=node, remedy="Set video_denoise to ", **expected)
        refusal(remix, clip, share, 0.5, node="", remedy="Set 0", **expected)
    refusal(
        OviRemix.execute, tiny.empty_latent(), 1.0, 0.5, node=node, input="latent", found="empty audio",
        remedy="audio_denoise to 1",
    )  # fmt: skip
