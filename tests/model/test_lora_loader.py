"""Load Ovi LoRA: every common spelling of the keys, a strength for each tower, and what is refused."""

from __future__ import annotations

import json

import comfy.sd
import folder_paths
import pytest
import torch
from native_cases import TINY, drawn, forward, loaded, write_tiny
from ovi_native.nodes.loading.lora import OviLoraLoader
from ovi_native.ovi_core.loading.loader import load_model
from refusals import refusal
from safetensors.torch import save_file

NODE = "Load Ovi LoRA"
DIM, FFN, RANK, ALPHA = TINY["dim"], TINY["ffn_dim"], 4, 2.0
LAYERS = {  # published name: (its name in the diffusers version of Wan, weight [out, in])
    "blocks.0.self_attn.q": ("blocks.0.attn1.to_q", (DIM, DIM)),
    "blocks.1.self_attn.o": ("blocks.1.attn1.to_out.0", (DIM, DIM)),
    "blocks.0.cross_attn.k": ("blocks.0.attn2.to_k", (DIM, DIM)),
    "blocks.1.cross_attn.v": ("blocks.1.attn2.to_v", (DIM, DIM)),
    "blocks.0.ffn.0": ("blocks.0.ffn.net.0.proj", (FFN, DIM)),
    "blocks.1.ffn.2": ("blocks.1.ffn.net.2", (DIM, FFN)),
    "text_embedding.2": ("condition_embedder.text_embedder.linear_2", (DIM, DIM)),
    "time_embedding.0": ("condition_embedder.time_embedder.linear_1", (DIM, 256)),
    "time_projection.1": ("condition_embedder.time_proj", (6 * DIM, DIM)),
    "head.head": ("proj_out", (192, DIM)),
}
FUSION = {f"blocks.{i}.cross_attn.{name}_fusion": (DIM, DIM) for i in range(2) for name in "kv"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(write_tiny(tmp_path_factory.mktemp("model")))


@pytest.fixture
def apply(model, tmp_path, monkeypatch):
    """The node on a file of these weights; returns the MODEL."""
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(tmp_path)], {".safetensors"}))
    folder_paths.filename_list_cache.clear()

    def run(weights: dict, video: float = 1.0, audio: float = 1.0, onto=model, metadata=None):
        contiguous = {key: weight.clone().contiguous() for key, weight in weights.items()}
        save_file(contiguous, tmp_path / "lora.safetensors", metadata)
        return OviLoraLoader.execute(onto, "lora.safetensors", video, audio).result[0]

    return run


@pytest.fixture
def notes(monkeypatch):
    """What the node reports to the user."""
    found: list[str] = []
    monkeypatch.setattr("ovi_native.nodes.shared.notify.warn", lambda node, given: found.extend(given))
    return found


def differences(patched, model) -> dict[str, torch.Tensor]:
    """What ComfyUI has changed in the weights in place, by published layer and kind."""
    before = {key: weight.clone() for key, weight in loaded(model).model.diffusion_model.state_dict().items()}
    after = loaded(patched).model.diffusion_model.state_dict()
    return {key: after[key] - weight for key, weight in before.items() if not torch.equal(after[key], weight)}


