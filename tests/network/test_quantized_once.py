"""What several matrices of scaled fp8 multiply is quantised once for them, with the same result to the bit.

There is no card here: ComfyUI's layers are told that there is, and multiply the quantised values in full.
"""

from __future__ import annotations

import logging

import comfy.model_management
import pytest
import tiny_ovi as tiny
import torch
import weight_layouts as layouts
from comfy.quant_ops import QuantizedTensor
from fusion_cases import published_weights
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.model.fp8_matmuls import with_fp8_matmuls
from ovi_native.ovi_core.network import layers
from ovi_native.ovi_core.network.blocks import OviConfig
from ovi_native.ovi_core.sampling.model_patches import with_chunks
from safetensors.torch import save_file

TOWER_BLOCKS = 2 * tiny.SIZES["num_layers"]
TEXT_EMBEDDINGS = 2 * 2
EACH = 12
"""Matrices of a tower's block: q, k, v, o of self-attention; q, o, k and v of cross-attention to the text, and to the
other tower; two of the feed-forward."""
SHARED = 4
"""Quantisations that need not be: of self-attention two, of each part of cross-attention one."""


@pytest.fixture(autouse=True)
def as_on_a_card(monkeypatch):
    monkeypatch.setattr(comfy.model_management, "supports_fp8_compute", lambda device=None: True)
    monkeypatch.setattr(logging.getLogger("comfy_kitchen.tensor.fp8"), "disabled", True)  # of each product in full
    with torch.inference_mode():  # as ComfyUI runs nodes
        yield


@pytest.fixture
def scales(monkeypatch):
    """The scale that each quantisation was given."""
    given, quantise = [], QuantizedTensor.from_float

    def noted(tensor, layout, scale=None, **more):
        given.append(scale)
        return quantise(tensor, layout, scale=scale, **more)

    monkeypatch.setattr(QuantizedTensor, "from_float", noted)
    return given


def written(folder, name, input_scale=None, plain=False):
    """A MODEL whose large matrices are in one of ComfyUI's formats, or plainly cast to fp8."""
    weights = published_weights(tiny.SIZES)
    if plain:
        stored = {k: v.to(torch.float8_e4m3fn) if layouts.is_large(k, v) else v for k, v in weights.items()}
    else:
        stored, _ = layouts.in_host_format(weights, name)
    if input_scale is not None:
        marks = [key for key in stored if key.endswith("comfy_quant")]
        stored |= {key.replace("comfy_quant", "input_scale"): torch.tensor(input_scale) for key in marks}
    save_file(stored, folder / "model.safetensors")
    return load_model(str(folder / "model.safetensors"))


def both_ways(model, scales):
    """Numbers of quantisations in a step, shared and not; the results must be equal."""
    counts, results = [], []
    for share in (layers.quantized_once, lambda x, *layers: None):
        scales.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(layers, "quantized_once", share)
            results.append(tiny.run(tiny.guider(model, skip_layers=""), steps=1))
        counts.append(len(scales))
    assert all(map(torch.equal, *results))
    assert tiny.finite(results[0])
    return counts


def test_scaled_fp8_is_quantised_once_for_each_tensor(tmp_path, scales):
    model = written(tmp_path, "float8_e4m3fn")
    alone = TOWER_BLOCKS * EACH + TEXT_EMBEDDINGS
    assert both_ways(model, scales) == [alone - TOWER_BLOCKS * SHARED, alone]
    shared, alone = both_ways(with_chunks(model, 5), scales)  # the query's chunks are quantised apart
    assert 0 < alone - shared <= TOWER_BLOCKS * SHARED
    off, _ = with_fp8_matmuls(model, "off")
    assert both_ways(off, scales) == [0, 0]


def test_comfyui_is_told_of_what_is_quantised(tmp_path, monkeypatch):
    """At the published sizes and in float32; these layers do not multiply plain fp8 in fp8."""

    def told(model):
        monkeypatch.setattr(model.model.diffusion_model, "config", OviConfig())
        return model.model.memory_required((1, 48, 31, 45, 45))

    assert told(written(tmp_path, "float8_e4m3fn")) > 1.1 * told(written(tmp_path, "plain", plain=True))


def test_scales_of_the_file_are_kept(tmp_path, scales):
    shared, alone = both_ways(written(tmp_path, "float8_e4m3fn", input_scale=0.02), scales)
    assert shared == alone > 0
    assert [float(scale) for scale in scales] == pytest.approx([0.02] * alone)


@pytest.mark.parametrize("name", ["float8_e5m2", "int8", "mxfp8", "plain"])
def test_other_weights_are_as_they_were(tmp_path, scales, name):
    shared, alone = both_ways(written(tmp_path, name, plain=name == "plain"), scales)
    assert shared == alone


def patched(layer):
    layer.weight_function = [lambda weight: weight * 2]


def bypassed(layer):
    original = layer.forward
    layer.forward = lambda x: original(x) + x.sum()


def hooked(layer):
    layer.register_forward_pre_hook(lambda layer, given: (given[0] * 2,))


@pytest.mark.parametrize("change", [patched, bypassed, hooked])
def test_a_changed_layer_shares_nothing(tmp_path, scales, change):
    """One of self-attention's three, as a LoRA changes it: of weights that are offloaded, and in bypass mode."""
    model = written(tmp_path, "float8_e4m3fn")
    comfy.model_management.load_models_gpu([model])  # which takes away patches of before
    change(model.model.diffusion_model.blocks[1].self_attn.v)
    shared, alone = both_ways(model, scales)
    assert alone - shared == TOWER_BLOCKS * SHARED - 2
