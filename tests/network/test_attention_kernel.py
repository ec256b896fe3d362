"""Which attention is asked for: ComfyUI's, or PyTorch's with cuDNN's kernel first; on a card that is not there."""

from __future__ import annotations

import pytest
import tiny_ovi as tiny
import torch
from ovi_native.ovi_core.network import comfyui, layers
from tiny_ovi import same
from torch.nn.attention import SDPBackend


@pytest.fixture
def hopper(monkeypatch):
    """The CPU as a card of capability 9.0, and ComfyUI's attention as it is there."""
    monkeypatch.setattr(comfyui, "_nvidia_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.backends.cuda, "cudnn_sdp_enabled", lambda: True)
    for module in (comfyui, layers):
        monkeypatch.setattr(module, "optimized_attention", comfyui.attention_pytorch)
    for name, value in vars(comfyui.flags).items():
        if name.startswith("use_") and value is True:
            monkeypatch.setattr(comfyui.flags, name, False)


@pytest.fixture
def asked(monkeypatch):
    """First kernel that PyTorch's attention is asked for, in every call of ours."""
    kernels, attend = [], torch.nn.functional.scaled_dot_product_attention

    def note(*args, **more):
        kernels.append(SDPBackend(torch._C._get_sdp_priority_order()[0]))
        return attend(*args, **more)

    monkeypatch.setattr(comfyui, "scaled_dot_product_attention", note)
    return kernels


def run(model, **options):
    model = model.clone()
    model.model_options["transformer_options"].update(options)
    return tiny.run(tiny.guider(model), steps=1)


def test_on_a_card_of_capability_9_0_cudnn_is_asked_first(model, hopper, asked):
    out = run(model)
    assert len(asked) >= 6 * tiny.SIZES["num_layers"] - 1
    assert set(asked) == {SDPBackend.CUDNN_ATTENTION}
    assert same(out, run(model, optimized_attention_override=lambda inner, *args, **more: inner(*args, **more)), 1e-6)


FLAGS = ["sage_attention", "flash_attention", "pytorch_cross_attention", "split_cross_attention", "ck_attention"]


@pytest.mark.parametrize("flag", FLAGS)
def test_a_flag_keeps_its_say(model, hopper, asked, monkeypatch, flag):
    monkeypatch.setattr(comfyui.flags, f"use_{flag}", True, raising=False)
    run(model)
    assert asked == []


@pytest.mark.parametrize("capability", [None, (8, 0), (8, 9), (10, 0), (12, 0)])
def test_other_cards_are_as_comfyui_has_them(model, hopper, asked, monkeypatch, capability):
    monkeypatch.setattr(comfyui, "_nvidia_capability", lambda device: capability)
    run(model)
    assert asked == []


def test_an_override_keeps_its_say(model, hopper, asked):
    calls = []

    def override(inner, *args, **more):
        calls.append(inner)
        return inner(*args, **more)

    run(model, optimized_attention_override=override)
    assert asked == []
    assert set(calls) == {comfyui.attention_pytorch.__wrapped__}


def test_an_override_that_a_patch_brings_in_one_block_pair_keeps_its_say_there(model, hopper, asked):
    calls = []

    def override(inner, *args, **more):
        calls.append(inner)
        return inner(*args, **more)

    def patch(args, extra):
        options = {**args["transformer_options"], "optimized_attention_override": override}
        return extra["original_block"]({**args, "transformer_options": options})

    patched = model.clone()
    patched.set_model_patch_replace(patch, "dit", "double_block", 0)
    run(patched)
    assert len(calls) == 6
    assert asked


def test_cudnn_that_is_switched_off_in_pytorch_is_not_asked(model, hopper, asked, monkeypatch):
    monkeypatch.setattr(torch.backends.cuda, "cudnn_sdp_enabled", lambda: False)
    run(model)
    assert asked == []


def test_another_attention_of_comfyuis_keeps_its_say(model, hopper, asked, monkeypatch):
    """What a ComfyUI takes by itself, as xformers."""
    calls = []

    def other(*args, **more):
        calls.append(1)
        return comfyui.attention_pytorch(*args, **more)

    for module in (comfyui, layers):
        monkeypatch.setattr(module, "optimized_attention", other)
    run(model)
    assert calls
    assert asked == []


def test_what_cudnn_does_not_take_goes_to_the_kernels_after_it():
    """On a CPU there is no cuDNN at all."""
    q, k, v = (torch.randn(2, length, 256) for length in (7, 5, 5))
    wanted = comfyui.attention_pytorch(q, k, v, 2)
    assert torch.allclose(comfyui.cudnn_attention(q, k, v, 2), wanted, atol=1e-6)
    assert not comfyui.prefers_cudnn(torch.device("cpu"), {})
