"""ComfyUI's merging nodes: two Ovi models, and Ovi's video tower with Wan 2.2 5B, weight for weight."""

from __future__ import annotations

from pathlib import Path

import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import pytest
import torch
from comfy_extras.nodes_model_merging import ModelAdd, ModelMergeSimple, ModelSubtract
from comfy_extras.nodes_model_merging_model_specific import ModelMergeWAN2_1
from native_cases import error, finite, forward, loaded, sample, text, tiny_wan, write_tiny
from ovi_native.ovi_core.loading.loader import load_model

from tools.convert import convert

WAN_TEXT_DIM = 4096  # ComfyUI gives every Wan this one


@pytest.fixture(scope="module")
def ovi_pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("merge")
    return [load_model(write_tiny(folder, seed, f"{seed}.safetensors")) for seed in (11, 12)]


@pytest.fixture(scope="module")
def ovi(tmp_path_factory):
    return load_model(write_tiny(tmp_path_factory.mktemp("merge"), text_dim=WAN_TEXT_DIM))


def make_wan(seed=100):
    """A plain Wan 2.2 5B of tiny size, detected and loaded by ComfyUI."""
    return comfy.sd.load_diffusion_model_state_dict(tiny_wan(seed))


@pytest.fixture(scope="module")
def wan():
    return make_wan()


def weights_of(model):
    """Copies of a model's weights as ComfyUI has them in place now."""
    return {key: value.clone() for key, value in loaded(model).model.diffusion_model.state_dict().items()}


def unlike(found, expected):
    """Names of the weights that differ by more than rounding."""
    assert found.keys() == expected.keys()
    return [key for key in found if not torch.allclose(found[key], expected[key], rtol=1e-6, atol=1e-7)]


def our_name(wan_key):
    return wan_key + ".weight" if wan_key.endswith("modulation") else wan_key


# -- Ovi with Ovi -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
def test_merging_two_ovi_models_is_exact_for_every_weight(ovi_pair, ratio):
    first, second = ovi_pair
    a, b = weights_of(first), weights_of(second)
    merged = ModelMergeSimple().merge(first, second, ratio)[0]
    assert unlike(weights_of(merged), {key: ratio * a[key] + (1 - ratio) * b[key] for key in a}) == []
    assert finite(sample(merged))
    assert unlike(weights_of(first), a) == []


def test_merging_block_by_block_reaches_both_towers(ovi_pair):
    first, second = ovi_pair
    a, b = weights_of(first), weights_of(second)
    ratios = {"patch_embedding.": 1.0, "blocks.0.": 0.0, "blocks.1.": 0.25, "audio_model.": 0.75, "head.": 0.5}
    merged = ModelMergeWAN2_1().merge(first, second, **ratios)[0]
    for key, value in weights_of(merged).items():
        ratio = next((share for start, share in ratios.items() if key.startswith(start)), ratios["patch_embedding."])
        assert torch.allclose(value, ratio * a[key] + (1 - ratio) * b[key], rtol=1e-6, atol=1e-7), key


@pytest.fixture(scope="module")
def fp8_pair(tmp_path_factory):
    """Both models in ComfyUI's scaled fp8, and as the values that it stands for."""
    folder = tmp_path_factory.mktemp("fp8")
    for seed in (11, 12):
        convert([Path(write_tiny(folder, seed))], folder / f"{seed}.safetensors", "fp8")
        convert([folder / f"{seed}.safetensors"], folder / f"{seed}_values.safetensors", "fp32")
    return [[load_model(str(folder / f"{seed}{end}.safetensors")) for seed in (11, 12)] for end in ("", "_values")]


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
def test_what_a_quantised_model_stands_for_is_merged_into_another(fp8_pair, ratio):
    (_, quantised), (first, second) = fp8_pair
    a, b = weights_of(first), weights_of(second)
    merged = ModelMergeSimple().merge(first, quantised, ratio)[0]
    assert unlike(weights_of(merged), {key: ratio * a[key] + (1 - ratio) * b[key] for key in a}) == []
    assert finite(sample(merged))


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("other", ["quantised", "values"])
def test_a_merge_into_a_quantised_model_is_quantised_anew(fp8_pair, ratio, other):
    (first, quantised), (first_values, second_values) = fp8_pair
    expected = forward(loaded(ModelMergeSimple().merge(first_values, second_values, ratio)[0]))
    merged = ModelMergeSimple().merge(first, quantised if other == "quantised" else second_values, ratio)[0]
    assert error(forward(loaded(merged)), expected) <= (0.1 if ratio < 1 else 1e-6)
    assert finite(sample(merged))


# -- Ovi with Wan -------------------------------------------------------------------------------------------------


def test_the_wan_in_these_tests_is_the_hosts_wan_2_2_5b(wan):
    assert isinstance(wan.model, comfy.model_base.WAN22)


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
def test_merging_with_wan_reaches_every_weight_of_the_video_tower_and_no_other(ovi, wan, ratio):
    ours, theirs = weights_of(ovi), weights_of(wan)
    merged = weights_of(ModelMergeSimple().merge(ovi, wan, ratio)[0])
    expected = dict(ours)
    for key, value in theirs.items():
        expected[our_name(key)] = ratio * ours[our_name(key)] + (1 - ratio) * value
    assert unlike(merged, expected) == []
    untouched = [key for key in ours if torch.equal(expected[key], ours[key])]
    if ratio < 1:
        assert all("fusion" in key or key.startswith("audio_model.") for key in untouched)
        assert len(untouched) == sum("fusion" in key or key.startswith("audio_model.") for key in ours)


def test_what_a_wan_finetune_learned_can_be_added(ovi, wan):
    tuned = make_wan(900)
    ours, before, after = weights_of(ovi), weights_of(wan), weights_of(tuned)
    learned = ModelSubtract().merge(tuned, wan, 1.0)[0]
    added = weights_of(ModelAdd().merge(ovi, learned)[0])
    for key in before:
        expected = ours[our_name(key)] + after[key] - before[key]
        assert torch.allclose(added[our_name(key)], expected, atol=1e-6), key


def test_a_merge_survives_copies_and_later_patches(ovi, wan):
    theirs = weights_of(wan)
    later = ModelMergeSimple().merge(ovi.clone().clone(), wan, 0.0)[0].clone()
    assert unlike_wan(weights_of(later), theirs) == []


def unlike_wan(found, theirs):
    return [key for key in theirs if not torch.allclose(found[our_name(key)], theirs[key], rtol=1e-6, atol=1e-7)]


def test_a_copy_without_paged_weights_still_takes_wans_names(ovi, wan, monkeypatch):
    """Where ComfyUI pages weights in, it makes such copies for hooks and training as objects of its plain class."""
    monkeypatch.setattr(type(ovi), "is_dynamic", lambda self: type(self) is type(ovi))
    copy = ovi.clone(disable_dynamic=True)
    assert copy.model is not ovi.model
    monkeypatch.undo()
    assert unlike_wan(weights_of(ModelMergeSimple().merge(copy, wan, 0.0)[0]), weights_of(wan)) == []


def test_a_merged_model_samples_with_wans_tower_and_ovis_sound(ovi, wan):
    merged = ModelMergeSimple().merge(ovi, wan, 0.3)[0]
    before = forward(loaded(ovi), width=WAN_TEXT_DIM)
    assert error(forward(loaded(merged), width=WAN_TEXT_DIM), before) > 1e-2
    prompts = {"positive": text(5, width=WAN_TEXT_DIM), "negative": text(6, width=WAN_TEXT_DIM)}
    assert finite(sample(merged, **prompts))
