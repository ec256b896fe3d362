"""Where comfy_kitchen has a kernel for elementwise work, it is asked as its kernel needs it.

There is no card here: its functions then run the operations of its eager backend. ``test_reference.py`` compares these
with the reference.
"""

from __future__ import annotations

import pytest
import tiny_ovi as tiny
import torch
import weight_layouts as layouts
from fusion_cases import published_weights
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.network import comfyui, layers
from safetensors.torch import save_file
from tiny_ovi import same


@pytest.fixture
def norms(monkeypatch):
    """What comfy_kitchen's norm was given: tensor, scale, shift."""
    given = []

    def noted(x, scale, shift, eps):
        given.append((x, scale, shift))
        return comfyui.adaln(x, scale, shift, eps)

    monkeypatch.setattr(layers, "FUSED_NORM", True)
    monkeypatch.setattr(layers, "adaln", noted)
    return given


@pytest.mark.parametrize("start_image", [False, True])
def test_a_run_with_the_kernels_norm_is_the_same(model, norms, start_image):
    """Two norms in each block and one in the head, of both towers; with a start image the video has two timesteps."""
    latent = tiny.first_frame_kept(tiny.drawn_latent(3)) if start_image else tiny.empty_latent()
    fused = tiny.run(tiny.guider(model, skip_layers=""), latent)
    assert len(norms) == (2 * tiny.SIZES["num_layers"] + 1) * 2 * tiny.STEPS
    assert max(x.shape[1] for x, *_ in norms) == (3 if start_image else 1)
    with pytest.MonkeyPatch.context() as plain:
        plain.setattr(layers, "FUSED_NORM", False)
        assert same(tiny.run(tiny.guider(model, skip_layers=""), latent), fused)


@pytest.mark.parametrize("index", [None, torch.tensor([[0, 1, 1], [1, 0, 1]])])
def test_the_kernel_is_given_values_of_one_type(norms, index):
    """It reads scale and shift as values of the type of x, whatever they are."""
    torch.manual_seed(0)
    x = torch.randn(2, 6, 128).bfloat16()
    shift, scale = torch.randn(2, 2, 2 if index is not None else 1, 128)
    with torch.no_grad():
        out = layers.modulated_norm(x, shift, scale, index)
    (given,) = norms
    assert {part.dtype for part in given} == {torch.bfloat16}
    exact = layers.modulate(layers.plain_norm(x.float()), shift, scale, index)
    assert (out - exact).norm() < 0.01 * exact.norm()


def test_gradients_and_compilers_get_pytorchs_operations(norms):
    x, part = torch.randn(1, 4, 128, requires_grad=True), torch.randn(1, 1, 128)
    layers.modulated_norm(x, part, part, None).sum().backward()
    assert x.grad is not None
    with torch.no_grad():
        torch.compile(layers.modulated_norm, backend="eager")(x, part, part, None)
    assert norms == []


@pytest.mark.parametrize("format", ["int8", "int8 rotated", "float8_e4m3fn"])
def test_gelu_is_the_quantizers_where_the_matrix_is_int8(tmp_path, monkeypatch, format):
    weights = published_weights(tiny.SIZES)
    stored, _ = layouts.in_host_format(weights, format)
    save_file(stored, tmp_path / "model.safetensors")
    model = load_model(str(tmp_path / "model.safetensors"))
    asked = []

    def noted(layer, x, activation):
        asked.append(activation)
        return comfyui.linear_input_act(layer, x, activation)

    monkeypatch.setattr(layers, "linear_input_act", noted)
    folded = tiny.run(tiny.stock_guider(model), steps=1)
    assert asked == (["gelu_tanh"] * 2 * tiny.SIZES["num_layers"] if format.startswith("int8") else [])
    monkeypatch.setattr(layers, "absorbs_gelu", lambda layer: False)
    assert same(tiny.run(tiny.stock_guider(model), steps=1), folded)
