"""What later and earlier versions of ComfyUI call in another way, imitated."""

from __future__ import annotations

import sys
import types

import comfy.model_patcher
import comfy.supported_models_base
import pytest
import torch
from native_cases import error, forward, loaded, tiny_weights, write_tiny
from ovi_native.nodes.latents import EmptyOviLatent
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.model.comfyui import known_options, patcher_options
from ovi_native.ovi_core.model.latent_format import OviLatentFormat
from ovi_native.ovi_core.model.patcher import _with_wan_names
from ovi_native.ovi_core.weights import gguf_tensors


class LaterPatcher(comfy.model_patcher.ModelPatcher):
    """As from 0.31 on: the constructor takes more, and a clone is made with it."""

    def __init__(self, *args, fast_disk=False, **kwargs):
        super().__init__(*args, **kwargs)
        self.fast_disk = fast_disk

    def clone(self, *args, **kwargs):
        clone = super().clone(*args, **kwargs)
        clone.fast_disk = self.fast_disk
        return clone


@pytest.fixture
def on_a_fast_disk(monkeypatch):
    storage = types.SimpleNamespace(state_dict_fast_disk=lambda weights: bool(weights))
    monkeypatch.setitem(sys.modules, "comfy.storage", storage)


def test_what_a_later_patcher_is_told_of_the_disk_is_passed_on(tmp_path, monkeypatch, on_a_fast_disk):
    monkeypatch.setattr(comfy.model_patcher, "ModelPatcher", LaterPatcher)
    _with_wan_names.cache_clear()
    try:
        model = load_model(write_tiny(tmp_path))
        assert model.fast_disk
        assert model.clone().fast_disk
        assert all(part.isfinite().all() for part in forward(loaded(model)))
    finally:
        _with_wan_names.cache_clear()


def test_todays_patcher_is_not_told_what_it_does_not_take(on_a_fast_disk):
    assert patcher_options(comfy.model_patcher.ModelPatcher, {"a": torch.zeros(1)}) == {}
    assert patcher_options(LaterPatcher, {"a": torch.zeros(1)}) == {"fast_disk": True}


def test_without_that_module_or_with_another_nothing_is_told(monkeypatch):
    assert patcher_options(LaterPatcher, {}) == {}
    monkeypatch.setitem(sys.modules, "comfy.storage", types.SimpleNamespace())
    assert patcher_options(LaterPatcher, {}) == {}
    monkeypatch.setitem(sys.modules, "comfy.storage", types.SimpleNamespace(state_dict_fast_disk=lambda: True))
    assert patcher_options(LaterPatcher, {}) == {}


def test_options_are_those_that_a_function_takes():
    assert known_options(lambda a, b=1: None, {"b": 2, "c": 3}) == {"b": 2}
    assert known_options(lambda a, **more: None, {"b": 2, "c": 3}) == {"b": 2, "c": 3}


def test_a_model_is_loaded_where_its_types_are_set_without_a_device(tmp_path, monkeypatch):
    """As in 0.26."""

    def set_inference_dtype(self, dtype, manual_cast_dtype):
        self.unet_config["dtype"], self.manual_cast_dtype = dtype, manual_cast_dtype

    expected = forward(loaded(load_model(write_tiny(tmp_path))))
    monkeypatch.setattr(comfy.supported_models_base.BASE, "set_inference_dtype", set_inference_dtype)
    assert error(forward(loaded(load_model(write_tiny(tmp_path)))), expected) == 0


def test_memory_is_estimated_whatever_else_is_said_of_the_attention(tmp_path):
    model = load_model(write_tiny(tmp_path)).model
    shape = (1, 48, 2, 4, 4)
    told = model.memory_required(shape, cond_shapes={}, memory_efficient_attention=True)
    assert told == model.memory_required(shape) > 0


def test_a_plain_empty_latent_becomes_a_joint_one():
    """As later versions call it, after they have brought channels and sizes to the model's."""
    video, audio = OviLatentFormat().fix_empty_latent(torch.zeros(2, 48, 31, 4, 6)).unbind()
    assert (tuple(video.shape), tuple(audio.shape)) == ((2, 48, 31, 4, 6), (2, 20, 157))


@pytest.mark.parametrize("towers", ["video + audio", "video only", "audio only"])
def test_what_the_node_for_empty_latents_makes_stays_what_it_is(towers):
    latent = EmptyOviLatent.execute(96, 64, 0.4, 1, towers).result[0]["samples"]
    assert OviLatentFormat().fix_empty_latent(latent) is latent


@pytest.mark.parametrize("shape", [(1, 48, 1, 4, 4), (1, 48, 4, 4), (1, 20, 30)])
def test_what_is_no_video_stays_what_it_is(shape):
    latent = torch.zeros(shape)
    assert OviLatentFormat().fix_empty_latent(latent) is latent


def test_a_merge_asks_for_no_weight_that_has_none(tmp_path, monkeypatch):
    """Later versions give None for what a layer saves beside its weight."""
    model, other = (load_model(write_tiny(tmp_path, seed, f"{seed}.safetensors")) for seed in (11, 12))
    original = comfy.model_patcher.get_key_weight

    def get_key_weight(model, key):
        return (None, None, None) if key.endswith((".comfy_quant", ".weight_scale")) else original(model, key)

    saved = type(model).model_state_dict

    def with_scales(self, filter_prefix=None):
        return saved(self, filter_prefix) | {"diffusion_model.blocks.0.ffn.0.weight_scale": torch.ones(())}

    monkeypatch.setattr(comfy.model_patcher, "get_key_weight", get_key_weight)
    monkeypatch.setattr(type(model), "model_state_dict", with_scales)
    patches = model.get_key_patches("diffusion_model.")
    assert len(patches) == len(tiny_weights())
    other.add_patches(patches, 0.5, 0.5)
    assert all(part.isfinite().all() for part in forward(loaded(other)))


# -- layers that compute in another way, as after a rework of Linear's forward ---------------


def other_call(*_, **__):
    raise TypeError("mixed_precision_ops() got an unexpected keyword argument 'full_precision_mm'")


def other_layers(*_, **__):
    """Layers without what ours are made of."""
    return types.SimpleNamespace(Linear=torch.nn.Linear)


def other_forward(original):
    """Layers that no longer ask a weight for its values."""

    def ops(*args, **kwargs):
        class Later(original(*args, **kwargs)):
            class Linear(original(*args, **kwargs).Linear):
                def forward(self, input, prologue=None, epilogue=None):
                    return torch.nn.functional.linear(input, self.weight._qdata[:, :32].float())

        return Later

    return ops


@pytest.mark.parametrize(
    "later",
    [other_call, other_layers, other_forward(gguf_tensors.mixed_precision_ops)],
    ids=["call", "layers", "forward"],
)
def test_packed_weights_end_with_a_message_where_layers_compute_in_another_way(monkeypatch, later):
    monkeypatch.setattr(gguf_tensors, "mixed_precision_ops", later)
    with pytest.raises(OviError, match=r"ComfyUI \d+\.\d+\.\d+, whose layers do not compute with packed") as caught:
        gguf_tensors.operations(torch.float32)
    assert "use the bf16 or scaled fp8 file" in caught.value.remedy


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16])
def test_todays_layers_compute_with_packed_weights(dtype):
    assert gguf_tensors.operations(dtype).Linear
