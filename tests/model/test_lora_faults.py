"""Load Ovi LoRA on adapters of every kind, whole and broken: ComfyUI applies what is taken, and what is not is named.

ComfyUI's own ``calculate_weight`` decides: it logs an error for an adapter that it cannot apply.
"""

from __future__ import annotations

import logging
from typing import Any

import comfy.lora
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lora_cases import (
    CONFIG,
    DIM,
    FFN_0,
    KINDS,
    LAYERS,
    MATRICES,
    NORM,
    PART_NAMES,
    PATCH,
    PREFIXES,
    RANK,
    TENSORS,
    Q,
    adapter,
    matrix,
    named,
    rand,
)
from native_cases import forward, loaded, write_tiny
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.model.checkpoint import expected_weights
from ovi_native.ovi_core.model.lora import place, with_lora
from safetensors.torch import save_file


def applied(weights: dict[str, torch.Tensor], caplog: Any) -> dict[str, bool]:
    """Which weights ComfyUI changes with what is taken of a LoRA; an error that it logs fails the test."""
    placed = place(weights, CONFIG, "a.safetensors")
    changed = {}
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        for key, patch in placed.patches.items():
            name = key.removeprefix("diffusion_model.")
            weight = rand(*expected_weights(CONFIG)[name].shape) + 0.01
            new = comfy.lora.calculate_weight([(1.0, patch, 1.0, None, None)], weight.clone(), key)
            assert new.shape == weight.shape
            assert new.isfinite().all()
            changed[name] = not torch.equal(new, weight)
    assert not [record.message for record in caplog.records]
    return changed


