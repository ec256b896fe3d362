"""``dev.py inspect``: identifies a file and lists missing parts, from its header alone."""

from __future__ import annotations

import json
import struct

import pytest
import torch
import weight_layouts as layouts
from native_cases import tiny_wan, tiny_weights
from ovi_native.ovi_core.loading.inspection import inspect
from ovi_native.ovi_core.loading.variant_detection import variant_of
from ovi_native.ovi_core.spec import METADATA_KEY, VARIANTS
from ovi_native.tools import standins
from safetensors.torch import save_file
from seeded_weights import golden_json

from tools.dev.inspect_file import main


def report_on(weights, folder, name="file.safetensors", metadata=None):
    save_file(weights, folder / name, metadata)
    return inspect(str(folder / name))


def test_the_published_checkpoint_is_reported_from_its_header_alone(tmp_path):
    """A file of 23 GB on paper: its header with the published names and shapes, and a hole where the weights are."""
    shapes, at, header = golden_json("checkpoint_11b_keys.json"), 0, {}
    for key, shape in shapes.items():
        size = 2 * torch.Size(shape).numel()
        header[key] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    path = tmp_path / "model_960x960_10s.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)
    lines = inspect(str(path)).lines
    assert lines["file"] == "model_960x960_10s.safetensors, 23.32 GB, safetensors"
    assert lines["what"] == "An Ovi transformer: video and audio tower, 30 blocks of width 3072, text of width 4096."
    assert lines["weights"] == "2,073 with 11,660,753,108 values: bfloat16 23.32 GB."
    assert lines["variant"] == "960x960_10s, by its name."
    assert lines["missing"] == "Nothing."
    for file in ("text_encoders/umt5_xxl_fp16.safetensors", "vae/wan2.2_vae.safetensors", "v1-16.pth", "best_netG.pt"):
        assert file in lines["goes with"]
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    cut = inspect(str(path))
    assert not cut.usable
    assert "cut short" in cut.lines["wrong"]


@pytest.mark.parametrize("layout", ["blocks in pairs", "torch under app.model", "GGUF", "torch's old format"])
def test_a_model_is_known_in_any_layout(layout, tmp_path):
    path, _ = layouts.LOSSLESS[layout](tiny_weights(), tmp_path)
    report = inspect(path)
    assert report.usable, report
    assert "video and audio tower, 2 blocks of width 128, text of width 64" in report.lines["what"]


@pytest.mark.parametrize(
    ("name", "type"), [("nvfp4", "scaled uint8"), ("int8", "scaled int8"), ("mxfp8", "float8_e4m3fn")]
)
def test_a_quantised_model_is_known_and_its_types_are_reported(name, type, tmp_path):
    report = report_on(layouts.in_host_format(tiny_weights(), name)[0], tmp_path)
    assert report.usable, report
    assert type in report.lines["weights"]
    assert "text of width 64" in report.lines["what"]


def test_a_packed_gguf_is_reported_by_its_types(tmp_path):
    path, _ = layouts.write_gguf(tmp_path / "Ovi-960x960-10s-Q8_0.gguf", tiny_weights(), "Q8_0")
    report = inspect(path)
    assert report.usable, report
    assert "Q8_0" in report.lines["weights"]
    assert report.lines["variant"] == "960x960_10s, by its name."


@pytest.mark.parametrize(("tower", "other"), [("video", "audio"), ("audio", "video")])
def test_a_lone_tower_says_that_the_other_is_missing(tower, other, tmp_path):
    video, audio = layouts.two_files("", "")(tiny_weights(), tmp_path)
    report = inspect(video if tower == "video" else audio)
    assert report.usable, report
    assert f"the {tower} tower alone" in report.lines["what"]
    assert f"The {other} tower" in report.lines["missing"]


@pytest.mark.parametrize(
    ("weights", "what", "load_with"),
    [
        (lambda: standins.video_vae(0), "A Wan 2.2 video VAE", "VAELoader"),
        (lambda: standins.audio_vae(0), "An audio VAE with a vocoder", "Load Ovi Audio VAE"),
        (lambda: standins.text_encoder(0), "A UMT5 text encoder", "CLIPLoader"),
        (lambda: {"diffusion_model.blocks.0.self_attn.q.lora_A.weight": torch.zeros(4, 8)}, "A LoRA", "Load Ovi LoRA"),
    ],
)
def test_every_other_part_is_known(weights, what, load_with, tmp_path):
    report = report_on(weights(), tmp_path)
    assert report.usable, report
    assert report.lines["what"].startswith(what)
    assert load_with in report.lines["load with"]


