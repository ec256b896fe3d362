"""A ComfyUI that casts or prefetches weights in another way: the network does without, with the same result."""

from __future__ import annotations

import logging

import pytest
import tiny_ovi as tiny
import torch
from ovi_native.ovi_core.network import comfyui, layers


def test_modulation_is_the_same_without_comfyuis_cast(monkeypatch):
    modulation = layers.Modulation(6, 8, device=None)
    modulation.weight.data = torch.randn(1, 6, 8)
    modulation.weight_function = [lambda weight: 2 * weight, lambda weight: weight + 1]
    embedding = torch.randn(2, 3, 1, 8)
    with_cast = modulation(embedding)
    monkeypatch.setattr(comfyui, "CASTS", False)
    without = modulation(embedding)
    assert all(map(torch.equal, with_cast, without))
    assert torch.equal(without[0], (embedding + (2 * modulation.weight + 1))[:, :, 0])


def test_a_run_is_the_same_without_comfyuis_cast(model, monkeypatch):
    plain = tiny.run(tiny.guider(model), steps=2)
    monkeypatch.setattr(comfyui, "CASTS", False)
    assert tiny.same(tiny.run(tiny.guider(model), steps=2), plain, 0)


@pytest.mark.parametrize("function", [None, 3, lambda s, input=None: None, lambda dtype, device: None])
def test_another_signature_is_noticed_and_said_once(function, caplog):
    assert not comfyui.takes(function, "dtype", "device", "offloadable")
    with caplog.at_level(logging.WARNING):
        assert not comfyui._known("way to cast weights", "They are cast without it.", False)
        assert comfyui._known("way to cast weights", "They are cast without it.", True)
    (record,) = caplog.records
    assert "another way to cast weights" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_this_comfyui_casts_and_prefetches_as_the_pack_knows():
    assert comfyui.CASTS
    assert (comfyui.model_prefetch is not None) == comfyui.PREFETCHES
