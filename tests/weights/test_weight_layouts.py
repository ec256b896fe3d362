"""One small model in every layout of its weights gives the same forward: exactly, or as the file's numbers say."""

from __future__ import annotations

from pathlib import Path

import folder_paths
import gguf
import numpy as np
import pytest
import torch
import weight_layouts as layouts
from comfy import memory_management
from comfy.quant_ops import QuantizedTensor
from comfy_extras.nodes_model_merging import ModelMergeSimple, ModelSave
from gguf.quants import dequantize
from native_cases import CPU, drawn, error, finite, forward, loaded, sample, tiny_weights, with_lora
from ovi_native.nodes.loading.loaders import OviModelLoader
from ovi_native.ovi_core.loading import loader
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.weights import gguf_blocks, quantization

WIDE = {"dim": 256, "text_dim": 256}  # rows of whole blocks of 256, which the K types need


@pytest.fixture(autouse=True)
def inference():
    """As ComfyUI runs nodes."""
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    """The velocity with float32 weights."""
    return forward(loaded(load_model(layouts.saved(tmp_path_factory.mktemp("exact"), "m.safetensors", tiny_weights()))))


@pytest.mark.parametrize("layout", list(layouts.LOSSLESS))
def test_every_layout_of_the_same_weights_is_the_same_model(layout, exact, tmp_path):
    files = layouts.LOSSLESS[layout](tiny_weights(), tmp_path)
    assert error(forward(loaded(load_model(*files))), exact) == 0


# -- ComfyUI's own quantised formats ---------------------------------------------------------------------------------

# What the format costs this model's velocity, relative to float32 weights.
BOUNDS = {
    "float8_e4m3fn": 0.06,
    "float8_e5m2": 0.12,
    "int8": 0.03,
    "int8 by row": 0.02,
    "int8 rotated": 0.02,
    "mxfp8": 0.06,
    "nvfp4": 0.2,
    "int4 rotated": 0.35,
}
# What ComfyUI loses by rounding activations to the format as well, relative to the same weights in float32.
ACTIVATIONS = {"int8": 0.02, "int8 by row": 0.02, "int8 rotated": 0.02, "int4 rotated": 0.25}


def quantised_file(name, folder, marked=True, rename=lambda key: key, **more):
    stored, meant = layouts.in_host_format(tiny_weights(), name, marked)
    path = layouts.saved(folder, "quantised.safetensors", {rename(key): value for key, value in stored.items()} | more)
    return path, layouts.saved(folder, "meant.safetensors", meant)


def check_quantised(path, meant, exact, name):
    model, expected = load_model(path), load_model(meant)
    layers = [model.model.diffusion_model.get_submodule("audio_model.blocks.1.ffn.2") for model in (model, expected)]
    assert isinstance(layers[0].weight, QuantizedTensor)
    assert torch.equal(layers[0].weight.dequantize(), layers[1].weight)
    out = forward(loaded(model))
    assert error(out, forward(loaded(expected))) <= ACTIVATIONS.get(name, 1e-5)
    assert 1e-4 < error(out, exact) <= BOUNDS[name]
    assert finite(sample(model))


@pytest.mark.parametrize("name", list(layouts.HOST_FORMATS))
def test_every_quantised_format_of_the_host_means_what_it_says(name, exact, tmp_path):
    check_quantised(*quantised_file(name, tmp_path), exact, name)


@pytest.mark.parametrize(
    ("name", "card", "most", "stays"),
    [
        ("float8_e4m3fn", False, 1 << 30, False),
        ("float8_e5m2", False, 1 << 30, False),
        ("float8_e4m3fn", False, 1 << 10, True),
        ("float8_e4m3fn", True, 1 << 30, True),
        ("int8", False, 1 << 30, True),
    ],
)
def test_a_cpu_computes_small_models_of_scaled_fp8_from_their_values(name, card, most, stays, tmp_path, monkeypatch):
    """Those that ComfyUI would make of them in each step, to the bit."""
    path, _ = quantised_file(name, tmp_path)
    step_by_step = load_model(path)
    monkeypatch.setattr(loader, "MULTIPLIED_OUT", most)
    monkeypatch.setattr(loader, "supports_fp8", lambda device: card)
    model = load_model(path)
    weight, other = (each.model.diffusion_model.blocks[1].ffn[2].weight for each in (model, step_by_step))
    assert isinstance(weight, QuantizedTensor) == stays
    assert torch.equal(weight.dequantize() if stays else weight, other.dequantize())
    assert error(forward(loaded(model)), forward(loaded(step_by_step))) <= 1e-6


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float32"])
def test_a_scale_of_no_layer_is_still_there_to_be_named(name):
    weights = tiny_weights() if name == "float32" else layouts.in_host_format(tiny_weights(), name)[0]
    assert "no.such.weight_scale" in quantization.fp8_in_float32(
        weights | {"no.such.weight_scale": torch.ones(1)}, 1 << 30
    )


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "int8", "int8 by row", "mxfp8", "nvfp4"])
def test_scales_without_a_mark_are_understood(name, exact, tmp_path):
    check_quantised(*quantised_file(name, tmp_path, marked=False), exact, name)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("elements", [0, 2])
