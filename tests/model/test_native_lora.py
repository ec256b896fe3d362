"""LoRAs through the stock loader: the spellings of Wan 2.2 5B on the video tower, and the same on audio and fusion."""

from __future__ import annotations

import logging

import folder_paths
import pytest
import tiny_ovi as tiny
import torch
from comfy.patcher_extension import WrappersMP
from safetensors.torch import save_file
from tiny_ovi import both_differ, same

import nodes

RANK, ALPHA, STRENGTH = 4, 2.0, 0.75
DIM, FFN, TEXT = tiny.SIZES["dim"], tiny.SIZES["ffn_dim"], tiny.SIZES["text_dim"]


@pytest.fixture
def load(model, tmp_path, monkeypatch, caplog):
    """The stock loader on a LoRA of these weights; a key it knows no place for fails the test."""
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(tmp_path)], {".safetensors"}))

    def loaded(weights: dict, strength: float = STRENGTH, onto=model):
        save_file({key: weight.contiguous() for key, weight in weights.items()}, tmp_path / "lora.safetensors")
        with caplog.at_level(logging.WARNING):
            patched = nodes.LoraLoaderModelOnly().load_lora_model_only(onto, "lora.safetensors", strength)[0]
        assert not [record.message for record in caplog.records]
        return patched

    return loaded


def draw(*shape: int, seed: int = 5) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) / 2


def run_and_look(model) -> tuple[tuple, dict]:
    """A run's result, and the transformer's weights while it runs."""
    weights: dict = {}

    def look(executor, *args, **more):
        network = executor.class_obj
        weights.update({key: weight.clone() for key, weight in network.state_dict().items()})
        return executor(*args, **more)

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "look", look)
    return tiny.run(tiny.guider(model), steps=2), weights


@pytest.fixture(scope="module")
def base(model):
    return run_and_look(model)


def assert_changes(patched, base, expected: dict) -> None:
    """While ``patched`` runs, exactly these weights are the base's plus these differences, and the result is new."""
    result, weights = run_and_look(patched)
    before, base_weights = base
    changed = {key for key, weight in weights.items() if not torch.equal(weight, base_weights[key])}
    assert changed == set(expected)
    for key, difference in expected.items():
        assert torch.allclose(weights[key], base_weights[key] + difference, atol=1e-5), key
    assert both_differ(result, before)
    assert same(run_and_look(patched)[0], result, 0)


# -- low-rank updates ---------------------------------------------------------------

SHAPES = {
    "self_attn.q": (DIM, DIM), "self_attn.k": (DIM, DIM), "self_attn.v": (DIM, DIM), "self_attn.o": (DIM, DIM),
    "cross_attn.q": (DIM, DIM), "cross_attn.k": (DIM, DIM), "cross_attn.v": (DIM, DIM), "cross_attn.o": (DIM, DIM),
    "ffn.0": (FFN, DIM), "ffn.2": (DIM, FFN),
}  # fmt: skip
"""The layers of one block that LoRAs for Wan 2.2 5B are made for: weight [out, in]."""
FUSION = {"cross_attn.k_fusion": (DIM, DIM), "cross_attn.v_fusion": (DIM, DIM)}


def peft(layer: str) -> tuple[str, str, str]:
    return tuple(f"diffusion_model.{layer}.{end}" for end in ("lora_A.weight", "lora_B.weight", "alpha"))


def kohya(layer: str) -> tuple[str, str, str]:
    name = "lora_unet_" + layer.replace(".", "_")
    return tuple(f"{name}.{end}" for end in ("lora_down.weight", "lora_up.weight", "alpha"))


def wan_fun(layer: str) -> tuple[str, str, str]:
    return tuple(key.replace("lora_unet_", "lora_unet__") for key in kohya(layer))


def low_rank(shapes: dict, spelling, alpha: bool = True) -> tuple[dict, dict]:
    """A LoRA on these layers, and the differences to their weights that it stands for."""
    weights, expected = {}, {}
    for i, (layer, (fan_out, fan_in)) in enumerate(shapes.items()):
        down, up = draw(RANK, fan_in, seed=2 * i), draw(fan_out, RANK, seed=2 * i + 1)
        down_key, up_key, alpha_key = spelling(layer)
        weights |= {down_key: down, up_key: up}
        if alpha:
            weights[alpha_key] = torch.tensor(ALPHA)
        expected[f"{layer}.weight"] = STRENGTH * (ALPHA / RANK if alpha else 1.0) * up @ down
    return weights, expected


