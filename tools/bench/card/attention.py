"""Attention of the video tower alone: PyTorch's FlashAttention 2 against cuDNN's, time and error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from ..cases import interleaved
from .size import Measure, Size, tflop_per_second

HEAD_DIM = 128
CHECKED = 64
"""Queries whose answers are compared with float32: the scores of all would not fit."""
ROUNDS = 3
BACKENDS = {
    "FlashAttention 2": SDPBackend.FLASH_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
}


def attention(size: Size) -> Iterator[tuple[str, Measure]]:
    """For each clip: both kernels, and ours as a forward asks for it."""
    from ovi_native.ovi_core.network.transformer import OviConfig

    heads = OviConfig(**size.model).dim // HEAD_DIM
    for name, (width, height, frames) in size.clips.items():
        tokens = frames * (width // 32) * (height // 32)
        qkv = [torch.randn(2, tokens, heads * HEAD_DIM, device=size.device, dtype=size.dtype) for _ in range(3)]
        wanted = _in_float32(*(_by_head(x, heads) for x in qkv))
        for kernel, backend in BACKENDS.items():
            yield f"{kernel}, {name}", partial(_measured, size, qkv, heads, partial(_by_backend, backend), wanted)
        yield f"the pack's choice, {name}", partial(_measured, size, qkv, heads, _ours, wanted)


def _by_head(x: torch.Tensor, heads: int) -> torch.Tensor:
    """[B, L, D] to [B, heads, L, 128], a view as in a forward."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _by_backend(backend: SDPBackend, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    with sdpa_kernel([backend]):
        out = scaled_dot_product_attention(*(_by_head(x, heads) for x in (q, k, v)))
    return out.transpose(1, 2).flatten(-2)


def _ours(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    from ovi_native.ovi_core.network.comfyui import CUDNN_FIRST, prefers_cudnn
    from ovi_native.ovi_core.network.layers import attend

    return attend(q, k, v, {CUDNN_FIRST: prefers_cudnn(q.device, {})})


def _in_float32(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Answers to the first queries, [B, heads, n, 128], float32 throughout."""
    scores = q[:, :, :CHECKED].float() @ k.float().transpose(-2, -1) * HEAD_DIM**-0.5
    return scores.softmax(dim=-1) @ v.float()


def _measured(
    size: Size, qkv: list[torch.Tensor], heads: int, attend: Callable[..., torch.Tensor], wanted: torch.Tensor
) -> dict[str, Any]:
    out = _by_head(attend(*qkv, heads), heads)[:, :, :CHECKED].float()
    rows, tokens, dim = qkv[0].shape
    taken = interleaved({"attention": lambda: attend(*qkv, heads)}, ROUNDS, size.device, warm=True)["attention"]
    return {
        "tokens": tokens,
        "milliseconds": round(taken.seconds * 1e3, 3),
        "tflop_per_second": tflop_per_second(4 * rows * tokens**2 * dim / 1e12, taken.seconds),
        "relative_error": float((out - wanted).norm() / wanted.norm()),
        "largest_error": float((out - wanted).abs().max()),
    }
