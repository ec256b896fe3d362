"""Ovi Speed: which forwards run, what stands for those that do not, and what it goes together with."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import tiny_ovi as tiny
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_custom_sampler import DualCFGGuider, KSamplerSelect
from comfy_extras.nodes_easycache import EasyCacheNode
from comfy_extras.nodes_slg import SkipLayerGuidanceDiTSimple
from fusion_cases import published_weights, write_model
from ovi_native.nodes.sampling.guidance import OviGuidanceOptions
from ovi_native.nodes.sampling.speed import OviSpeed
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.latents import denoise_mask
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.model import comfyui as model_comfyui
from ovi_native.ovi_core.network.references import KEY as PEOPLE
from ovi_native.ovi_core.sampling import comfyui
from ovi_native.ovi_core.sampling.model_patches import with_loop
from ovi_native.ovi_core.sampling.shortcuts import step_cache
from ovi_native.ovi_core.sampling.shortcuts.speed import PRESETS, with_shortcuts
from ovi_native.ovi_core.story.model_fingerprint import identity
from tiny_ovi import both_differ, differences, finite, same

STEPS = 10
MINI = Path(__file__).parents[2] / "models" / "ovi-mini" / "diffusion_models" / "ovi_mini.safetensors"


def speed(model, preset="custom", step_cache=0.0, **more):
    return OviSpeed.execute(model, preset, step_cache=step_cache, **more).result[0]


def run(model, guider=tiny.guider, latent=None, steps=STEPS, **more):
    return tiny.run(guider(model), latent, steps=steps, **more)


def counted(model, **more):
    """The run's result, and the rows of each forward."""
    forwards = tiny.Forwards(model)
    return run(forwards.model, **more), forwards.rows


def euler():
    return KSamplerSelect.execute("euler").result[0]


# -- exact ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guider", [tiny.guider, tiny.stock_guider])
def test_exact_is_the_same_to_the_bit(model, guider):
    assert same(run(speed(model, "exact"), guider), run(model, guider), 0)
    assert same(run(speed(model), guider), run(model, guider), 0)


def test_a_preset_ignores_the_parts(model):
    given = {"step_cache": 1.0, "negative_every": 10, "guidance_end_percent": 0.0}
    assert same(run(speed(model, "exact", **given)), run(model), 0)
    assert identity(speed(model, "balanced", **given)) == identity(speed(model, "balanced"))
    assert identity(speed(model, "balanced")) != identity(speed(model, "fast"))
    assert identity(speed(model, "exact")) == identity(model)


def test_other_models_are_refused():
    with pytest.raises(OviError, match="an Ovi model"):
        with_shortcuts(type("Patcher", (), {"model": object()})(), PRESETS["fast"])


# -- the negative pass in some steps ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "rows"),
    [(1, [2] * 10), (2, [2, 2, 1, 2, 1, 2, 1, 2, 1, 2]), (4, [2, 2, 1, 1, 1, 2, 1, 1, 1, 2])],
)
@pytest.mark.parametrize("guider", [tiny.guider, tiny.stock_guider])
def test_the_negative_pass_runs_in_every_so_manieth_step_of_the_middle(model, guider, every, rows):
    out, ran = counted(speed(model, negative_every=every), guider=guider)
    assert ran == rows
    assert finite(out)
    if every > 1:
        assert both_differ(out, run(model, guider), by=1e-6)


def test_between_two_the_difference_goes_on_along_a_line(model):
    """From the predictions of the steps alone: velocities (x - clean) / sigma, whose differences lie on a line."""
    seen, levels = tiny.Predictions(speed(model, negative_every=2)), tiny.sigmas("euler", STEPS).tolist()
    run(seen.model)

    def difference(step, part):
        values = seen.steps[step]
        return (values["negative"][part] - values["positive"][part]) / levels[step]

    for part in (0, 1):
        for step in (4, 6, 8):
            before, last = difference(step - 3, part), difference(step - 1, part)
            slope = (last - before) / (levels[step - 1] - levels[step - 3])
            line = last + slope * (levels[step] - levels[step - 1])
            assert (difference(step, part) - line).norm() <= 1e-4 * line.norm()
            assert (last - before).norm() > 1e-3 * last.norm()


