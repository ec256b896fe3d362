"""The exported twin: which weights its file has in 8 bits, what that moves, and that training takes them up again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ovi_native.ovi_core.loading import loader
from ovi_native.ovi_core.loading.loader import read_transformer
from ovi_native.ovi_core.model.checkpoint import AUDIO
from ovi_native.ovi_core.weights.quantization import is_beside_weight
from safetensors.torch import save_file

from tools.mini.paths import AUDIO_VAE, MODEL, TEXT, VIDEO_VAE
from tools.mini.report.__main__ import MODELS
from tools.mini.report.studio import Order, Studio
from tools.mini.stages.export import twin_file
from tools.mini.stages.unpack import twin_weights
from tools.mini.training import networks
from tools.mini.training.config import Config, Twin
from tools.mini.training.twin_precision import twin_entries

Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def own() -> Weights:
    """A twin's weights by the module's names, none of them zeros."""
    with torch.device("cpu"), torch.random.fork_rng():
        torch.manual_seed(0)
        twin = networks.twin(Config(twin=Twin(dim=128, ffn_dim=128, num_layers=2)), "cpu")
        return {key: value + 0.02 * torch.randn_like(value) for key, value in twin.state_dict().items()}


@pytest.fixture(scope="module")
def file(own: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "twin.safetensors"
    save_file({key: value.contiguous() for key, value in twin_file(own).items()}, path)
    return path


def in_fp8(file: Path) -> set[str]:
    return {key for key, value in read_transformer(str(file)).items() if value.dtype == torch.float8_e4m3fn}


def test_matrices_of_blocks_and_of_the_text_are_fp8_and_all_else_is_finer(file: Path) -> None:
    weights, small = read_transformer(str(file)), in_fp8(file)
    of_blocks = {key for key in weights if key.removeprefix(AUDIO).startswith("blocks.") and weights[key].ndim == 2}
    of_text = {f"{tower}text_embedding.{layer}.weight" for tower in ("", AUDIO) for layer in (0, 2)}
    assert of_blocks
    assert small == of_blocks | of_text
    fine = {key: value.dtype for key, value in weights.items() if key not in small and not is_beside_weight(key)}
    assert {"time_projection.1.weight", "head.head.weight", f"{AUDIO}patch_embedding.0.weight"} <= fine.keys()
    assert set(fine.values()) == {torch.bfloat16}


def test_no_weight_is_off_by_more_than_half_a_step_of_its_type(own: Weights, file: Path) -> None:
    found, small = twin_weights(file), in_fp8(file)
    assert found.keys() == own.keys()
    for key, value in own.items():
        relative, least = 2.0**-8, 0.0
        if key in small:  # 3 bits of mantissa, and steps of 2^-9 around zero, where 448 is the matrix's largest value
            relative, least = relative + 2.0**-4, float(value.abs().max()) / 448 * 2**-10
        torch.testing.assert_close(found[key], value, rtol=1.01 * relative, atol=least)


def test_going_through_a_file_once_more_loses_nothing_more(file: Path) -> None:
    stored = read_transformer(str(file))
    again = {entry.name: entry.make() for entry in twin_entries(twin_weights(file))}
    assert again.keys() == stored.keys()
    for key, value in stored.items():
        scale = key.endswith(".weight_scale")  # the largest value is rounded to bfloat16 on the way
        torch.testing.assert_close(again[key].float(), value.float(), rtol=2**-8 if scale else 0, atol=0)


def test_a_clip_is_made_with_a_twin_in_fp8_that_was_loaded_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before means outside of the mode that ComfyUI runs nodes in, where it could not move quantised weights."""
    monkeypatch.setattr(loader, "MULTIPLIED_OUT", 0)
    for name in (TEXT, VIDEO_VAE, AUDIO_VAE):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(MODELS / name)
    (tmp_path / MODEL).parent.mkdir()
    save_file(twin_file(twin_weights(MODELS / MODEL)), tmp_path / MODEL)
    studio = Studio(tmp_path)
    assert studio.model.model.model_config.quant_config
    made = studio.make(Order(scene=0, width=32, height=32, seconds=0.4, steps=1))
    assert np.isfinite(made.frames).all()
    assert np.isfinite(made.sound).all()
