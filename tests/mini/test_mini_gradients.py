"""Training's own rotations and norms: ComfyUI's and PyTorch's values and gradients."""

from __future__ import annotations

import comfy.model_management
import comfy.ops
import pytest
import torch
from comfy.ldm.flux.math import apply_rope1
from ovi_native.ovi_core.network import blocks, layers, rope
from ovi_native.ovi_core.network.timesteps import TimestepShares
from ovi_native.ovi_core.network.transformer import OviTransformer

from tools.mini.training.gradients import RMSNorm, Rotation, learn_compiled, learn_quickly, picked
from tools.mini.training.networks import LAYERS, attention


@pytest.fixture(autouse=True)
def gradients_through_the_host(monkeypatch):
    monkeypatch.setattr(comfy.model_management, "in_training", True)


def same(one, other, inputs, tolerance):
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    grad = torch.randn_like(one)
    found, wanted = (torch.autograd.grad(out, inputs, grad) for out in (one, other))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * float(b.abs().max()))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_rotations_have_the_hosts_values_and_gradients(dtype, tolerance):
    torch.manual_seed(0)
    table = rope.video_table(3, 2, 2, 128, torch.device("cpu"))
    x = torch.randn(2, 12, 2, 128, dtype=dtype, requires_grad=True)
    same(Rotation.apply(x, table), apply_rope1(x, table), [x], tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_norms_have_pytorchs_values_and_gradients(dtype, tolerance):
    torch.manual_seed(0)
    x = torch.randn(2, 5, 64, dtype=dtype, requires_grad=True)
    weight = torch.randn(64, requires_grad=True)
    theirs = torch.nn.functional.rms_norm(x.float(), (64,), weight, 1e-6).to(dtype)
    same(RMSNorm.apply(x, weight, 1e-6), theirs, [x, weight], tolerance)


def test_a_network_takes_them_where_gradients_are_asked_for_alone(monkeypatch):
    monkeypatch.setattr(layers, "apply_rope1", apply_rope1)
    monkeypatch.setattr(layers, "picked", layers.picked)
    norm = comfy.ops.manual_cast.RMSNorm(256, eps=1e-6)
    norm.weight = torch.nn.Parameter(torch.rand(256) + 0.5)
    x, table = torch.randn(1, 4, 256, requires_grad=True), rope.audio_table(4, 128, torch.device("cpu"))
    before = layers.rotate(norm(x), table)
    learn_quickly(torch.nn.ModuleDict({"norm": norm}))
    after = layers.rotate(norm(x), table)
    torch.testing.assert_close(after, before)
    names = [type(after.grad_fn.next_functions[0][0]).__name__, type(norm(x).grad_fn).__name__]
    assert names == ["RotationBackward", "RMSNormBackward"]
    with torch.no_grad():
        torch.testing.assert_close(layers.rotate(norm(x), table), before)


def test_the_part_of_each_stretch_is_the_layers_own_in_value_and_gradient():
    torch.manual_seed(0)
    part, index = torch.randn(3, 2, 8, requires_grad=True), torch.randint(0, 2, (3, 5))
    same(picked(part, index), layers.picked(part, index), [part], 1e-6)
    of_three = torch.randn(3, 3, 8)
    torch.testing.assert_close(picked(of_three, index + 1), layers.picked(of_three, index + 1))


def test_compiled_blocks_have_the_same_gradients(monkeypatch):
    for module, name in ((layers, "picked"), (blocks, "fused_blocks")):
        monkeypatch.setattr(module, name, getattr(module, name))
    sizes = {"dim": 128, "ffn_dim": 128, "num_layers": 2, "text_dim": 16, "freq_dim": 32}
    twin = OviTransformer(operations=LAYERS, device="cpu", dtype=torch.float32, **sizes).requires_grad_(True)
    torch.manual_seed(0)
    for weight in twin.parameters():
        torch.nn.init.normal_(weight, std=0.05)
    inputs = [torch.randn(2, 48, 3, 4, 4), torch.randn(2, 20, 7)], torch.tensor([700.0, 30.0]), torch.randn(2, 5, 16)
    values = torch.tensor([0.0, 1.0])
    shares = {
        f"{tower}_shares": TimestepShares(values, torch.tensor([[1] * length, [0] + [1] * (length - 1)]))
        for tower, length in (("video", 3), ("audio", 7))
    }

    def attend(inner, q, k, v, heads, **kwargs):  # as training does, for ComfyUI's own cannot be compiled on a CPU
        return attention(q, k, v, heads, None)

    def gradients() -> list[torch.Tensor]:
        out = twin(*inputs, {"optimized_attention_override": attend}, **shares)
        return list(torch.autograd.grad(sum(part.square().mean() for part in out), list(twin.blocks[0].parameters())))

    wanted = gradients()
    learn_compiled(backend="aot_eager")
    found = gradients()
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))
