"""Reference people beside the rest: batches, locks, windows, caches, patches, hooks, one tower, wrong conditionings."""

from __future__ import annotations

import comfy.hooks
import comfy.model_management
import pytest
import tiny_ovi as tiny
import torch
from comfy_extras.nodes_easycache import EasyCacheNode
from native_cases import drawn
from ovi_native.nodes.conditioning import OviDualConditioning
from ovi_native.nodes.sampling.guidance import OviGuidanceOptions
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.latents import denoise_mask, joint
from ovi_native.ovi_core.model.reference_conds import NAMES
from ovi_native.ovi_core.network.references import KEY
from ovi_native.ovi_core.sampling.context_windows import with_context_windows

from nodes import ConditioningCombine, ConditioningSetTimestepRange, KSampler


def person(seed: int, batch: int = 1, face: bool = True, voice: int = 5) -> dict:
    """A person for the tiny clip of 96x64 px."""
    return {
        "face": drawn(batch, 48, 1, 4, 6, seed=seed) if face else None,
        "voice": drawn(batch, 20, voice, seed=seed + 100) if voice else None,
    }


def prompts(*people: dict) -> dict[str, list]:
    """Positive and negative, both with ``people``."""
    return {
        name: [[text, {**options, KEY: list(people)}] for text, options in conditioning]
        for name, conditioning in (("positive", tiny.positive()), ("negative", tiny.negative()))
    }


def options(video: float = 1.5, audio: float = 2.0):
    chained = OviGuidanceOptions.execute("video", reference_guidance=video).result[0]
    return OviGuidanceOptions.execute("audio", options=chained, reference_guidance=audio).result[0]


def one_of(people: dict, i: int) -> dict:
    return {name: part[i : i + 1] for name, part in people.items()}


def test_people_change_both_towers_and_each_person_another_way(model):
    runs = [tiny.run(tiny.guider(model, **prompts(*people))) for people in ((), (person(1),), (person(2),))]
    runs.append(tiny.run(tiny.guider(model, **prompts(person(1), person(2)))))
    for i, a in enumerate(runs):
        assert tiny.finite(a)
        for b in runs[:i]:
            assert tiny.both_differ(a, b)


def test_a_batch_of_two_with_different_people_is_each_alone(model):
    both, latent = person(3, batch=2), tiny.empty_latent(2)
    noise = tiny.noise_for(latent)
    together = tiny.run(tiny.guider(model, guidance_options=options(), **prompts(both)), latent, noise)
    for i in range(2):
        own = joint.join(*(part[i : i + 1] for part in noise.unbind()))
        alone = tiny.run(
            tiny.guider(model, guidance_options=options(), **prompts(one_of(both, i))), tiny.empty_latent(), own
        )
        assert tiny.same([part[i : i + 1] for part in together], alone)


def test_what_needs_no_conditioning_runs_none(model):
    for guidance, rows in ((None, 2), (options(1.5, 0), 3), (options(), 4)):
        forwards = tiny.Forwards(model)
        tiny.run(tiny.guider(forwards.model, guidance_options=guidance, **prompts(person(1))))
        assert set(forwards.rows) == {rows}
    forwards = tiny.Forwards(model)
    tiny.run(tiny.guider(forwards.model, guidance_options=options(), **prompts(person(1, voice=0))))
    assert set(forwards.rows) == {3}, "without a voice there is none to leave out"


def test_one_after_the_other_gives_what_one_batch_gives(model, monkeypatch):
    settings = {"guidance_options": options(), **prompts(person(1), person(2))}
    together = tiny.run(tiny.guider(model, **settings))
    forwards = tiny.Forwards(model)
    needed = type(model.model).memory_required

    def scarce(self, shape, *args, **more):
        return needed(self, shape, *args, **more) if shape[0] == 1 else 1e15

    monkeypatch.setattr(type(model.model), "memory_required", scarce)
    apart = tiny.run(tiny.guider(forwards.model, **settings))
    assert set(forwards.rows) == {1}
    assert tiny.same(together, apart)


def test_the_stock_sampler_reads_people_too(model):
    def made(*people):
        both = prompts(*people)
        latent = KSampler().sample(
            model, 1, 3, 4.0, "euler", "simple", both["positive"], both["negative"], tiny.empty_latent()
        )[0]
        return latent["samples"].unbind()

    assert tiny.both_differ(made(person(1)), made())


