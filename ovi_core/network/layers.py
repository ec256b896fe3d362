"""The layers both towers are built from.

Axis letters: B batch, L tokens, D model dim, S text positions, K distinct timesteps, n stretches of tokens that have
one timestep each.

What stays in float32 whatever type the weights are stored in: rope tables, time embedding and projection, modulation
and norm weights. Norms sum in float32 inside their kernels and take their weights rounded to the activations' type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, silu

from . import text_attention
from .batch_rows import pick, put
from .comfyui import (
    CUDNN_FIRST,
    FUSED_NORM,
    FUSED_ROPE,
    OVERRIDE,
    CastWeightBiasOp,
    absorbs_gelu,
    adaln,
    apply_rope1,
    cudnn_attention,
    linear_input_act,
    manual_cast,
    optimized_attention,
    product,
    quantized_once,
    with_weight,
)

HEAD_DIM = 128
EPS = 1e-6
FEW_TOKENS = 2048
"""Up to which rotation is not worth doing in parts."""


class Layers:
    """Makes layers from ComfyUI's ``operations``, which know about casting, offloading and quantised weights."""

    def __init__(self, operations: Any, device: Any, dtype: torch.dtype | None):
        self.operations, self.device, self.dtype = operations, device, dtype
        # Eight bits are for the large matrices; convolutions and the head keep sixteen.
        eight_bits = dtype is not None and dtype.itemsize == 1
        self.fine_dtype = torch.bfloat16 if eight_bits else dtype

    def linear(self, fan_in: int, fan_out: int, dtype: torch.dtype | None = None) -> nn.Module:
        return self.operations.Linear(fan_in, fan_out, device=self.device, dtype=dtype or self.dtype)

    def conv1d(self, fan_in: int, fan_out: int, bias: bool = True) -> nn.Module:
        return self.operations.Conv1d(
            fan_in, fan_out, kernel_size=7, padding=3, bias=bias, device=self.device, dtype=self.fine_dtype
        )

    def rms_norm(self, dim: int) -> nn.Module:
        return manual_cast.RMSNorm(dim, eps=EPS, device=self.device, dtype=torch.float32)

    def layer_norm(self, dim: int) -> nn.Module:
        return manual_cast.LayerNorm(dim, eps=EPS, device=self.device, dtype=torch.float32)

    def modulation(self, parts: int, dim: int) -> Modulation:
        return Modulation(parts, dim, device=self.device)


def plain_norm(x: Tensor) -> Tensor:
    """Layer norm over the last axis, without weights."""
    return layer_norm(x, x.shape[-1:], eps=EPS)


class Modulation(nn.Module, CastWeightBiasOp):
    """A learned offset to the projected time embedding.

    A leaf module whose parameter is called ``weight``: ComfyUI patches, merges and offloads only such.
    """

    comfy_cast_weights = True

    def __init__(self, parts: int, dim: int, device: Any):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, parts, dim, dtype=torch.float32, device=device), requires_grad=False)
        self.weight_comfy_model_dtype = torch.float32
        self.bias = None

    def forward(self, embedding: Tensor) -> tuple[Tensor, ...]:
        """The parts (shift, scale, gate, …) for embedding [B, K, 1 or parts, D]: each [B, K, D], float32."""
        return with_weight(self, embedding.device, embedding.add).unbind(dim=2)


class GELU(nn.Module):
    """GELU, approximated by tanh. Unless gradients are recorded, its input, a layer's fresh output, becomes the result.

    In a feed-forward that is the largest tensor of a whole forward; a second one would be the peak of its memory.
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            return gelu(x, approximate="tanh")
        return torch.ops.aten.gelu_(x, approximate="tanh")


class FeedForward(nn.Sequential):
    """Matrix, GELU, matrix."""

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, L, D]."""
        first, activation, second = self
        if absorbs_gelu(second):
            return linear_input_act(second, first(x), "gelu_tanh")
        hidden = activation(first(x))
        quantized = quantized_once(hidden, second)
        if quantized is None:
            return second(hidden)
        del hidden  # twice as large as its copy in fp8, which alone is read now
        return product(second, x, quantized)


def _spread(part: Tensor, index: Tensor | None, like: Tensor) -> Tensor:
    """A part [B, K, D] of each distinct timestep as [B, n, 1, D] for n stretches of tokens, in the type of ``like``.

    index: [B, n], which timestep a stretch has; None where K is 1, and so n.
    """
    part = part.to(like.dtype)
    return (part if index is None else picked(part, index)).unsqueeze(2)


def picked(part: Tensor, index: Tensor) -> Tensor:
    """Of a part [B, K, D] that of the timestep of each stretch, [B, n, D]; index: [B, n]."""
    return part[torch.arange(part.shape[0], device=part.device)[:, None], index]


