"""The demo with real weights: which variant it takes, and what it sets in the shipped workflows."""

from __future__ import annotations

import pytest
from ovi_native.ovi_core.spec import VARIANTS

from tools.dev.full_weights import fit_to_variant, variant_among
from tools.dev.problems import DevError


@pytest.mark.parametrize(
    ("files", "variant"),
    [
        (["Wan/other.safetensors", "Ovi\\model_960x960.safetensors"], "960x960_5s"),
        (["ovi_mini.safetensors", "model_960x960_10s.safetensors", "model_960x960.safetensors"], "960x960_10s"),
        (["sub/Ovi-11B-bf16.safetensors"], "720x720_5s"),
        (["ovi_mini.safetensors"], "mini"),
    ],
)
def test_the_largest_variant_whose_model_is_there_is_taken(files, variant):
    assert variant_among(files).name == variant


def test_without_an_ovi_model_the_accepted_names_are_reported():
    with pytest.raises(DevError, match=r"holds 1 file.*model_960x960_10s\.safetensors.*--workflow"):
        variant_among(["flux.safetensors"])


def test_a_workflow_is_set_to_the_variant_and_keeps_everything_else():
    prompt = {
        "1": {"class_type": "OviPipelineLoader", "inputs": {"variant": "mini", "precision": "fp8"}},
        "2": {"class_type": "OviTextEncode", "inputs": {"clip": ["1", 1], "prompt": "a cat", "variant": "mini"}},
        "3": {"class_type": "EmptyOviLatent", "inputs": {"width": 256, "height": 256, "seconds": 5.0, "batch_size": 1}},
        "4": {"class_type": "OviSampler", "inputs": {"steps": 20, "video_cfg": 2.0, "skip_layers": "2", "seed": 7}},
        "5": {"class_type": "SaveVideo", "inputs": {"video": ["4", 0]}},
    }
    fitted = fit_to_variant(prompt, VARIANTS["720x720_5s"])
    assert fitted["1"]["inputs"] == {"variant": "720x720_5s", "precision": "fp8"}
    assert fitted["2"]["inputs"] == {"clip": ["1", 1], "prompt": "a cat", "variant": "720x720_5s"}
    assert fitted["3"]["inputs"] == {"width": 704, "height": 704, "seconds": 5.0, "batch_size": 1}
    assert fitted["4"]["inputs"] == {"steps": 50, "video_cfg": 4.0, "skip_layers": "11", "seed": 7}
    assert fitted["5"] == prompt["5"]
    assert prompt["3"]["inputs"]["width"] == 256