def test_contrasts_are_kept_with_it(model):
    options = OviGuidanceOptions.execute(modality_guidance=1.0).result[0]

    def guider(model):
        return tiny.guider(model, guidance_options=options)

    assert counted(model, guider=guider)[1] == [3] * STEPS
    out, rows = counted(speed(model, negative_every=2), guider=guider)
    assert rows == [3, 3, 1, 3, 1, 3, 1, 3, 1, 3]
    assert finite(out)


def test_after_the_end_of_guidance_the_positive_prompt_runs_alone(model):
    """As with the interval of Ovi's guider."""
    out, rows = counted(speed(model, guidance_end_percent=0.5))
    interval = counted(model, guider=lambda model: tiny.guider(model, end_percent=0.5))
    assert rows == interval[1] == sorted(rows, reverse=True)
    assert set(rows) == {1, 2}
    assert same(out, interval[0])


def test_an_unknown_guider_computes_everything_and_says_so(model, caplog):
    def guider(model):
        texts = tiny.positive(), [[tiny.text("middle"), {}]], tiny.negative()
        return DualCFGGuider.execute(model, *texts, 4.0, 3.0, "regular").result[0]

    with caplog.at_level(logging.WARNING):
        ours = run(speed(model, negative_every=4), guider)
    assert same(ours, run(model, guider), 0)
    assert sum("another kind" in message for message in caplog.messages) == 1


# -- steps without a forward -----------------------------------------------------------------------------------------


def test_a_skipped_step_carries_the_velocity_on_along_a_line(model, monkeypatch):
    """Euler's own steps show the velocities: x goes by v (sigma' - sigma)."""
    path, levels = [], tiny.sigmas("euler", STEPS).tolist()

    def note(executor, x, sigma, *args, **more):
        path.append(x.clone())
        return executor(x, sigma, *args, **more)

    noted = model.clone()
    noted.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "note", note)
    monkeypatch.setattr(step_cache, "_rates", lambda *args: (1e-9,))
    rows = counted(speed(noted, step_cache=0.1), sampler=euler())[1]
    assert rows == [2] * 4  # 0 and 1; 2, in which the middle begins; and 9, the last
    velocity = [(path[i + 1] - path[i]) / (levels[i + 1] - levels[i]) for i in range(STEPS - 1)]
    slope = (velocity[2] - velocity[1]) / (levels[2] - levels[1])
    for step in (3, 5, 8):
        line = velocity[2] + slope * (levels[step] - levels[2])
        assert (velocity[step] - line).norm() <= 1e-3 * line.norm()


def test_a_higher_threshold_skips_more_and_is_further_off(model):
    exact = run(model, steps=20)
    some = [counted(speed(model, step_cache=threshold), steps=20) for threshold in (0.3, 1.0)]
    rows = [len(rows) for _, rows in some]
    errors = [max(differences(out, exact)) for out, _ in some]
    assert 20 >= rows[0] > rows[1]
    assert errors[0] < errors[1]


def locked(latent, audio: bool):
    """The LATENT with one tower masked, which the model sees clean."""
    video, sound = latent["samples"].unbind()
    masks = [torch.ones_like(video[:, :1]), torch.ones_like(sound[:, :1])]
    masks[int(audio)] *= 0
    return denoise_mask.with_parts(latent, video, sound, *masks)


@pytest.mark.parametrize("audio", [False, True])
def test_a_locked_tower_neither_holds_the_steps_nor_changes(model, audio):
    latent = locked(tiny.drawn_latent(3), audio)
    rates = []
    original = step_cache._rates
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_cache, "_rates", lambda *args: rates.append(original(*args)) or rates[-1])
        out, rows = counted(speed(model, step_cache=1.0), latent=latent)
    assert len(rows) < STEPS
    assert all(rate[int(audio)] == 0 < rate[1 - int(audio)] for rate in rates)
    assert torch.equal(out[int(audio)], [*latent["samples"].unbind()][int(audio)])


# -- with everything else --------------------------------------------------------------------------------------------

WITH_IT = {"step_cache": 0.1, "negative_every": 3}