PLACES = {
    "video": {f"blocks.{i}.{layer}": shape for i in range(3) for layer, shape in SHAPES.items()},
    "audio": {f"audio_model.blocks.{i}.{layer}": shape for i in range(3) for layer, shape in SHAPES.items()},
    "fusion": {
        f"{tower}blocks.{i}.{layer}": shape
        for tower in ("", "audio_model.")
        for i in range(3)
        for layer, shape in FUSION.items()
    },
    "around the blocks": {
        f"{tower}{layer}": shape
        for tower in ("", "audio_model.")
        for layer, shape in {
            "text_embedding.0": (DIM, TEXT),
            "time_embedding.2": (DIM, DIM),
            "time_projection.1": (6 * DIM, DIM),
        }.items()
    },
}


@pytest.mark.parametrize("spelling", [peft, kohya])
@pytest.mark.parametrize("place", PLACES)
def test_a_lora_changes_exactly_its_layers_by_its_low_rank_product(load, base, place, spelling):
    weights, expected = low_rank(PLACES[place], spelling)
    assert_changes(load(weights), base, expected)


def test_a_lora_without_alpha_counts_whole(load, base):
    weights, expected = low_rank(PLACES["video"], peft, alpha=False)
    assert_changes(load(weights), base, expected)


def test_a_lora_spelt_as_for_wan_fun_is_read(load, base):
    weights, expected = low_rank(PLACES["video"], wan_fun)
    assert_changes(load(weights), base, expected)


def test_loras_add_up_and_leave_the_model_they_were_put_on_as_it_was(load, base, model):
    (video, video_change), (audio, audio_change) = (low_rank(PLACES[place], peft) for place in ("video", "audio"))
    both = load(audio, onto=load(video))
    assert_changes(both, base, {**video_change, **audio_change})
    result, weights = run_and_look(model)
    assert same(result, base[0], 0)
    assert all(torch.equal(weight, base[1][key]) for key, weight in weights.items())


# -- whole differences ---------------------------------------------------------------

WHOLE = {
    "blocks.0.norm3": (DIM,),
    "blocks.1.self_attn.norm_q": (DIM,),
    "blocks.2.cross_attn.norm_k": (DIM,),
    "blocks.0.modulation": (1, 6, DIM),
    "head.modulation": (1, 2, DIM),
    "patch_embedding": (DIM, 48, 1, 2, 2),
    "blocks.1.cross_attn.norm_k_fusion": (DIM,),
    "blocks.1.cross_attn.pre_attn_norm_fusion": (DIM,),
    "audio_model.blocks.0.modulation": (1, 6, DIM),
    "audio_model.head.modulation": (1, 2, DIM),
    "audio_model.patch_embedding.0": (DIM, 20, 7),
}
BIASES = {"blocks.0.norm3": DIM, "blocks.0.ffn.0": FFN, "blocks.0.self_attn.q": DIM, "head.head": 48 * 4}


@pytest.mark.parametrize("spelling", ["diffusion_model.{}", "lora_unet_{}"])
def test_whole_differences_reach_norms_modulation_and_biases(load, base, spelling):
    """As extracted LoRAs of Wan hold them: .diff for a weight, .diff_b for a bias; modulation is a weight as well."""

    def key(layer: str) -> str:
        return spelling.format(layer if spelling.startswith("diff") else layer.replace(".", "_"))

    whole = {layer: draw(*shape) / 5 for layer, shape in WHOLE.items()}
    biases = {layer: draw(size) / 5 for layer, size in BIASES.items()}
    weights = {f"{key(layer)}.diff": value for layer, value in whole.items()}
    weights |= {f"{key(layer)}.diff_b": value for layer, value in biases.items()}
    expected = {f"{layer}.weight": STRENGTH * value for layer, value in whole.items()}
    expected |= {f"{layer}.bias": STRENGTH * value for layer, value in biases.items()}
    assert_changes(load(weights), base, expected)
