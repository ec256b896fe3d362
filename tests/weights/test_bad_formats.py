"""Model files in formats that cannot be used, or damaged in a way of their format: each is told what it is."""

from __future__ import annotations

import builtins
import io
import pickle
import zipfile

import gguf
import numpy as np
import pytest
import torch
import weight_layouts as layouts
from native_cases import tiny_weights
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.text import umt5
from ovi_native.ovi_core.vae import video_vae
from refusals import refusal
from safetensors.torch import save_file

INSTEAD = "Use the bf16, the scaled fp8 or a GGUF file of the same model."


def refused(path, found, remedy, input="model_name", load=load_model):
    return refusal(load, str(path), node="", input=input, found=found, remedy=remedy)


def of_keys(*keys, prefix="blocks.0.self_attn.q."):
    return {prefix + key: torch.zeros(4, 4) for key in keys}


@pytest.mark.parametrize(
    ("weights", "found"),
    [
        (of_keys("weight._data", "weight._scale"), "quantized by quanto (int8)"),
        (of_keys("weight._data", "weight._scale", prefix="model.diffusion_model.blocks.0.ffn.0."), "quanto"),
        (of_keys("qweight", "wscales", "proj_down", "lora_down"), "quantized for nunchaku"),
        (of_keys("qweight", "qzeros", "scales"), "quantized by GPTQ or AWQ"),
        (of_keys("weight", "weight.absmax", "weight.quant_state.bitsandbytes__nf4"), "quantized by bitsandbytes"),
    ],
)
def test_quantization_of_other_programs_is_named_with_what_to_use_instead(weights, found, tmp_path):
    save_file(weights, tmp_path / "model.safetensors")
    refused(tmp_path / "model.safetensors", found, INSTEAD)


@pytest.mark.parametrize(
    ("weights", "found"),
    [
        (
            {"blocks.0.self_attn.q.weight": torch.zeros(2), "patch_embedding.weight": torch.zeros(5120, 36, 1, 2, 2)},
            "a Wan transformer (14B, 36 input channels)",
        ),
        ({"model.diffusion_model.patchify_proj.weight": torch.zeros(2)}, "an LTX-Video transformer"),
        (
            {f"model.diffusion_model.{part}patchify_proj.weight": torch.zeros(2) for part in ("", "audio_")},
            "an LTX-2 transformer (video and audio)",
        ),
        ({"diffusion_model.double_blocks.0.x": torch.zeros(2)}, "of the Flux or Hunyuan family"),
    ],
)
def test_models_of_other_families_are_named(weights, found, tmp_path):
    save_file(weights, tmp_path / "model.safetensors")
    refused(tmp_path / "model.safetensors", found, "Pick an Ovi file")


class RunsCode:
    def __reduce__(self):
        return print, ("code from a file was run",)


def zipped(name):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(name, "x" * 100)
    return content.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("model.ckpt", pickle.dumps({"state_dict": RunsCode()}), "a pickle that holds code"),
        ("model.safetensors", zipped("ovi/model.safetensors"), "a packed archive (ZIP), which has to be unpacked"),
        ("model.safetensors", b"7z\xbc\xaf\x27\x1c" + bytes(80), "a packed archive (7z)"),
        ("model.safetensors", b"Rar!\x1a\x07\x01" + bytes(80), "a packed archive (RAR)"),
        ("model.pth", b"\x1f\x8b\x08" + bytes(80), "a packed archive (gzip)"),
        ("model.safetensors", b'{"weight_map": {"a": "model-00001.safetensors"}}', "an index of weight files"),
        ("model.safetensors", b"<?xml version='1.0'?><Error>AccessDenied</Error>", "a server's message (XML)"),
        ("model.safetensors", b"Entry not found" + bytes(80), "its first bytes are those of no weight file"),
        ("model.gguf", b"GGUF\x03\x00\x00\x00", "damaged or no weight file"),
        ("model.gguf", b"GGUF\x63\x00\x00\x00" + bytes(200), "version 99"),
    ],
)
def test_what_is_no_weight_file_is_said_to_be_what_it_is(name, content, found, tmp_path, capsys):
    (tmp_path / name).write_bytes(content)
    error = refused(tmp_path / name, found, "")
    assert name in error.found
    assert "code from a file was run" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["model.safetensors", "model.gguf", "model.pth"])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_a_file_cut_short_is_to_be_fetched_again(name, share, tmp_path):
    path = tmp_path / name
    if name.endswith(".gguf"):
        layouts.write_gguf(path, tiny_weights(), "Q8_0")
    elif name.endswith(".pth"):
        torch.save(tiny_weights(), path)
    else:
        save_file(tiny_weights(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    error = refused(path, f"'{name}', which is damaged", f"Fetch '{name}' again")
    if name == "model.safetensors" and share > 0.01:
        assert f"{int(share * len(content)):,} of its {len(content):,} bytes" in error.found


def written_gguf(path, tensors):
    """A GGUF file of tensors by name: an array, or bytes and the name of their type."""
    writer = gguf.GGUFWriter(str(path), "llama")
    for key, value in tensors.items():
        if isinstance(value, tuple):
            writer.add_tensor(key, value[0], raw_dtype=gguf.GGMLQuantizationType[value[1]])
        else:
            writer.add_tensor(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_of_an_unusual_type_names_it_and_those_that_can_be_read(tmp_path):
    path = written_gguf(tmp_path / "m.gguf", {"blocks.0.ffn.0.weight": (np.zeros((4, 56), np.uint8), "IQ1_M")})
    assert "Q4_K" in refused(path, "weights of the type IQ1_M", "Pick a file of one of these types").accepted


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("blk.0.attn_q.weight", "a language model (GGUF)"),
        ("enc.blk.0.attn_q.weight", "a T5 text encoder in llama.cpp's"),
    ],
)
def test_a_gguf_of_something_else_is_named(key, found, tmp_path):
    path = written_gguf(tmp_path / "m.gguf", {key: np.zeros((4, 4), np.float32)})
    refused(path, found, "Pick an Ovi file")
    refused(path, found, "Pick wan2.2_vae", "vae_name", video_vae.read_video_vae)
    refused(path, found, "Pick one of these two files", "text_encoder", umt5.read_text_encoder)


def test_without_the_library_a_gguf_says_how_to_install_it(tmp_path, monkeypatch):
    path, _ = layouts.write_gguf(tmp_path / "model.gguf", tiny_weights(), "Q8_0")
    usual = builtins.__import__

    def without_gguf(name, *args, **kwargs):
        if name == "gguf":
            raise ImportError(name)
        return usual(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_gguf)
    refused(path, "no library for it", "pip install gguf")


def test_a_gguf_of_ovi_that_lacks_a_weight_names_it(tmp_path):
    weights = {key: value for key, value in tiny_weights().items() if "blocks.1.ffn.2.weight" not in key}
    path, _ = layouts.write_gguf(tmp_path / "model.gguf", weights, "Q4_0")
    refused(path, "missing: blocks.1.ffn.2.weight", "fetch the published one again")
