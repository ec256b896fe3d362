"""Files that are damaged or made to harm: each is refused by name, at once, and what is only unusual loads."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest
import resource_use
import torch
from native_cases import tiny_weights
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.text.umt5 import read_text_encoder
from ovi_native.ovi_core.vae.audio_vae import read_audio_vae
from ovi_native.ovi_core.vae.video_vae import read_video_vae
from ovi_native.ovi_core.weights import comfyui
from ovi_native.ovi_core.weights.files import read_header
from ovi_native.tools import standins
from safetensors.torch import save_file
from untrusted import read, refused

CASES = Path(__file__).parent / "cases"
LOADERS = (load_model, read_text_encoder, read_video_vae, read_audio_vae)
LAYER = "video_model.blocks.0.self_attn.q"


@pytest.mark.parametrize("load", LOADERS, ids=lambda load: load.__name__)
@pytest.mark.parametrize("case", sorted(path.name for path in CASES.iterdir()))
def test_a_damaged_file_is_refused_by_every_loader(case, load, tmp_path):
    shutil.copy(CASES / case, tmp_path / case)
    refused(str(tmp_path / case), run=load)
    assert read_or_refused(tmp_path / case) == read_or_refused(tmp_path / case)


def read_or_refused(path):
    """The names in a file's header, or why it is refused."""
    try:
        return sorted(read_header(str(path), input="file", accepted="weights").weights)
    except OviError as error:
        return str(error)


def with_header(path, text, data=bytes(64)):
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize("length", [0x7B20, 0x7B0A, 0x7B7B, 0x3C68])
def test_a_header_whose_length_spells_another_format_loads(length, tmp_path):
    entry = b'"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    head = b'{"__metadata__":{"x":"'
    text = head + b"y" * (length - len(head) - len(entry) - 3) + b'"},' + entry
    path = with_header(tmp_path / "odd.safetensors", text, struct.pack("<f", 5))
    assert len(text) == length
    assert read(path).weights["x"].tolist() == [5]
    assert read_header(str(path), input="file", accepted="").weights["x"].shape == (1,)


@pytest.mark.parametrize(
    "text", [b"[" * 100_000, b'{"a":' * 100_000, b"{" + b'"a":1,' * 100_000, b'{"a":{"dtype":"F32"}}']
)
def test_a_header_that_is_no_list_of_tensors_is_refused(text, tmp_path):
    refused(with_header(tmp_path / "m.safetensors", b"{" + text[1:]), "'m.safetensors', which is damaged")


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**60]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F4", "shape": [128], "data_offsets": [0, 64]},
        {"dtype": "F32", "shape": [16], "data_offsets": [4, 68]},
    ],
)
def test_shapes_and_offsets_are_held_against_the_file(entry, tmp_path):
    path = with_header(tmp_path / "m.safetensors", json.dumps({"x": entry}).encode())
    refused(path, "'m.safetensors', which is damaged")
    refused(path, "'m.safetensors'", run=lambda path: read_header(str(path), input="file", accepted=""))


def test_a_header_far_longer_than_any_is_refused_unread(tmp_path):
    with (tmp_path / "m.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", 90 << 20) + b"{")
        file.truncate(100 << 20)
    with resource_use.memory_below(8 << 20):
        refused(tmp_path / "m.safetensors", "where 16,777,216 are the limit")


def test_no_metadata_and_null_are_the_same(tmp_path):
    text = b'{"__metadata__":null,"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    assert read(with_header(tmp_path / "m.safetensors", text, bytes(4))).metadata == {}


# Quantized layers.


def quantized(folder, mark=None, metadata=None, **beside):
    """The tiny model with one layer in fp8 and what is written beside it."""
    weights = dict(tiny_weights())
    weights[f"{LAYER}.weight"] = weights[f"{LAYER}.weight"].to(torch.float8_e4m3fn)
    weights |= {f"{LAYER}.{name}": value for name, value in beside.items()}
    if mark is not None:
        weights[f"{LAYER}.comfy_quant"] = torch.tensor(list(mark), dtype=torch.uint8)
    save_file(weights, folder / "m.safetensors", metadata)
    return str(folder / "m.safetensors")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "7", '{"layers":3}', '{"layers":{"a":3}}', '{"layers":[1]}', "[" * 9000]
)
def test_a_list_of_quantized_layers_that_cannot_be_read_is_refused(text, tmp_path):
    path = quantized(tmp_path, metadata={"_quantization_metadata": text}, weight_scale=torch.ones(()))
    refused(path, "list of quantized layers cannot be read", run=load_model)


@pytest.mark.parametrize(
    "mark",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"format":3}',
        b"{}",
        b'{"format":"int8_tensorwise","convrot_groupsize":"x"}',
        b'{"format":"convrot_w4a4","params":{"convrot_groupsize":0}}',
        b'{"format":"float8_e4m3fn","convrot_groupsize":-1}',
    ],
)
def test_a_mark_that_cannot_be_read_is_refused(mark, tmp_path):
    refused(
        quantized(tmp_path, mark, weight_scale=torch.ones(())),
        "self_attn.q.comfy_quant' cannot be read",
        run=load_model,
    )