@pytest.mark.parametrize("layer", MATRICES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alpha", [None, 2.0])
def test_every_kind_of_adapter_changes_its_layer(caplog, kind, layer, alpha):
    parts = adapter(kind, layer) | ({} if alpha is None else {"alpha": torch.tensor(alpha)})
    assert applied(named(layer, parts), caplog) == {f"{layer}.weight": True}


@pytest.mark.parametrize("layer", [PATCH, "audio_model.patch_embedding.0", NORM, "blocks.0.modulation"])
@pytest.mark.parametrize("kind", ["lora", "loha", "lokr", "oft", "diff"])
def test_layers_that_are_no_matrices_too(caplog, kind, layer):
    found = applied(named(layer, adapter(kind, layer)), caplog)
    rows = matrix(layer)[0]
    assert found == {f"{layer}.weight": kind != "oft" or rows > 1}


@pytest.mark.parametrize("spelling", ["{}.diff_m", "diffusion_model.{}.diff_m", "lora_unet_{}.diff_m"])
@pytest.mark.parametrize("layer", ["blocks.1", "head", "audio_model.blocks.0", "audio_model.head"])
def test_differences_of_the_modulation_change_it(caplog, layer, spelling):
    key = spelling.format(layer.replace(".", "_") if "unet" in spelling else layer)
    count = 2 if layer.endswith("head") else 6
    for shape in ((1, count, DIM), (count, DIM)):
        assert applied({key: rand(*shape)}, caplog) == {f"{layer}.modulation.weight": True}


def test_the_modulation_that_is_changed_is_the_one_that_is_read(tmp_path):
    lora = {"blocks.0.diff_m": torch.ones(1, 6, DIM), "audio_model.head.diff_m": torch.ones(2, DIM)}
    save_file(lora, tmp_path / "lora.safetensors")
    model = load_model(write_tiny(tmp_path))
    before, modulation = forward(loaded(model)), model.model.diffusion_model.blocks[0].modulation.weight.clone()
    patched, notes = with_lora(model, str(tmp_path / "lora.safetensors"), 1.0, 1.0)
    after = forward(loaded(patched))
    assert notes == []
    assert torch.allclose(patched.model.diffusion_model.blocks[0].modulation.weight, modulation + 1)
    assert not any(torch.allclose(one, other) for one, other in zip(before, after, strict=True))


# -- what contradicts itself ----------------------------------------------------------


def broken() -> dict[str, tuple[dict, str]]:
    """Smallest adapters of every way to be broken, each with the key that has to be named."""
    low = adapter("lora", Q)
    loha, lokr, glora = adapter("loha", Q), adapter("lokr", Q), adapter("glora", Q)
    return {
        "ranks": (low | {"lora_up.weight": rand(DIM, 8)}, "lora_up.weight"),
        "no down": ({"lora_up.weight": rand(DIM, RANK)}, "lora_up.weight"),
        "no up": ({"lora_down.weight": rand(RANK, DIM)}, "lora_down.weight"),
        "0-dim half": (low | {"lora_up.weight": torch.tensor(1.0)}, "lora_up.weight"),
        "1-dim half": (low | {"lora_down.weight": rand(DIM)}, "lora_down.weight"),
        "empty half": (low | {"lora_up.weight": rand(DIM, 0), "lora_down.weight": rand(0, DIM)}, "lora_down.weight"),
        "several alphas": (low | {"alpha": torch.ones(3)}, "alpha"),
        "NaN alpha": (low | {"alpha": torch.tensor(torch.nan)}, "alpha"),
        "NaN": (low | {"lora_up.weight": torch.full((DIM, RANK), torch.nan)}, "lora_up.weight"),
        "infinite in float8": (
            low | {"lora_up.weight": torch.full((DIM, RANK), torch.inf).to(torch.float8_e5m2)},
            "lora_up.weight",
        ),
        "huge": (low | {"lora_down.weight": torch.full((RANK, DIM), 1e30)}, "lora_down.weight"),
        "huge in bfloat16": (glora | {"a1.weight": glora["a1.weight"].bfloat16() * 1e30}, "a1.weight"),
        "huge alpha": (low | {"alpha": torch.tensor(-3e38)}, "alpha"),
        "huge difference": ({"diff": torch.full((DIM, DIM), -1e20)}, "diff"),
        "complex": (low | {"lora_up.weight": rand(DIM, RANK).to(torch.complex64)}, "lora_up.weight"),
        "middle": (low | {"lora_mid.weight": rand(8, 8, 1, 1)}, "lora_mid.weight"),
        "flat middle": (low | {"lora_mid.weight": rand(RANK, RANK)}, "lora_mid.weight"),
        "dora": (low | {"dora_scale": rand(5, 1)}, "dora_scale"),
        "loha without a part": ({k: v for k, v in loha.items() if k != "hada_w2_a"}, "hada_w1_a"),
        "loha ranks": (loha | {"hada_w2_b": rand(7, DIM)}, "hada_w2_a"),
        "loha sizes": (loha | {"hada_w2_b": rand(RANK, 64)}, "hada_w1_a"),
        "loha half a core": (loha | {"hada_t1": rand(RANK, RANK, 1, 1)}, "hada_t1"),
        "lokr without w1": ({"lokr_w2": rand(DIM, DIM)}, "lokr_w2"),
        "lokr without w2": ({"lokr_w1": rand(2, 2)}, "lokr_w1"),
        "lokr half": ({"lokr_w1_a": rand(2, 2), "lokr_w2": rand(64, 64)}, "lokr_w1_a"),
        "lokr ranks": (lokr | {"lokr_w2_b": rand(7, DIM)}, "lokr_w2_a"),
        "lokr 0-dim": ({"lokr_w1": torch.tensor(1.0), "lokr_w2": rand(DIM, DIM)}, "lokr_w1"),
        "glora without a part": ({k: v for k, v in glora.items() if k != "a2.weight"}, "a1.weight"),
        "oft of unequal sides": ({"oft_blocks": rand(32, 4, 5)}, "oft_blocks"),
        "oft rescale": ({"oft_blocks": rand(32, 4, 4), "rescale": rand(7)}, "rescale"),
        "boft of odd blocks": ({"oft_blocks": rand(1, 1, 127, 127)}, "oft_blocks"),
        "oft without blocks": ({"rescale": rand(DIM, 1)}, "rescale"),
        "two kinds": (low | {"diff": rand(DIM, DIM)}, "lora_up.weight"),
        "two adapters": (low | adapter("loha", Q), "lora_up.weight"),
    }


@pytest.mark.parametrize("case", broken())
def test_an_adapter_that_contradicts_itself_is_refused_and_its_key_named(case):
    parts, key = broken()[case]
    with pytest.raises(OviError) as caught:
        place(named(f"diffusion_model.{Q}", parts), CONFIG, "a.safetensors")
    error = caught.value
    assert error.input == "lora_name"
    assert f"'diffusion_model.{Q}.{key}'" in error.found
    assert "'a.safetensors'" in error.found
    assert "download it again" in error.remedy


def test_a_glora_of_several_ranks_is_refused():
    parts = adapter("glora", FFN_0) | {"a1.weight": rand(DIM, 9), "b2.weight": rand(3, DIM)}
    with pytest.raises(OviError, match=r"a1\.weight' and the other three weights of its layer are of different ranks"):
        place(named(FFN_0, parts), CONFIG, "a.safetensors")


def test_two_tensors_for_one_part_are_refused():
    weights = named(f"diffusion_model.{Q}", adapter("lora", Q)) | named(f"transformer.{Q}", adapter("peft", Q))
    with pytest.raises(OviError, match="is for the same part of a layer"):
        place(weights, CONFIG, "a.safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_for_another_size_are_left_out_and_reported(caplog, kind):
    wrong = adapter(kind, FFN_0)
    weights = named(f"diffusion_model.{Q}", wrong) | named(f"diffusion_model.{FFN_0}", adapter("lora", FFN_0))
    placed = place(weights, CONFIG, "a.safetensors")
    assert set(placed.patches) == {f"diffusion_model.{FFN_0}.weight"}
    assert placed.used == 2
    assert f"its {Q}.weight is" in placed.misfit


def test_a_weight_that_should_take_another_shape_is_left_out(caplog):
    low = adapter("lora", Q)
    same = low | {"reshape_weight": torch.tensor([DIM, DIM])}
    assert applied(named(Q, same), caplog) == {f"{Q}.weight": True}
    placed = place(named(Q, low | {"reshape_weight": torch.tensor([DIM, 2 * DIM])}), CONFIG, "a.safetensors")
    assert not placed.patches


def test_parts_of_no_adapter_are_counted_as_unused():
    weights = named(Q, adapter("lora", Q)) | {f"{Q}.lora_B.bias": rand(DIM), f"{Q}.magic": rand(3)}
    placed = place(weights, CONFIG, "a.safetensors")
    assert (placed.used, placed.total) == (2, 4)
    assert placed.unused == "ComfyUI has no use for the others"


# -- anything at all --------------------------------------------------------------------


@given(
    st.dictionaries(st.tuples(PREFIXES, st.sampled_from(LAYERS), st.sampled_from(PART_NAMES)), TENSORS, max_size=6),
    st.sampled_from(KINDS),
    st.sampled_from(LAYERS),
)
def test_whatever_stands_in_a_file_is_applied_left_out_or_refused(extra, kind, layer):
    weights = {
        prefix + (name.replace(".", "_") if "unet" in prefix else name) + "." + part: value
        for (prefix, name, part), value in extra.items()
    }
    for whole in ({}, named(layer, adapter(kind, layer)) if matrix(layer)[0] % 4 == 0 else {}):
        try:
            placed = place(weights | whole, CONFIG, "a.safetensors")
        except OviError as error:
            assert "'a.safetensors'" in error.found  # noqa: PT017
            continue
        for key, patch in placed.patches.items():
            shape = expected_weights(CONFIG)[key.removeprefix("diffusion_model.")].shape
            messages = Messages()
            with messages:
                new = comfy.lora.calculate_weight([(1.0, patch, 1.0, None, None)], torch.ones(shape), key)
            assert new.shape == shape
            assert messages.found == []


@given(st.dictionaries(st.text(max_size=40), TENSORS, max_size=4))
def test_keys_of_any_text_are_left_out(weights):
    placed = place(weights, CONFIG, "a.safetensors")
    assert placed.patches == {}
    assert placed.total == len(weights)


class Messages(logging.Handler):
    """Warnings and errors that are logged in the block."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record.getMessage())

    def __enter__(self) -> Messages:
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self)