def people():
    person = {"face": torch.ones(1, 48, 1, 4, 6), "voice": torch.ones(1, 20, 3)}
    return [[text, {**given, PEOPLE: [person]}] for text, given in tiny.positive()]


def with_people(model):
    options = OviGuidanceOptions.execute(reference_guidance=1.0).result[0]
    return tiny.guider(model, positive=people(), guidance_options=options)


def with_lora(model):
    model = model.clone()
    key = "diffusion_model.blocks.1.ffn.0.weight"
    change = torch.ones_like(dict(model.model.named_parameters())[key].float()) * 0.01
    assert model.add_patches({key: (change,)}, 1.0)
    return model


TOGETHER = {
    "a start image": {"latent": lambda: tiny.first_frame_kept(tiny.drawn_latent(3))},
    "a locked video": {"latent": lambda: locked(tiny.drawn_latent(3), False)},
    "reference people": {"guider": with_people},
    "a LoRA": {"model": with_lora},
    "a loop": {"model": with_loop},
    "windows": {"model": lambda model: tiny.windowed(model, 4, 2), "latent": lambda: tiny.empty_latent(seconds=1.0)},
    "two clips": {"latent": lambda: tiny.empty_latent(2)},
    "skip-layer guidance": {"model": lambda m: SkipLayerGuidanceDiTSimple.execute(m, 0.0, 1.0, "1", "").result[0]},
    "a sampler of two predictions a step": {"sampler": lambda: KSamplerSelect.execute("heun").result[0]},
    "UniPC": {"solver": "unipc"},
}


@pytest.mark.parametrize("what", TOGETHER)
def test_it_goes_together_with(model, what, monkeypatch):
    """In every other step of the middle without a forward, whatever the tiny network's velocities do."""
    monkeypatch.setattr(
        step_cache.StepCache,
        "_may_skip",
        lambda cache, run, kept, level: run.in_middle and kept.slope is not None and run.step % 2 == 1,
    )
    given = TOGETHER[what]
    changed = given.get("model", lambda model: model)(model)
    more = {"guider": given.get("guider", tiny.guider), "latent": given.get("latent", tiny.empty_latent)()}
    more |= {"sampler": given["sampler"]()} if "sampler" in given else {}
    more |= {"solver": given["solver"]} if "solver" in given else {}
    all_rows = counted(changed, **more)[1]
    out, rows = counted(speed(changed, **WITH_IT), **more)
    assert sum(rows) < sum(all_rows)
    assert finite(out)
    given_latent, mask = more["latent"]["samples"].unbind(), more["latent"].get("noise_mask")
    if mask is not None:
        for part, whole, free in zip(out, given_latent, mask.unbind(), strict=True):
            masked = (free == 0).expand_as(whole)
            assert torch.equal(part[masked], whole[masked])


def test_windows_keep_a_difference_each(model):
    """Windows that do not overlap are clips of their own: so is what is kept of them."""
    windowed = tiny.windowed(speed(model, negative_every=2), 24, 0, "batched")
    made = torch.Generator().manual_seed(1)
    noise = [torch.randn(1, 48, 48, 4, 6, generator=made), torch.randn(1, 20, 250, generator=made)]
    whole = run(windowed, latent={"samples": tiny.NestedTensor([part * 0 for part in noise])},
                noise=tiny.NestedTensor(noise), steps=5)  # fmt: skip
    half = [noise[0][:, :, :24], noise[1][..., :125]]
    alone = run(speed(model, negative_every=2), latent={"samples": tiny.NestedTensor([part * 0 for part in half])},
                noise=tiny.NestedTensor(half), steps=5)  # fmt: skip
    assert same((whole[0][:, :, :24], whole[1][..., :125]), alone)


def test_with_comfyuis_own_cache_too(model):
    cached = EasyCacheNode.execute(speed(model, negative_every=2), 0.5, 0.1, 0.9, False).result[0]
    assert finite(run(cached))


# -- fewer bits --------------------------------------------------------------------------------------------------------


def full_precision(model):
    return {name: part._full_precision_mm for name, part in model.named_modules() if hasattr(part, "layout_type")}