LATER = {"asym_w4a8_int8", "awq_w4a16", "svdquant_w4a4", "no_such_format"} - comfyui.quantized_formats().keys()
"""Formats that this ComfyUI does not know: later releases bring some of them, the last none."""


@pytest.mark.parametrize("format", sorted(LATER))
def test_a_format_of_another_comfyui_is_refused_by_name(format, tmp_path):
    path = quantized(tmp_path, json.dumps({"format": format}).encode(), weight_scale=torch.ones(()))
    refused(path, f"quantized as {format}, which this ComfyUI does not compute with", run=load_model)


def test_a_format_that_a_later_comfyui_knows_is_not_refused_by_name(tmp_path, monkeypatch):
    later = {**comfyui.quantized_formats(), "awq_w4a16": frozenset({"weight_scale"})}
    monkeypatch.setattr(comfyui, "quantized_formats", lambda: later)
    path = quantized(tmp_path, b'{"format":"awq_w4a16"}', weight_scale=torch.ones(()))
    assert "does not compute with" not in str(refused(path, run=load_model))  # its 8-bit layer has another shape


@pytest.mark.parametrize(
    ("format", "scales"),
    [
        ("float8_e4m3fn", {"weight_scale": torch.ones(2)}),
        ("float8_e4m3fn", {"weight_scale": torch.ones(0)}),
        ("mxfp8", {"weight_scale": torch.ones(7, dtype=torch.uint8)}),
        ("mxfp8", {}),
        ("nvfp4", {"weight_scale": torch.ones(128, 16, dtype=torch.uint8)}),
        ("int8_tensorwise", {"weight_scale": torch.ones(3)}),
        ("convrot_w4a4", {}),
    ],
)
def test_scales_of_another_size_are_refused(format, scales, tmp_path):
    mark = json.dumps({"format": format}).encode()
    refused(quantized(tmp_path, mark, **scales), f"weights as {format} with ", run=load_model)


def test_a_quantized_layer_of_another_shape_is_refused(tmp_path):
    weights = {f"{LAYER}.weight": torch.zeros(64, 128, dtype=torch.float8_e4m3fn)}
    save_file(tiny_weights() | weights | {f"{LAYER}.weight_scale": torch.ones(())}, tmp_path / "m.safetensors")
    refused(str(tmp_path / "m.safetensors"), "q.weight [64, 128] instead of [128, 128]", run=load_model)


@pytest.mark.parametrize("scale", [torch.ones(2, 1), torch.ones(0), torch.ones(1, 1, 3, 3)])
def test_a_layer_that_is_no_matrix_with_scales_of_another_size_is_refused(scale, tmp_path):
    weights = {"video_model.patch_embedding.weight": torch.ones(4, 4, 1, 2, 2)}
    save_file(weights | {"video_model.patch_embedding.weight_scale": scale}, tmp_path / "m.safetensors")
    refused(str(tmp_path / "m.safetensors"), "numbers as 'video_model.patch_embedding.weight_scale'", run=load_model)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1, 1, 1, 1)])
@pytest.mark.parametrize("load", LOADERS, ids=lambda load: load.__name__)
def test_weights_with_other_axes_are_refused(load, shape, tmp_path):
    keys = ("conv2.weight", "decoder.middle.0.residual.0.gamma", "decoder.upsamples.0.upsamples.0.x", "shared.weight")
    save_file({key: torch.ones(shape) for key in keys}, tmp_path / "m.safetensors")
    refused(str(tmp_path / "m.safetensors"), run=load)


def test_a_path_that_is_none_is_refused():
    for path in ("/no/such/file", "", "a\0b", "/"):
        refused(path, "", run=load_model)


def test_a_text_encoder_of_far_too_many_layers_is_refused(tmp_path):
    keys = {f"encoder.block.{i}.layer.0.SelfAttention.q.weight": torch.zeros(4, 4) for i in range(300)}
    keys["encoder.block.299.layer.0.SelfAttention.relative_attention_bias.weight"] = torch.zeros(4, 4)
    others = {
        "shared.weight": torch.zeros(4, 4),
        "encoder.block.0.layer.1.DenseReluDense.wi_0.weight": torch.zeros(4, 4),
    }
    save_file(keys | others | {"spiece_model": torch.zeros(4, dtype=torch.uint8)}, tmp_path / "m.safetensors")
    refused(str(tmp_path / "m.safetensors"), "of 300 layers", run=read_text_encoder)


@pytest.mark.parametrize("content", [b"", b"\x0a", b"no model", bytes(1000)])
def test_a_tokenizer_that_is_none_is_refused(content, tmp_path):
    weights = dict(standins.text_encoder(0)) | {"spiece_model": torch.tensor(list(content), dtype=torch.uint8)}
    save_file(weights, tmp_path / "m.safetensors")
    refused(str(tmp_path / "m.safetensors"), "a tokenizer ", run=read_text_encoder)