def test_people_travel_through_stock_conditioning_nodes(model):
    plain = prompts(person(1))
    expected = tiny.run(tiny.guider(model, **plain))
    positive = OviDualConditioning.execute(plain["positive"], tiny.positive()).result[0]
    assert tiny.same(tiny.run(tiny.guider(model, positive=positive, negative=plain["negative"])), expected)
    (ranged,) = ConditioningSetTimestepRange().set_range(plain["positive"], 0.0, 1.0)
    assert tiny.same(tiny.run(tiny.guider(model, positive=ranged, negative=plain["negative"])), expected)
    (combined,) = ConditioningCombine().combine(plain["positive"], plain["positive"])
    assert tiny.same(tiny.run(tiny.guider(model, positive=combined, negative=plain["negative"])), expected, 1e-4)


@pytest.mark.parametrize("part", ["video", "audio"])
def test_a_locked_part_comes_back_and_the_other_hears_the_people(model, part):
    latent = tiny.drawn_latent(4)
    video, audio = latent["samples"].unbind()
    masks = torch.ones_like(video[:, :1]), torch.ones_like(audio[:, :1])
    masks[part == "audio"].zero_()
    latent = denoise_mask.with_parts(latent, video, audio, *masks)
    runs = [tiny.run(tiny.guider(model, **prompts(*people)), latent) for people in ((), (person(1),))]
    kept, free = (0, 1) if part == "video" else (1, 0)
    assert torch.allclose(runs[0][kept], runs[1][kept], atol=1e-6)
    assert tiny.differences([runs[1][free]], [runs[0][free]])[0] > 1e-3


def test_people_are_in_every_window(model):
    seen = []

    def note(executor, x, timestep, context, transformer_options, **more):
        seen.append({name: more[name].shape[2] for name in NAMES})
        return executor(x, timestep, context, transformer_options, **more)

    windowed = with_context_windows(model, 4, 0.2, False)
    windowed.add_wrapper_with_key(tiny.WrappersMP.DIFFUSION_MODEL, "note", note)
    latent = tiny.empty_latent(seconds=1.6)
    # as many people as a window has frames would be cut like a clip, if they were taken for one
    out = tiny.run(tiny.guider(windowed, **prompts(person(1, voice=4), person(2, voice=4))), latent)
    assert tiny.finite(out)
    assert out[0].shape == latent["samples"].unbind()[0].shape
    assert len(seen) > tiny.STEPS
    assert all(one == {NAMES[0]: 2, NAMES[1]: 8} for one in seen)


def test_easycache_skips_steps_of_all_conditionings(model):
    cached = EasyCacheNode.execute(model, 10.0, 0.1, 0.95, False).result[0]
    forwards = tiny.Forwards(cached)
    out = tiny.run(tiny.guider(forwards.model, guidance_options=options(), **prompts(person(1))), steps=6)
    assert tiny.finite(out)
    assert len(forwards.rows) < 6


def test_an_interrupted_run_leaves_nothing_behind(model):
    expected = tiny.run(tiny.guider(model, **prompts(person(1))))
    broken = model.clone()

    def stop(*args, **more):
        raise comfy.model_management.InterruptProcessingException

    broken.add_wrapper_with_key(tiny.WrappersMP.DIFFUSION_MODEL, "stop", stop)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        tiny.run(tiny.guider(broken, **prompts(person(2))))
    assert tiny.same(tiny.run(tiny.guider(model, **prompts(person(1)))), expected, 0)


def test_one_tower_reads_what_it_has(model):
    # not zeros: later ComfyUI takes an empty latent without audio for one that lacks it
    video = {"samples": tiny.drawn_latent(1)["samples"].unbind()[0]}
    noise = tiny.noise_for(tiny.empty_latent()).unbind()[0]
    runs = [
        tiny.run_both(tiny.guider(model, **prompts(*people)), video, noise)[0]["samples"]
        for people in ((), (person(1),), (person(1, voice=0),))
    ]
    assert tiny.differences([runs[1]], [runs[0]])[0] > 1e-3
    # the voice's tokens are not there; the audio's time scale is not the video's affair
    assert tiny.same([runs[1]], [runs[2]])


@pytest.mark.parametrize(
    "people",
    [
        [person(1), person(2), person(3)],
        "people",
        [1],
        [{"face": drawn(1, 48, 1, 8, 8), "voice": None}],
        [{"face": drawn(1, 16, 1, 4, 6), "voice": None}],
        [{"face": drawn(1, 48, 2, 4, 6), "voice": None}],
        [{"face": None, "voice": drawn(1, 20)}],
        [{"face": None, "voice": drawn(1, 20, 4) * float("nan")}],
    ],
)
def test_other_peoples_conditionings_are_checked(model, people):
    conditioning = [[tiny.text("positive"), {KEY: people}]]
    with pytest.raises(OviError, match="Ovi Person"):
        tiny.run(tiny.guider(model, positive=conditioning))
