"""Train Ovi LoRA on the LoRA of any file: it is trained further as it is, or refused with its name."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lora_cases import CONFIG, FFN_0, KINDS, LAYERS, PART_NAMES, PREFIXES, TENSORS, Q, adapter, named
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.model.lora import place
from ovi_native.ovi_core.training.adapters import Adapters, adapters_of, matrices, new_adapters

TRAINED = {"lora", "peft", "loha", "lokr", "lokr whole", "oft"}


def continued(weights: dict[str, torch.Tensor]) -> Adapters:
    fresh = new_adapters(CONFIG, matrices(CONFIG, True, True), "LoRA", 2, 0)
    return adapters_of(weights, CONFIG, fresh, "a.safetensors")


@pytest.mark.parametrize("layer", [Q, FFN_0])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alpha", [None, 2.0])
def test_every_kind_is_trained_further_as_it_is_or_refused(kind, layer, alpha):
    weights = named(layer, adapter(kind, layer) | ({} if alpha is None else {"alpha": torch.tensor(alpha)}))
    if kind not in TRAINED:
        with pytest.raises(OviError) as caught:
            continued(weights)
        assert caught.value.input == "existing_lora"
        assert "a LoRA of a kind that can be used but not trained" in caught.value.found
        return
    saved = continued(weights).weights(torch.float32)
    before, after = (place(lora, CONFIG, "a").patches[f"diffusion_model.{layer}.weight"] for lora in (weights, saved))
    rows = 256 if layer == FFN_0 else 128
    one = torch.randn(rows, 128, generator=torch.Generator().manual_seed(1))
    changed = [patch.calculate_weight(one.clone(), "", 1.0, 1.0, None, lambda c: c) for patch in (before, after)]
    assert torch.allclose(*changed, atol=1e-4)
    assert not torch.equal(changed[0], one)


def test_a_difference_of_a_bias_stays_beside_the_adapter_that_is_trained():
    weights = named(Q, adapter("lora", Q) | {"diff_b": torch.ones(128)})
    saved = continued(weights).weights(torch.float32)
    assert torch.equal(saved[f"diffusion_model.{Q}.diff_b"], torch.ones(128))
    assert f"diffusion_model.{Q}.bias" in place(saved, CONFIG, "a").patches


@given(
    st.dictionaries(st.tuples(PREFIXES, st.sampled_from(LAYERS), st.sampled_from(PART_NAMES)), TENSORS, max_size=4),
    st.sampled_from(KINDS),
    st.sampled_from([Q, FFN_0]),
)
def test_whatever_stands_in_a_file_is_trained_further_or_refused(extra, kind, layer):
    weights = {
        prefix + (name.replace(".", "_") if "unet" in prefix else name) + "." + part: value
        for (prefix, name, part), value in extra.items()
    }
    for lora in (weights, weights | named(layer, adapter(kind, layer))):
        try:
            adapters = continued(lora)
        except OviError as error:
            refused = error
        else:
            assert all(value.isfinite().all() for value in adapters.weights(torch.float32).values())
            continue
        assert refused.input == "existing_lora"
        assert "'a.safetensors'" in refused.found
