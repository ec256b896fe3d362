"""The text encoder: ComfyUI's UMT5 at any size, and what an artist is told about another file."""

import comfy.ops
import comfy.sd
import pytest
import safetensors.torch
import torch
from comfy.text_encoders.t5 import T5
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.text.umt5 import load_text_encoder, read_text_encoder
from seeded_weights import draw_weights, relative_error, shapes_of
from umt5_cases import UMT5, train_tokenizer

SIZES = {"d_model": 48, "d_ff": 80, "d_kv": 8, "num_heads": 6, "num_layers": 3, "vocab_size": 300}


@pytest.fixture(scope="module")
def tokenizer():
    return torch.frombuffer(bytearray(train_tokenizer()), dtype=torch.uint8)


def weights_of(sizes, tokenizer):
    network = T5(sizes | UMT5, torch.float32, "cpu", comfy.ops.disable_weight_init)
    return draw_weights(shapes_of(network), 5) | {"spiece_model": tokenizer}


@pytest.fixture(scope="module")
def small(tokenizer):
    return weights_of(SIZES, tokenizer)


def test_encodes_to_512_positions_zero_after_the_last_token(small):
    clip = load_text_encoder(dict(small))
    assert isinstance(clip, comfy.sd.CLIP)
    tokens = clip.tokenize("a small boat")
    used = sum(token != 0 for token, _ in tokens["umt5xxl"][0])
    encoded = clip.encode_from_tokens(tokens)
    assert encoded.shape == (1, 512, SIZES["d_model"])
    assert used > 3
    assert encoded[0, :used].abs().sum(-1).min() > 0
    assert encoded[0, used:].abs().max() == 0


def test_a_file_of_any_size_encodes_as_the_hosts_network(small, tmp_path):
    safetensors.torch.save_file(small, tmp_path / "umt5.safetensors")
    clip = read_text_encoder(str(tmp_path / "umt5.safetensors"))
    network = T5(SIZES | UMT5, torch.float32, "cpu", comfy.ops.manual_cast)
    network.load_state_dict({key: value for key, value in small.items() if key != "spiece_model"})
    tokens = clip.tokenize("she says hello")
    ids = torch.tensor([[token for token, _ in tokens["umt5xxl"][0]]])
    with torch.no_grad():
        expected = network.eval()(ids, (ids != 0).long())[0] * (ids != 0)[..., None]
    assert relative_error(clip.encode_from_tokens(tokens), expected) < 1e-5
    reload, arguments = clip.patcher.cached_patcher_init
    copy = reload(*arguments, disable_dynamic=True)  # as ComfyUI calls it for another device
    assert copy.model is not clip.patcher.model


def test_what_the_host_recognises_is_loaded_by_the_host(tokenizer, tmp_path):
    sizes = {"d_model": 8, "d_ff": 10_240, "d_kv": 4, "num_heads": 2, "num_layers": 24, "vocab_size": 300}
    path = str(tmp_path / "umt5.safetensors")
    weights = weights_of(sizes, tokenizer)
    half = {key: value.half() if value.is_floating_point() else value for key, value in weights.items()}
    safetensors.torch.save_file(half, path)
    host = comfy.sd.load_clip([path], clip_type=comfy.sd.CLIPType.WAN, model_options={"umt5xxl_model_config": sizes})
    ours = read_text_encoder(path)
    assert torch.equal(ours.encode("a calm sea"), host.encode("a calm sea"))
    assert type(ours.cond_stage_model).__name__ == type(host.cond_stage_model).__name__


def test_scaled_fp8_files_are_read(small, tmp_path):
    scaled = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
    for key, value in small.items():
        if value.ndim == 2 and "SelfAttention" in key and "bias" not in key:
            scale = value.abs().max() / 448
            scaled[key] = (value / scale).to(torch.float8_e4m3fn)
            scaled[key.removesuffix("weight") + "scale_weight"] = scale.reshape(())
        else:
            scaled[key] = value
    safetensors.torch.save_file(scaled, tmp_path / "umt5_scaled.safetensors")
    clip = read_text_encoder(str(tmp_path / "umt5_scaled.safetensors"))
    plain = load_text_encoder(dict(small))
    assert 0 < relative_error(clip.encode("a small boat"), plain.encode("a small boat")) < 0.2