def pairs(shapes: dict) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Down [RANK, in] and up [out, RANK] of each layer."""
    return {
        layer: (drawn(RANK, shape[1], seed=2 * i) / 2, drawn(shape[0], RANK, seed=2 * i + 1) / 2)
        for i, (layer, shape) in enumerate(shapes.items())
    }


def dots(prefix: str, down: str, up: str, diffusers: bool = False):
    return lambda layer: [f"{prefix}{LAYERS[layer][0] if diffusers else layer}.{end}" for end in (down, up, "alpha")]


def underscores(prefix: str, diffusers: bool = False):
    def keys(layer: str) -> list[str]:
        name = (LAYERS[layer][0] if diffusers else layer).replace(".", "_")
        return [f"{prefix}{name}.{end}" for end in ("lora_down.weight", "lora_up.weight", "alpha")]

    return keys


PEFT, NAMED, KOHYA = [
    (f"lora_{a}{end}.weight", f"lora_{b}{end}.weight")
    for a, b, end in (("A", "B", ""), ("A", "B", ".default"), ("down", "up", ""))
]
SPELLINGS = {
    "ai-toolkit": dots("diffusion_model.", *PEFT),
    "bare, as DiffSynth": dots("", *NAMED),
    "pipeline": dots("pipe.dit.", *NAMED),
    "checkpoint": dots("model.diffusion_model.", *KOHYA),
    "the published file": dots("video_model.", *PEFT),
    "the published file, wrapped": dots("diffusion_model.video_model.", *KOHYA),
    "peft": dots("base_model.model.", *PEFT),
    "transformer, own names": dots("transformer.", *PEFT),
    "diffusers": dots("transformer.", *PEFT, diffusers=True),
    "diffusers, no prefix": dots("", "lora.down.weight", "lora.up.weight", diffusers=True),
    "diffusers, wrapped by peft": dots("transformer.base_model.model.", *PEFT, diffusers=True),
    "kohya": underscores("lora_unet_"),
    "Wan Fun": underscores("lora_unet__"),
    "kohya, published": underscores("lora_unet_video_model_"),
    "OneTrainer": underscores("lora_transformer_", diffusers=True),
    "SimpleTuner": underscores("lycoris_", diffusers=True),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_the_same_lora(model, apply, notes, spelling):
    weights, expected = {}, {}
    for layer, (down, up) in pairs({layer: shape for layer, (_, shape) in LAYERS.items()}).items():
        down_key, up_key, alpha_key = SPELLINGS[spelling](layer)
        weights |= {down_key: down, up_key: up, alpha_key: torch.tensor(ALPHA)}
        expected[f"{layer}.weight"] = 0.5 * ALPHA / RANK * up @ down
    found = differences(apply(weights, 0.5, 0.0), model)
    assert set(found) == set(expected)
    assert all(torch.allclose(found[key], expected[key], atol=1e-5) for key in expected)
    assert notes == []


@pytest.mark.parametrize("other", SPELLINGS)
def test_halves_in_the_spelling_of_two_tools_are_one_lora(model, apply, notes, other):
    """As a converter leaves them that renames a part of the keys."""
    weights, expected = {}, {}
    for layer, (down, up) in pairs({layer: shape for layer, (_, shape) in LAYERS.items()}).items():
        down_key, up_key = SPELLINGS["kohya"](layer)[0], SPELLINGS[other](layer)[1]
        weights |= {down_key: down, up_key: up}
        expected[f"{layer}.weight"] = 0.5 * up @ down
    found = differences(apply(weights, 0.5, 0.0), model)
    assert set(found) == set(expected)
    assert all(torch.allclose(found[key], expected[key], atol=1e-5) for key in expected)
    assert notes == []


@pytest.mark.parametrize("prefix", ["", "diffusion_model.", "transformer.", "base_model.model."])
def test_each_tower_has_its_strength_and_fusion_belongs_to_the_tower_that_listens(model, apply, prefix):
    shapes = {f"{tower}{layer}": shape for tower in ("", "audio_model.") for layer, shape in FUSION.items()}
    weights, expected = {}, {}
    for layer, (down, up) in pairs(shapes).items():
        weights |= {f"{prefix}{layer}.lora_A.weight": down, f"{prefix}{layer}.lora_B.weight": up}
        expected[f"{layer}.weight"] = (0.25 if layer.startswith("audio_model.") else -1.5) * up @ down
    found = differences(apply(weights, -1.5, 0.25), model)
    assert set(found) == set(expected)
    assert all(torch.allclose(found[key], expected[key], atol=1e-5) for key in expected)


def on_both_towers() -> dict[str, torch.Tensor]:
    weights = {}
    for layer, (down, up) in pairs({layer: shape for layer, (_, shape) in LAYERS.items() if "blocks" in layer}).items():
        for tower in ("", "audio_model."):
            weights |= {f"diffusion_model.{tower}{layer}.lora_A.weight": down}
            weights |= {f"diffusion_model.{tower}{layer}.lora_B.weight": up}
    return weights


def test_a_tower_of_strength_0_keeps_its_weights_bit_for_bit(model, apply):
    weights = on_both_towers()
    assert {key.startswith("audio_model.") for key in differences(apply(weights, 1.0, 0.0), model)} == {False}
    assert {key.startswith("audio_model.") for key in differences(apply(weights, 0.0, 1.0), model)} == {True}


def test_at_strength_0_the_model_is_the_one_that_was_given(model, apply):
    assert apply(on_both_towers(), 0.0, 0.0) is model


def test_the_stock_loader_and_this_one_agree(model, apply):
    weights = on_both_towers()
    ours = forward(loaded(apply(weights, 0.7, 0.7)))
    theirs = forward(loaded(comfy.sd.load_lora_for_models(model, None, weights, 0.7, 0)[0]))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert not torch.equal(ours[1], forward(loaded(model))[1])


# -- other kinds of adapters ---------------------------------------------------------

Q = "blocks.0.self_attn.q"


def test_dora_scales_as_kohya_and_peft_write_them_are_the_same(model, apply):
    down, up = pairs({Q: (DIM, DIM)})[Q]
    scale = loaded(model).model.diffusion_model.state_dict()[f"{Q}.weight"].norm(dim=1) * 2
    kohya = {
        f"diffusion_model.{Q}.lora_down.weight": down,
        f"diffusion_model.{Q}.lora_up.weight": up,
        f"diffusion_model.{Q}.dora_scale": scale.reshape(-1, 1),
    }
    peft = {
        "transformer.blocks.0.attn1.to_q.lora_A.default.weight": down,
        "transformer.blocks.0.attn1.to_q.lora_B.default.weight": up,
        "transformer.blocks.0.attn1.to_q.lora_magnitude_vector.default.weight": scale,
    }
    theirs = differences(comfy.sd.load_lora_for_models(model, None, kohya, 1.0, 0)[0], model)
    ours = differences(apply(peft), model)
    assert list(ours) == list(theirs) == [f"{Q}.weight"]
    assert torch.equal(ours[f"{Q}.weight"], theirs[f"{Q}.weight"])


def test_lokr_loha_and_whole_differences_are_read(model, apply):
    one, two = drawn(8, 8, seed=1), drawn(DIM // 8, DIM // 8, seed=2)
    a, b, c, d = (drawn(*shape, seed=i) for i, shape in enumerate([(DIM, RANK), (RANK, DIM)] * 2))
    vector, modulation = drawn(DIM, seed=3), drawn(1, 6, DIM, seed=4)
    weights = {
        "lycoris_blocks_0_attn1_to_q.lokr_w1": one,
        "lycoris_blocks_0_attn1_to_q.lokr_w2": two,
        "transformer.audio_model.blocks.1.attn2.to_k.hada_w1_a": a,
        "transformer.audio_model.blocks.1.attn2.to_k.hada_w1_b": b,
        "transformer.audio_model.blocks.1.attn2.to_k.hada_w2_a": c,
        "transformer.audio_model.blocks.1.attn2.to_k.hada_w2_b": d,
        "blocks.1.norm3.diff": vector,
        "blocks.1.norm3.diff_b": vector / 2,
        "audio_model.blocks.0.modulation.modulation.diff": modulation,
    }
    expected = {
        "blocks.0.self_attn.q.weight": torch.kron(one, two),
        "audio_model.blocks.1.cross_attn.k.weight": (a @ b) * (c @ d),
        "blocks.1.norm3.weight": vector,
        "blocks.1.norm3.bias": vector / 2,
        "audio_model.blocks.0.modulation.weight": modulation,
    }
    found = differences(apply(weights), model)
    assert set(found) == set(expected)
    assert all(torch.allclose(found[key], expected[key], atol=1e-4) for key in expected)


# -- what fits in part, and what does not ----------------------------------------------


def test_a_partial_fit_is_reported_in_numbers(apply, notes):
    weights = on_both_towers()
    apply(weights | {"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.zeros(4, 8)})
    assert len(notes) == 1
    assert f"{len(weights)} of the {len(weights) + 1} weights of 'lora.safetensors' fit this model" in notes[0]
    assert "such as a text encoder's" in notes[0]


def test_layers_of_another_size_are_left_out_and_reported(model, apply, notes):
    weights = on_both_towers()
    weights |= {
        "blocks.1.self_attn.q.lora_A.weight": torch.zeros(4, 40),
        "blocks.1.self_attn.q.lora_B.weight": torch.zeros(40, 4),
    }
    assert "blocks.1.self_attn.q.weight" not in differences(apply(weights), model)
    assert len(notes) == 1
    assert "its blocks.1.self_attn.q.weight is 40x40, here it is 128x128" in notes[0]


WAN_14B = {
    f"blocks.0.self_attn.q.lora_{half}.weight": torch.zeros(shape)
    for half, shape in (("A", (4, 5120)), ("B", (5120, 4)))
}
COG = {
    f"transformer_blocks.0.attn1.to_q.lora_{half}.weight": torch.zeros(shape)
    for half, shape in (("A", (4, DIM)), ("B", (DIM, 4)))
}


@pytest.mark.parametrize(
    ("weights", "found"),
    [
        (WAN_14B, "of another size (its blocks.0.self_attn.q.weight is 5120x5120, here it is 128x128)"),
        (COG, "another model (it begins with transformer_blocks.0.attn1.to_q.lora_A.weight"),
        ({f"transformer.{key}": value for key, value in COG.items()}, "a LoRA for another model"),
        ({"lora_unet_" + key.replace(".", "_", 4): value for key, value in COG.items()}, "a LoRA for another model"),
        ({"blocks.0.self_attn.q.weight": torch.zeros(DIM, DIM)}, "a Wan transformer"),
        ({"blocks.0.self_attn.q.lora_B.weight": torch.zeros(DIM, 4)}, "a LoRA without its weight"),
        ({}, "unknown kind (0 weights"),
    ],
)  # fmt: skip
def test_what_is_no_lora_for_ovi_is_refused_with_what_it_is(apply, weights, found):
    refusal(apply, weights, node=NODE, input="lora_name", found=found, remedy="")


def test_a_file_that_has_changed_is_read_again_and_metadata_is_kept(model, apply):
    weights = on_both_towers()
    first = apply(weights, metadata={"trainer": json.dumps("one")})
    assert first.get_attachment("lora_metadata") == {"trainer": '"one"'}
    doubled = {key: weight * 2 for key, weight in weights.items()}
    once, twice = differences(first, model), differences(apply(doubled), model)
    assert all(torch.allclose(twice[key], 4 * once[key], atol=1e-4) for key in once)