def test_the_older_spelling_of_scaled_fp8_is_understood_in_either_type(name, elements, exact, tmp_path):
    mark = {"scaled_fp8": torch.zeros(elements, dtype=getattr(torch, name))}

    def older(key):
        return key.replace(".weight_scale", ".scale_weight")

    path, meant = quantised_file(name, tmp_path, False, older, **mark)
    check_quantised(path, meant, exact, name)
    whole = load_model(path).model.diffusion_model.blocks[0].self_attn.q
    assert whole._full_precision_mm_config == (elements == 2)


def test_a_scale_for_every_channel_of_a_convolution_is_multiplied_out(exact, tmp_path):
    weights, key = dict(tiny_weights()), "audio_model.patch_embedding.0.weight"
    scale = weights[key].abs().amax(dim=(1, 2)) / 448
    stored = (weights[key] / scale[:, None, None]).to(torch.float8_e4m3fn)
    weights[key] = (stored.float() * scale[:, None, None]).bfloat16().float()
    meant = layouts.saved(tmp_path, "meant.safetensors", weights)
    weights |= {key: stored, key.replace("weight", "weight_scale"): scale}
    path = layouts.saved(tmp_path, "scaled.safetensors", weights)
    assert error(forward(loaded(load_model(path))), forward(loaded(load_model(meant)))) == 0


# -- GGUF ------------------------------------------------------------------------------------------------------------

LORA = {
    "diffusion_model.blocks.0.self_attn.q.lora_A.weight": drawn(4, 256, seed=1) / 8,
    "diffusion_model.blocks.0.self_attn.q.lora_B.weight": drawn(256, 4, seed=2) / 8,
    "diffusion_model.blocks.1.modulation.diff": drawn(1, 6, 256, seed=4) / 8,
    "diffusion_model.audio_model.blocks.1.ffn.0.lora_A.weight": drawn(4, 256, seed=9) / 8,
    "diffusion_model.audio_model.blocks.1.ffn.0.lora_B.weight": drawn(256, 4, seed=10) / 8,
}
PACKED = ["Q8_0", "Q6_K", "Q5_K", "Q5_1", "Q5_0", "Q4_K", "Q4_1", "Q4_0", "Q3_K", "Q2_K", "IQ4_NL", "IQ4_XS"]
NEAR = {"Q8_0": 0.02, "Q5_1": 0.1, "Q5_0": 0.13, "Q4_1": 0.2, "Q4_0": 0.26}  # what the library itself can pack


@pytest.mark.parametrize("type", PACKED)
def test_blocks_are_unpacked_as_the_library_unpacks_them(type):
    kind = gguf.GGMLQuantizationType[type]
    values, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = np.random.default_rng(1).integers(0, 256, (40, 3 * size), np.uint8)
    with np.errstate(all="ignore"):
        expected = dequantize(blocks, kind)
    found = gguf_blocks.dequantize(torch.from_numpy(blocks), type)
    assert found.shape == (40, 3 * values)
    assert np.array_equal(found.numpy(), expected, equal_nan=True)


def gguf_model(folder, type, seed=11):
    """A model from a GGUF file, and one from the float32 weights that the file stands for."""
    path, meant = layouts.write_gguf(folder / "model.gguf", tiny_weights(seed, **WIDE), type)
    return load_model(path), load_model(layouts.saved(folder, "meant.safetensors", meant))


@pytest.mark.parametrize("type", PACKED)
def test_a_gguf_file_is_the_model_its_blocks_stand_for(type, tmp_path):
    packed, meant = gguf_model(tmp_path, type)
    out = forward(loaded(packed), 256)
    assert error(out, forward(loaded(meant), 256)) <= 1e-6
    weight = packed.model.diffusion_model.blocks[0].self_attn.q.weight
    assert weight._qdata.dtype == torch.uint8
    assert weight.nbytes == 256 * gguf_blocks.FORMATS[type].bytes_per_row(256)
    if type in NEAR:
        plain = load_model(layouts.saved(tmp_path, "plain.safetensors", tiny_weights(**WIDE)))
        assert 1e-4 < error(out, forward(loaded(plain), 256)) <= NEAR[type]


@pytest.mark.parametrize("type", ["Q8_0", "Q4_K"])
def test_a_lora_on_gguf_is_the_lora_on_its_values_and_leaves_it_packed(type, tmp_path):
    packed, meant = gguf_model(tmp_path, type)
    plain = forward(loaded(packed), 256)
    size = packed.model_size()
    patched, expected = (forward(loaded(with_lora(model, LORA)), 256) for model in (packed, meant))
    assert error(patched, expected) <= 1e-5
    assert error(patched, plain) > 1e-3
    assert packed.model_size() == size == sum(weight.nbytes for weight in packed.model.state_dict().values())
    assert error(forward(loaded(packed), 256), plain) == 0


