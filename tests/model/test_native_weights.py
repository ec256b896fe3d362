"""Weights in ComfyUI's hands: types, layouts, quantisation, saving, partial loading."""

from __future__ import annotations

import json

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import pytest
import torch
from comfy.quant_ops import QuantizedTensor
from comfy_extras.nodes_model_merging import ModelSave
from native_cases import CPU, drawn, error, finite, forward, loaded, sample, tiny_weights, with_lora, write_tiny
from ovi_native.ovi_core.loading.loader import load_model
from safetensors.torch import load_file, save_file

BF16, F32, E4M3, E5M2 = torch.bfloat16, torch.float32, torch.float8_e4m3fn, torch.float8_e5m2
FP8 = {"fp8_e4m3fn": E4M3, "fp8_e4m3fn_fast": E4M3, "fp8_e5m2": E5M2}
PREFIX = "diffusion_model."
LORA = {
    "diffusion_model.blocks.0.self_attn.q.lora_A.weight": drawn(4, 128, seed=1) / 8,
    "diffusion_model.blocks.0.self_attn.q.lora_B.weight": drawn(128, 4, seed=2) / 8,
    "diffusion_model.blocks.1.norm3.diff": drawn(128, seed=3) / 8,
    "diffusion_model.blocks.1.modulation.diff": drawn(1, 6, 128, seed=4) / 8,
    "diffusion_model.time_embedding.0.diff_b": drawn(128, seed=5) / 8,
    "diffusion_model.head.head.lora_A.weight": drawn(4, 128, seed=6) / 8,
    "diffusion_model.head.head.lora_B.weight": drawn(192, 4, seed=7) / 8,
    "diffusion_model.audio_model.head.modulation.diff": drawn(1, 2, 128, seed=8) / 8,
    "diffusion_model.audio_model.blocks.1.cross_attn.k_fusion.lora_A.weight": drawn(4, 128, seed=9) / 8,
    "diffusion_model.audio_model.blocks.1.cross_attn.k_fusion.lora_B.weight": drawn(128, 4, seed=10) / 8,
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def exact(path):
    """The velocity with float32 weights."""
    return forward(loaded(load_model(path)))


@pytest.fixture
def bf16_hardware(monkeypatch):
    """ComfyUI believes its device computes in bf16, as graphics cards do."""
    monkeypatch.setattr(comfy.model_management, "should_use_bf16", lambda *args, **kwargs: True)


def write_as(dtype, folder):
    path = folder / f"{dtype}.safetensors".removeprefix("torch.")
    save_file({key: value.to(dtype) for key, value in tiny_weights().items()}, path)
    return str(path)


def precision(key):
    """What the docs promise of a weight: kept in float32, in 16 bit at least, or as small as the artist chose."""
    key = key.removeprefix("audio_model.")
    if any(part in key for part in ("norm", "modulation", "time_embedding", "time_projection")):
        return "float32"
    if key == "patch_embedding.weight" or key == "patch_embedding.bias":
        return "float32"
    return "16 bit" if key.startswith(("patch_embedding.", "head.head.")) else "large"


def types_held(patcher):
    """Types of the weights by what is promised of them."""
    found = {}
    for key, value in patcher.model.diffusion_model.state_dict().items():
        found.setdefault(precision(key), set()).add(value.dtype)
    return found


# -- types of weights ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [BF16, torch.float16, F32])
def test_on_a_cpu_the_host_computes_any_file_in_float32(dtype, tmp_path):
    model = load_model(write_as(dtype, tmp_path)).model
    assert model.get_dtype() == model.get_dtype_inference() == F32
    assert {weight.dtype for weight in model.state_dict().values()} == {F32}


@pytest.mark.parametrize(
    ("dtype", "bound"), [(F32, 1e-6), (torch.float16, 2e-3), (BF16, 1.5e-2), (E4M3, 0.15), (E5M2, 0.4)]
)
def test_a_file_of_any_type_is_as_near_to_float32_as_its_type_allows(dtype, bound, exact, tmp_path):
    model = load_model(write_as(dtype, tmp_path))
    assert error(forward(loaded(model)), exact) <= bound
    assert finite(sample(model))


@pytest.mark.parametrize("choice", sorted(FP8))
def test_fp8_is_for_large_matrices_alone_also_when_loaded_and_patched(choice, path):
    expected = {"float32": {F32}, "16 bit": {BF16}, "large": {FP8[choice]}}
    model = load_model(path, weight_dtype=choice)
    assert types_held(model) == expected
    assert types_held(loaded(model)) == expected
    assert types_held(loaded(with_lora(model, LORA))) == expected


@pytest.mark.parametrize(("choice", "bound"), [("default", 1e-6), ("fp8_e4m3fn", 0.1), ("fp8_e5m2", 0.25)])
def test_each_weight_dtype_stays_near_float32_and_samples(choice, bound, path, exact):
    model = load_model(path, weight_dtype=choice)
    assert error(forward(loaded(model)), exact) <= bound
    assert finite(sample(model))


@pytest.mark.parametrize("dtype", [BF16, torch.float16, F32])
def test_where_bf16_computes_norms_modulation_and_time_stay_in_float32(bf16_hardware, dtype, tmp_path):
    model = load_model(write_as(dtype, tmp_path))
    expected = {"float32": {F32}, "16 bit": {BF16}, "large": {BF16}}
    assert model.model.get_dtype_inference() == BF16
    assert types_held(model) == expected
    assert types_held(loaded(with_lora(model, LORA))) == expected


@pytest.mark.parametrize(("choice", "bound"), [("default", 2e-2), ("fp8_e4m3fn", 0.1), ("fp8_e5m2", 0.25)])
def test_bf16_computation_stays_near_float32(bf16_hardware, choice, bound, path, exact):
    model = load_model(path, weight_dtype=choice)
    out = forward(loaded(model))
    assert {part.dtype for part in out} == {BF16}
    assert error(out, exact) <= bound
    assert finite(sample(model))


def test_rope_and_time_are_float32_inside_a_bf16_run(bf16_hardware, path):
    seen, tokens_seen = [], []

    def look(args, extra):
        seen.extend(args["streams"])
        tokens_seen.extend(args["img"])
        return extra["original_block"](args)

    model = load_model(path)
    model.set_model_patch_replace(look, "dit", "double_block", 0)
    sample(model, steps=1)
    assert {tokens.dtype for tokens in tokens_seen} == {BF16}
    assert {stream.table.dtype for stream in seen} == {F32}
    assert {part.dtype for stream in seen for part in (stream.time.embedding, stream.time.projection)} == {F32}


def test_a_patch_reaches_small_float32_weights_where_bf16_computes(bf16_hardware, path):
    plain, patched = load_model(path), with_lora(load_model(path), LORA)
    before, after = (loaded(model).model.diffusion_model.state_dict() for model in (plain, patched))
    for key, diff in LORA.items():
        if key.endswith(".diff"):
            weight = key.removeprefix(PREFIX).removesuffix("diff") + "weight"
            assert torch.allclose(after[weight] - before[weight], diff, atol=1e-6), key


# -- quantised files ----------------------------------------------------------------------------------------------


def quantised(spelling):
    """Scaled fp8 for the large matrices; and the float32 weights that it stands for."""
    scale_name = {"scaled_fp8": "scale_weight"}.get(spelling, "weight_scale")
    weights, meant = {}, dict(tiny_weights())
    for key, value in tiny_weights().items():
        large = precision(key.removeprefix("video_model.")) == "large" and value.ndim == 2
        if not large:
            weights[key] = value
            continue
        scale = value.abs().max() / 448
        weights[key] = (value / scale).to(E4M3)
        weights[key.removesuffix("weight") + scale_name] = scale
        meant[key] = weights[key].float() * scale
    if spelling == "scaled_fp8":
        weights["scaled_fp8"] = torch.empty(0, dtype=E4M3)
    return weights, meant


def written_quantised(spelling, prefix, folder):
    weights, meant = quantised(spelling)
    layers = {
        key.removesuffix(".weight_scale"): {"format": "float8_e4m3fn"} for key in weights if "weight_scale" in key
    }
    metadata = None
    if spelling == "metadata":
        metadata = {"_quantization_metadata": json.dumps({"layers": layers})}
    if spelling == "metadata with prefix":
        layers = {prefix + layer: conf for layer, conf in layers.items()}
        metadata = {"_quantization_metadata": json.dumps({"layers": layers})}
    path, meant_path = str(folder / "quantised.safetensors"), str(folder / "meant.safetensors")
    save_file({prefix + key: value for key, value in weights.items()}, path, metadata)
    save_file(meant, meant_path)
    return path, meant_path


@pytest.mark.parametrize(
    ("spelling", "prefix"),
    [
        ("scaled_fp8", ""),
        ("scaled_fp8", "model.diffusion_model."),
        ("metadata", ""),
        ("metadata", "model.diffusion_model."),
        ("metadata with prefix", "model.diffusion_model."),
    ],
)
def test_scaled_fp8_means_what_its_scales_say(spelling, prefix, exact, tmp_path):
    path, meant_path = written_quantised(spelling, prefix, tmp_path)
    model = load_model(path)
    assert isinstance(model.model.diffusion_model.blocks[0].self_attn.q.weight, QuantizedTensor)
    out = forward(loaded(model))
    assert error(out, forward(loaded(load_model(meant_path)))) <= 1e-5
    assert error(out, exact) <= 0.1
    assert finite(sample(model))


def test_scaled_fp8_where_bf16_computes_keeps_norms_and_modulation_in_float32(bf16_hardware, exact, tmp_path):
    model = load_model(written_quantised("scaled_fp8", "", tmp_path)[0])
    assert error(forward(loaded(model)), exact) <= 0.1
    assert finite(sample(model))
    weights = model.model.diffusion_model.state_dict()
    kept = {key: weights[key].dtype for key in weights if precision(key) == "float32" and not key.count("time_")}
    assert set(kept.values()) == {F32}
    # ComfyUI's layers for quantised files hold what is not quantised in the type of computation.
    assert weights["time_embedding.0.weight"].dtype == BF16


def test_scaled_fp8_takes_a_lora_and_is_saved_and_read_back(tmp_path):
    path, _ = written_quantised("scaled_fp8", "", tmp_path)
    model = load_model(path)
    patched = with_lora(model, LORA)
    before, after = forward(loaded(model)), forward(loaded(patched))
    assert error(after, before) > 1e-2
    back = load_model(saved(patched, tmp_path))
    assert isinstance(back.model.diffusion_model.blocks[0].self_attn.k.weight, QuantizedTensor)
    assert error(forward(loaded(back)), after) <= 5e-2  # the patched matrices were quantised anew


# -- saving -------------------------------------------------------------------------------------------------------


def saved(model, folder):
    node = ModelSave()
    node.output_dir = str(folder)
    node.save(model, "saved/ovi")
    return str(next((folder / "saved").glob("*.safetensors")))


@pytest.mark.parametrize("choice", ["default", "fp8_e4m3fn"])
@pytest.mark.parametrize("lora", [{}, LORA], ids=["plain", "with a LoRA"])
def test_what_model_save_writes_is_read_back_exactly(choice, lora, path, tmp_path):
    model = with_lora(load_model(path, weight_dtype=choice), lora)
    expected = {key: value.clone() for key, value in loaded(model).model.diffusion_model.state_dict().items()}
    file = saved(model, tmp_path)
    assert set(load_file(file)) == {f"model.diffusion_model.{key}" for key in tiny_weights()}
    back = load_model(file, weight_dtype=choice).model.diffusion_model.state_dict()
    assert back.keys() == expected.keys()
    assert all(torch.equal(back[key].float(), expected[key].float()) for key in expected)


def test_the_stock_loader_does_not_take_a_saved_model_for_wan(path, tmp_path):
    with pytest.raises(RuntimeError, match="Could not detect model type"):
        comfy.sd.load_diffusion_model(saved(load_model(path), tmp_path))


# -- partial loading and copies -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "on_the_fly"), [(1 / 3, 1), (0, len({key.split(".lora_")[0] for key in LORA}))])
def test_a_partly_loaded_model_applies_patches_on_the_fly_with_the_same_result(share, on_the_fly, path):
    whole, partly = (with_lora(load_model(path), LORA) for _ in range(2))
    expected = forward(loaded(whole))
    partly.patch_model(CPU, lowvram_model_memory=1 + int(share * partly.model_size()))
    try:
        assert partly.model.model_lowvram
        assert partly.model.lowvram_patch_counter >= on_the_fly
        assert error(forward(partly), expected) <= 1e-6
    finally:
        partly.unpatch_model(CPU)
    assert error(forward(partly), forward(loaded(load_model(path)))) <= 1e-6


def test_the_host_can_make_a_second_untouched_copy(path, exact):
    patched = with_lora(load_model(path), LORA)
    make, args = patched.cached_patcher_init
    copy = make(*args, disable_dynamic=True)
    assert copy.model is not patched.model
    assert error(forward(loaded(copy)), exact) == 0


def test_where_the_host_pages_weights_in_a_model_on_the_cpu_still_loads(path, exact, monkeypatch):
    monkeypatch.setattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcherDynamic)
    assert error(forward(loaded(load_model(path))), exact) == 0