def modulate(x: Tensor, shift: Tensor, scale: Tensor, index: Tensor | None) -> Tensor:
    """``x (1 + scale) + shift`` for x [B, L, D] and parts [B, K, D]; tokens of one timestep share theirs by view."""
    shift, scale = _spread(shift, index, x), _spread(1 + scale, index, x)
    stretches = rearrange(x, "b (n l) d -> b n l d", n=shift.shape[1])
    return rearrange(torch.addcmul(shift, stretches, scale), "b n l d -> b (n l) d")


def modulated_norm(x: Tensor, shift: Tensor, scale: Tensor, index: Tensor | None) -> Tensor:
    """:func:`modulate` after :func:`plain_norm`; by one kernel where comfy_kitchen has it.

    Not where gradients are recorded, which the kernel has none of, nor compiled: a compiler makes its own kernel of
    these operations, and of those around them.
    """
    if not FUSED_NORM or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return modulate(plain_norm(x), shift, scale, index)
    # the kernel reads both as values of the type of x, unchecked
    shift, scale = _spread(shift, index, x), _spread(scale, index, x)
    stretches = rearrange(x, "b (n l) d -> b n l d", n=shift.shape[1])
    return rearrange(adaln(stretches, scale, shift, EPS), "b n l d -> b (n l) d")


