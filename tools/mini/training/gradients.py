"""Gradients of the twin's own: of rotations and RMS norms in one pass instead of ten, and of rounded matrices.

ComfyUI's rotations and norms are made for sampling. These give the same values, and the same gradients to rounding, in
a sixth less of the twin's time to train.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from comfy.ldm.flux.math import apply_rope1
from ovi_native.ovi_core.network import blocks, layers
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tools.conversion.recipes import in_scaled_fp8


class Rotation(torch.autograd.Function):
    """What ``apply_rope1`` does with x [B, L, heads, d] and its table [1, L, 1, d / 2, 2, 2]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor) -> Tensor:
        turns = torch.complex(table[..., 0, 0], table[..., 1, 0])
        ctx.save_for_backward(turns)
        return _turned(x, turns)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (turns,) = ctx.saved_tensors
        return _turned(grad, turns.conj()), None


def _turned(x: Tensor, turns: Tensor) -> Tensor:
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turns).flatten(-2).to(x.dtype)


class RMSNorm(torch.autograd.Function):
    """``x / rms(x) weight`` over the last axis."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        values = x.float()
        scale = torch.linalg.vector_norm(values, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        normed = (values * scale).to(x.dtype)
        ctx.save_for_backward(normed, scale, weight)
        return normed * weight.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        normed, scale, weight = ctx.saved_tensors
        product = grad * normed
        of_weight = product.flatten(0, -2).sum(dim=0, dtype=torch.float32)
        along = (product @ weight.to(product.dtype)).unsqueeze(-1) / -normed.shape[-1]
        of_x = torch.addcmul(grad * weight.to(grad.dtype), normed, along) * scale.to(grad.dtype)
        return of_x, of_weight.to(weight.dtype), None


class Rounding(torch.autograd.Function):
    """A matrix as ``export`` stores it, in scaled fp8 by way of bfloat16; its gradient is that of the exact values."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        return in_scaled_fp8(weight.bfloat16().to(weight.dtype)).dequantize()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def picked(part: Tensor, index: Tensor) -> Tensor:
    """``layers.picked``; of two timesteps so that its gradient is a sum instead of a sorted addition."""
    if part.shape[1] != 2 or not torch.is_grad_enabled():
        return PICKED(part, index)
    return torch.where(index.unsqueeze(-1) > 0, part[:, 1:], part[:, :1])


PICKED = layers.picked


def learn_quickly(network: nn.Module) -> None:
    """Give the pack's layers these rotations where gradients are asked for, and the network's RMS norms these norms.

    The layers keep them for the rest of the process: there is one way in which all networks rotate.
    """

    def rotate(x: Tensor, table: Tensor) -> Tensor:
        return Rotation.apply(x, table) if torch.is_grad_enabled() else apply_rope1(x, table)

    def norm(module: Any, x: Tensor) -> Tensor:
        return RMSNorm.apply(x, module.weight, module.eps)

    layers.apply_rope1, layers.picked = rotate, picked
    for module in network.modules():
        if isinstance(module, nn.RMSNorm):
            module.forward = MethodType(norm, module)


def learn_compiled(backend: str = "inductor") -> None:
    """In place of :func:`learn_quickly` on a card: the compiler fuses what lies between the blocks' matrix products.

    The blocks stay compiled for the rest of the process.
    """
    layers.picked = picked
    blocks.fused_blocks = torch.compile(FUSED_BLOCKS, dynamic=False, backend=backend)


FUSED_BLOCKS = blocks.fused_blocks