def without(weights, key):
    return {name: value for name, value in weights.items() if name != key}


def with_a_number(type):
    """A model of which one weight is a number without axes, beside a scale."""
    key = "video_model.blocks.1.ffn.0.weight"
    return {**tiny_weights(), key: torch.zeros((), dtype=type), f"{key}_scale": torch.ones(())}


@pytest.mark.parametrize(
    ("weights", "wrong"),
    [
        (tiny_wan, "A Wan transformer, which is no part of Ovi"),
        (lambda: {"encoder.conv_in.weight": torch.zeros(8, 128, 3)}, "44.1 kHz"),
        (lambda: {"blocks.0.self_attn.q.weight._data": torch.zeros(1), "x.weight._scale": torch.zeros(1)}, "quanto"),
        (lambda: without(tiny_weights(), "video_model.blocks.1.ffn.0.weight"), "1 missing: blocks.1.ffn.0.weight"),
        (lambda: with_a_number(torch.float8_e4m3fn), "1 of another shape: blocks.1.ffn.0.weight []"),
        (lambda: with_a_number(torch.bfloat16), "1 of another shape: blocks.1.ffn.0.weight []"),
        (lambda: without(standins.video_vae(0), "decoder.conv1.weight"), "1 missing: decoder.conv1.weight"),
    ],
)
def test_what_cannot_be_used_is_named(weights, wrong, tmp_path, capsys):
    report = report_on(weights(), tmp_path)
    assert not report.usable
    assert wrong.lower() in report.lines["wrong"].lower()
    assert report.lines["remedy"].endswith(".")
    assert main([str(tmp_path / "file.safetensors")]) == 1
    assert "remedy" in capsys.readouterr().out


def test_dreamid_omni_is_known_by_its_name(tmp_path):
    report = report_on(tiny_weights(), tmp_path, "dreamid_omni.safetensors")
    assert "DreamID-Omni" in report.lines["what"]
    assert report.lines["variant"] == "dreamid_omni, by its name."
    assert "Ovi Person" in report.lines["note"]


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("model.safetensors", "720x720_5s"),
        ("sub/model_960x960.safetensors", "960x960_5s"),
        ("sub\\model_960x960_10s.safetensors", "960x960_10s"),
        ("Ovi-11B-fp8.safetensors", "720x720_5s"),
        ("model_fp8_e4m3fn.safetensors", "720x720_5s"),
        ("Wan_2_1_Ovi_audio_model_bf16.safetensors", "720x720_5s"),
        ("Wan2_2_Ovi_Video_fp8_e4m3fn_scaled_KJ.safetensors", "720x720_5s"),
        ("Wan2_2-5B-Ovi_960x960_fp8_e4m3fn_scaled_KJ.safetensors", "960x960_5s"),
        ("Wan2_2-5B-Ovi_960x960_10s_fp8_e4m3fn_scaled_KJ.safetensors", "960x960_10s"),
        ("wan2.2_ovi_video_10B_bf16.safetensors", "720x720_5s"),
        ("wan2.2_ovi1_1_audio_10B_bf16.safetensors", "960x960_5s"),
        ("wan2.2_ovi1_1_10s_video_10B_bf16.safetensors", "960x960_10s"),
        ("Ovi-960x960-10s-Q4_K.gguf", "960x960_10s"),
        ("ovi_mini.safetensors", "mini"),
        ("dreamid_omni.safetensors", "dreamid_omni"),
        ("sub/dreamid_omni.bf16.safetensors", "dreamid_omni"),
        ("dreamid_omni_fp8_e4m3fn.safetensors", "dreamid_omni"),
        ("DreamID-Omni-960x960-Q4_K.gguf", "dreamid_omni"),
        ("my merge.safetensors", None),
    ],
)
def test_variants_are_known_by_the_names_files_are_published_under(name, variant):
    found, _ = variant_of(name, {})
    assert (found.name if found else None) == variant


def test_a_header_that_names_the_variant_counts_more_than_the_name(tmp_path):
    report = report_on(tiny_weights(), tmp_path, "model_960x960.safetensors", {METADATA_KEY: "720x720_5s"})
    assert report.lines["variant"] == "720x720_5s, its header says so."
    assert variant_of("model_960x960.safetensors", {METADATA_KEY: "no such"})[0] == VARIANTS["960x960_5s"]