def add_gated(x: Tensor, y: Tensor, gate: Tensor, index: Tensor | None) -> Tensor:
    """``x + y gate`` for x, y [B, L, D] and gate [B, K, D]."""
    gate = _spread(gate, index, x)
    x, y = (rearrange(z, "b (n l) d -> b n l d", n=gate.shape[1]) for z in (x, y))
    return rearrange(torch.addcmul(x, y, gate), "b n l d -> b (n l) d")


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn the heads of x [B, L, D] by the rope ``table`` [1, L, 1, HEAD_DIM / 2, 2, 2]."""
    if FUSED_ROPE or x.shape[1] <= FEW_TOKENS or torch.is_grad_enabled():
        heads = x.unflatten(-1, (-1, HEAD_DIM))
        return (_turned(heads, table) if _turns(x) else apply_rope1(heads, table)).flatten(-2)
    # four copies of x in float32 would be the peak of the whole forward
    return in_chunks(rotate, {CHUNK_TOKENS: max(FEW_TOKENS, -(-x.shape[1] // 4))}, x, table)


def _turns(x: Tensor) -> bool:
    """Whether to rotate x by complex numbers: on a CPU, where that takes a fifth of the time of ComfyUI's operations.

    Not where gradients are recorded, nor compiled: a compiler makes no kernels of complex numbers.
    """
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def _turned(x: Tensor, table: Tensor) -> Tensor:
    """x [B, L, H, HEAD_DIM] turned by rope, each pair of values as a complex number; a matrix begins cos, -sin."""
    turns = torch.view_as_complex(table[..., 0, :]).conj()
    pairs = torch.view_as_complex(x.to(table.dtype).unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns).flatten(-2).to(x.dtype)


def attend(q: Tensor, k: Tensor, v: Tensor, options: dict) -> Tensor:
    """ComfyUI's attention on [B, L, D], heads of 128; see ``comfyui.prefers_cudnn``."""
    if options.get(CUDNN_FIRST) and OVERRIDE not in options:
        return cudnn_attention(q, k, v, q.shape[-1] // HEAD_DIM)
    return optimized_attention(q, k, v, heads=q.shape[-1] // HEAD_DIM, transformer_options=options)


CHUNK_TOKENS = "ovi_chunk_tokens"
"""Key of transformer_options: how many tokens at most go at a time through what needs much memory; 0: all."""


def in_chunks(run: Callable[..., Tensor], options: dict, x: Tensor, *aligned: Tensor) -> Tensor:
    """``run(x, *aligned)`` for x [B, L, D], a number of tokens at a time where the options ask for it.

    Only for what treats each token of x by itself, which makes this exact but for rounding. ``aligned`` has its tokens
    on axis 1 too.
    """
    if not _is_chunked(x, options):
        return run(x, *aligned)
    tokens = x.shape[1]
    out, chunks = torch.empty_like(x), -(-tokens // options[CHUNK_TOKENS])
    for i in range(chunks):
        chunk = slice(tokens * i // chunks, tokens * (i + 1) // chunks)
        # a matrix product of what is not contiguous adds its bias apart, to a second result
        out[:, chunk] = run(x[:, chunk].contiguous(), *(part[:, chunk] for part in aligned))
    return out


def _is_chunked(x: Tensor, options: dict) -> bool:
    """Whether the options ask for fewer tokens at a time than x [B, L, D] has."""
    return 0 < options.get(CHUNK_TOKENS, 0) < x.shape[1]


class SelfAttention(nn.Module):
    """Self-attention with RMS-normed, rotated query and key."""

    def __init__(self, dim: int, layers: Layers):
        super().__init__()
        self.q, self.k, self.v, self.o = (layers.linear(dim, dim) for _ in range(4))
        self.norm_q, self.norm_k = layers.rms_norm(dim), layers.rms_norm(dim)

    def forward(self, x: Tensor, table: Tensor, options: dict) -> Tensor:
        """x: [B, L, D]; table: rope of these tokens."""
        shared = quantized_once(x, self.k, self.v, self.q)
        k, v = rotate(self.norm_k(product(self.k, x, shared)), table), product(self.v, x, shared)
        if _is_chunked(x, options):
            shared = None  # each chunk is quantised by itself

        def answer(x: Tensor, table: Tensor) -> Tensor:
            return self.o(attend(rotate(self.norm_q(product(self.q, x, shared)), table), k, v, options))

        return in_chunks(answer, options, x, table)


class CrossAttention(SelfAttention):
    """One query attends to the text and, with rope, to the other tower; both answers pass through one ``o``."""

    def __init__(self, dim: int, layers: Layers):
        super().__init__(dim, layers)
        self.k_fusion, self.v_fusion = layers.linear(dim, dim), layers.linear(dim, dim)
        self.pre_attn_norm_fusion, self.norm_k_fusion = layers.layer_norm(dim), layers.rms_norm(dim)

    def text_keys(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Key and value [B, S, D] of the embedded text [B, S, D]: the same in every step of a run."""
        shared = quantized_once(text, self.k, self.v)
        return self.norm_k(product(self.k, text, shared)), product(self.v, text, shared)

    def other_keys(self, other: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """Key and value [B, L', D] of the other tower's tokens [B, L', D] and their rope."""
        other = self.pre_attn_norm_fusion(other)
        shared = quantized_once(other, self.k_fusion, self.v_fusion)
        key = rotate(self.norm_k_fusion(product(self.k_fusion, other, shared)), table)
        return key, product(self.v_fusion, other, shared)

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        text: tuple[Tensor, Tensor],
        other: tuple[Tensor, Tensor] | None,
        cross_modal_scale: tuple[float, ...],
        table: Tensor,
        options: dict,
        negative_text: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Both answers for x [B, L, D], whose rope is ``table``.

        Args:
            text: key and value of the text, each [B, S, D].
            other: the other tower's tokens [B, L', D] and their rope; None without one.
            cross_modal_scale: of the other tower's answer, for each of the batch's conditionings, or for all.
            negative_text: as ``text``, see ``text_attention``.
        """
        count = len(cross_modal_scale)
        attending = [i for i, scale in enumerate(cross_modal_scale) if scale]
        others = None
        if other is not None and attending:
            others = self.other_keys(pick(other[0], attending, count), other[1])

        def answer(x: Tensor, table: Tensor) -> Tensor:
            q = self.norm_q(self.q(x))
            answer = text_attention.patched(attend(q, *text, options), q, negative_text, attend, options)
            if others is not None:
                q, of_text = (pick(z, attending, count) for z in (q, answer))
                scales = [cross_modal_scale[i] for i in attending]
                of_other = _weighted(attend(rotate(q, table), *others, options), scales)
                answer = put(answer, of_text + of_other, attending, count)
            return self.o(answer)

        return in_chunks(answer, options, x, table)


def _weighted(x: Tensor, weights: list[float]) -> Tensor:
    """x [B, ...] times the weight of each of its conditionings; x itself where all are 1."""
    if all(weight == 1 for weight in weights):
        return x
    if len(set(weights)) == 1:
        return x * weights[0]
    return torch.cat([part * weight for part, weight in zip(x.chunk(len(weights)), weights, strict=True)])


class GatedConv(nn.Module):
    """``w2(silu(w1 x) · w3 x)`` over time: the last part of the audio patch embedding."""

    def __init__(self, dim: int, layers: Layers):
        super().__init__()
        hidden = -(-int(2 * 4 * dim / 3) // 256) * 256
        self.w1 = layers.conv1d(dim, hidden, bias=False)
        self.w2 = layers.conv1d(hidden, dim, bias=False)
        self.w3 = layers.conv1d(dim, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, D, L]."""
        return self.w2(silu(self.w1(x)) * self.w3(x))


class Head(nn.Module):
    """Norm, modulation by the time embedding, projection to latent values."""

    def __init__(self, dim: int, out_dim: int, layers: Layers):
        super().__init__()
        self.head = layers.linear(dim, out_dim, dtype=layers.fine_dtype)
        self.modulation = layers.modulation(2, dim)

    def forward(self, x: Tensor, embedding: Tensor, index: Tensor | None) -> Tensor:
        """x: [B, L, D]; embedding: [B, K, D] float32. Returns [B, L, out_dim]."""
        shift, scale = self.modulation(embedding.unsqueeze(2))
        return self.head(modulated_norm(x, shift, scale, index))