def error_of(weights):
    with pytest.raises(OviError) as caught:
        load_text_encoder(weights)
    assert caught.value.input == "text_encoder"
    assert "umt5_xxl_fp16.safetensors" in caught.value.accepted
    return caught.value.found


@pytest.mark.parametrize(
    ("shapes", "found"),
    [
        ({"text_model.encoder.layers.0.mlp.fc1.weight": (8, 8)}, "a CLIP text encoder"),
        ({"model.layers.0.self_attn.q_proj.weight": (8, 8)}, "a language model"),
        ({"token_embedding.weight": (8, 8), "blocks.0.attn.q.weight": (8, 8)}, "in Wan's own layout"),
        ({"video_model.x": (8,), "audio_model.x": (8,)}, "an Ovi transformer"),
        ({"encoder.conv_in.weight": (384, 80, 3)}, "MMAudio"),
        ({}, "unknown kind"),
    ],
)
def test_another_file_is_named(shapes, found):
    assert found in error_of({key: torch.zeros(shape) for key, shape in shapes.items()})


def test_t5_is_not_taken_for_umt5(small):
    first = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    t5 = {key: value for key, value in small.items() if key == first or "relative_attention" not in key}
    assert "a T5 text encoder" in error_of(t5)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda w: w.pop("spiece_model"), "without its tokenizer"),
        (lambda w: w.update(spiece_model=torch.zeros(9, dtype=torch.uint8)), "tokenizer that cannot be read"),
        (lambda w: w.update({"shared.weight": torch.zeros(100, 48)}), "pieces for 100 embeddings"),
        (lambda w: w.pop("shared.weight"), "shared.weight"),
        (lambda w: w.pop("encoder.final_layer_norm.weight"), "1 missing: encoder.final_layer_norm.weight"),
        (
            lambda w: w.update({"encoder.block.1.layer.0.SelfAttention.o.weight": torch.zeros(2, 2)}),
            "[2, 2] instead of",
        ),
    ],
)
def test_incomplete_files_are_told(small, change, told):
    weights = dict(small)
    change(weights)
    with pytest.raises(OviError) as caught:
        load_text_encoder(weights)
    assert told in caught.value.found


WAN_NAMES = {
    "shared": "token_embedding",
    "encoder.final_layer_norm": "norm",
    "layer.0.SelfAttention.relative_attention_bias": "pos_embedding.embedding",
    "layer.0.SelfAttention": "attn",
    "layer.0.layer_norm": "norm1",
    "layer.1.layer_norm": "norm2",
    "layer.1.DenseReluDense.wi_0": "ffn.gate.0",
    "layer.1.DenseReluDense.wi_1": "ffn.fc1",
    "layer.1.DenseReluDense.wo": "ffn.fc2",
    "encoder.block": "blocks",
}


def as_wan_publishes(weights, folder):
    """models_t5_umt5-xxl-enc-bf16.pth, and the tokenizer's file beside it."""
    named = {}
    for key, value in weights.items():
        for ours, theirs in WAN_NAMES.items():
            key = key.replace(ours, theirs)
        named[key] = value
    (folder / "spiece.model").write_bytes(named.pop("spiece_model").numpy().tobytes())
    torch.save(named, folder / "models_t5_umt5-xxl-enc-bf16.pth")
    return str(folder / "models_t5_umt5-xxl-enc-bf16.pth")


def test_wans_own_file_is_the_same_encoder(small, tmp_path):
    path = as_wan_publishes(small, tmp_path)
    clips = read_text_encoder(path), load_text_encoder(dict(small))
    ours, theirs = (clip.encode_from_tokens(clip.tokenize("she says hello")) for clip in clips)
    assert torch.equal(ours, theirs)


def test_wans_own_file_without_the_tokenizer_asks_for_it(small, tmp_path):
    path = as_wan_publishes(small, tmp_path)
    (tmp_path / "spiece.model").unlink()
    with pytest.raises(OviError, match=r"without its tokenizer.*Put spiece\.model of google/umt5-xxl beside"):
        read_text_encoder(path)