@pytest.mark.parametrize(("card", "said"), [(False, "cpu has no matrix products in fp8"), (True, "not in fp8")])
def test_fp8_products_are_said_to_be_missing_where_they_are(model, card, said, monkeypatch, caplog):
    monkeypatch.setattr(model_comfyui.comfy.model_management, "supports_fp8_compute", lambda device=None: card)
    with caplog.at_level(logging.WARNING):
        assert same(run(speed(model, fp8_matmuls="on"), steps=2), run(model, steps=2), 0)
    assert any(said in message for message in caplog.messages)


def test_fp8_products_are_switched_for_this_model_alone(monkeypatch, caplog):
    """With the small model's weights, as a card that can; the comparison is ComfyUI's own layer."""
    with torch.inference_mode():
        small = load_model(str(MINI))
    with caplog.at_level(logging.WARNING):
        assert not speed(small, fp8_matmuls="on").object_patches
    assert any("no matrix products in fp8" in message for message in caplog.messages)

    def of_a_card(device=None):
        raise ValueError(
            f"Expected a cuda device, but got: {device}"
        )  # as PyTorch does where another node took the CPU

    monkeypatch.setattr(model_comfyui.comfy.model_management, "supports_fp8_compute", of_a_card)
    assert not speed(small, fp8_matmuls="on").object_patches
    monkeypatch.setattr(model_comfyui.comfy.model_management, "supports_fp8_compute", lambda device=None: True)
    patched = speed(small, fp8_matmuls="on")
    assert len(patched.object_patches) == 6 * 24 + 4  # of each block, and the text embeddings
    assert set(patched.object_patches.values()) == {False}
    assert not speed(small, fp8_matmuls="off").object_patches  # as they are already on a CPU
    assert identity(patched) != identity(small)
    patched.patch_model(device_to=None)
    layer = patched.model.diffusion_model.blocks[0].self_attn.q
    assert layer._full_precision_mm is False
    # and while that run has switched them
    assert speed(small, fp8_matmuls="on").object_patches == patched.object_patches
    assert not speed(small, fp8_matmuls="off").object_patches
    patched.unpatch_model()
    assert layer._full_precision_mm is True


def test_plain_fp8_weights_are_multiplied_as_the_model_was_loaded(tmp_path, monkeypatch, caplog):
    """By ComfyUI's other layers, as a card has them; nothing switches these."""
    monkeypatch.setattr(model_comfyui.comfy.model_management, "supports_fp8_compute", lambda device=None: True)
    path = str(write_model(tmp_path, published_weights(tiny.SIZES)))
    notes = {}
    with torch.inference_mode():
        for dtype in ("fp8_e4m3fn", "fp8_e4m3fn_fast"):
            loaded = load_model(path, None, dtype)
            for choice in ("on", "off"):
                caplog.clear()
                assert not speed(loaded, fp8_matmuls=choice).object_patches
                notes[dtype, choice] = " ".join(caplog.messages)
    assert "no scales" in notes["fp8_e4m3fn", "on"]
    assert "fp8_e4m3fn_fast" in notes["fp8_e4m3fn", "on"]
    assert notes["fp8_e4m3fn", "off"] == notes["fp8_e4m3fn_fast", "on"] == ""
    assert "loaded to multiply in fp8" in notes["fp8_e4m3fn_fast", "off"]


def test_eight_bit_attention_is_comfyuis_own_where_it_is_installed(model, monkeypatch, caplog):
    with caplog.at_level(logging.WARNING):
        assert same(run(speed(model, attention="sage"), steps=2), run(model, steps=2), 0)
    assert any("sageattention is not installed" in message for message in caplog.messages)
    calls = []

    def sage(q, k, v, heads, **more):
        calls.append(heads)
        return comfyui.attention_function("pytorch")(q, k, v, heads, **more)

    from comfy.ldm.modules import attention

    monkeypatch.setitem(attention.REGISTERED_ATTENTION_FUNCTIONS, "sage", sage)
    fast = speed(model, attention="sage")
    assert same(run(fast, steps=2), run(model, steps=2))
    assert len(calls) == 2 * 3 * 6  # steps, block pairs, attentions of a pair
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        again = speed(tiny.with_pytorch_attention(model), attention="sage")
    assert any("has chosen the attention" in message for message in caplog.messages)
    calls.clear()
    run(again, steps=2)
    assert not calls