@pytest.mark.parametrize("share", [1 / 3, 0])
def test_a_partly_loaded_gguf_is_the_same_model(share, tmp_path):
    packed, meant = gguf_model(tmp_path, "Q5_K")
    partly = with_lora(packed, LORA)
    partly.patch_model(CPU, lowvram_model_memory=1 + int(share * partly.model_size()))
    try:
        assert partly.model.model_lowvram
        assert error(forward(partly, 256), forward(loaded(with_lora(meant, LORA)), 256)) <= 1e-5
        partly.partially_unload(CPU, partly.model_size())
        assert error(forward(partly, 256), forward(loaded(with_lora(meant, LORA)), 256)) <= 1e-5
    finally:
        partly.unpatch_model(CPU)


@pytest.mark.parametrize("type", ["Q8_0", "Q4_K"])
def test_the_hosts_buffers_for_streaming_carry_packed_weights(type, tmp_path):
    """As cards take in a weight that stays in host memory: the bytes of weight and bias in one buffer, then views."""
    packed, _ = gguf_model(tmp_path, type)
    layer = packed.model.diffusion_model.blocks[1].ffn[2]
    parts = [layer.weight, layer.bias]
    buffer = torch.zeros(memory_management.vram_aligned_size(parts), dtype=torch.uint8)
    assert buffer.numel() < layer.weight.nbytes + layer.bias.nbytes + 2 * 1024
    weight, bias = memory_management.interpret_gathered_like(parts, buffer)
    for view, part in zip((weight, bias), parts, strict=True):
        view.copy_(part)
    assert torch.equal(weight.to(torch.bfloat16).dequantize(), layer.weight.dequantize().bfloat16())
    assert torch.equal(bias, layer.bias)


def test_a_gguf_can_be_merged_from_either_side(tmp_path):
    packed, meant = gguf_model(tmp_path, "Q8_0")
    other = load_model(layouts.saved(tmp_path, "other.safetensors", tiny_weights(12, **WIDE)))
    for pair, expected in (((packed, other), (meant, other)), ((other, packed), (other, meant))):
        ours, theirs = (ModelMergeSimple().merge(*models, 0.25)[0] for models in (pair, expected))
        expected_out = forward(loaded(theirs), 256)
        assert error(forward(loaded(ours), 256), expected_out) <= 1e-5
        assert error(forward(loaded(pair[0]), 256), expected_out) > 1e-2


@pytest.mark.parametrize("lora", [{}, LORA], ids=["plain", "with a LoRA"])
def test_model_save_writes_the_values_of_a_gguf_with_its_patches(lora, tmp_path):
    packed, meant = gguf_model(tmp_path, "Q4_K")
    node = ModelSave()
    node.output_dir = str(tmp_path)
    node.save(with_lora(packed, lora), "saved/ovi")
    back = load_model(str(next((tmp_path / "saved").glob("*.safetensors"))))
    assert error(forward(loaded(back), 256), forward(loaded(with_lora(meant, lora)), 256)) <= 1e-5


def test_a_gguf_samples_and_its_second_copy_is_untouched(tmp_path):
    path, _ = layouts.write_gguf(tmp_path / "model.gguf", tiny_weights(), "Q8_0")
    model = load_model(path)
    assert finite(sample(model))
    plain = forward(loaded(model))
    make, args = with_lora(
        model, {key: value[..., :128] for key, value in LORA.items() if "modulation" in key}
    ).cached_patcher_init
    assert error(forward(loaded(make(*args, disable_dynamic=True))), plain) == 0


def test_gguf_weights_are_mapped_not_copied(tmp_path):
    path, _ = layouts.write_gguf(tmp_path / "model.gguf", tiny_weights(), "Q8_0")
    weight = load_model(path).model.diffusion_model.blocks[0].self_attn.q.weight
    with open("/proc/self/maps") as maps:
        ranges = [line.split()[0].split("-") for line in maps if line.rstrip().endswith("model.gguf")]
    assert any(int(start, 16) <= weight._qdata.data_ptr() < int(end, 16) for start, end in ranges)


def test_gguf_files_are_among_the_models_and_loaded_by_name(tmp_path, monkeypatch):
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "diffusion_models", ([str(tmp_path)], {".safetensors"}))
    folder_paths.filename_list_cache.clear()
    (tmp_path / "sub").mkdir()
    layouts.write_gguf(tmp_path / "sub" / "ovi.gguf", tiny_weights(), "Q8_0")
    layouts.saved(tmp_path, "other.safetensors", tiny_weights())
    name = str(Path("sub") / "ovi.gguf")
    assert OviModelLoader.define_schema().inputs[0].options == ["other.safetensors", name]
    assert finite(sample(OviModelLoader.execute(name).result[0]))
