"""The pairs of blocks that join the two towers, and what goes into them. Axis letters as in ``layers.py``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from . import cross_modal
from .layers import GELU, CrossAttention, FeedForward, Layers, SelfAttention, add_gated, in_chunks, modulated_norm
from .weight_prefetch import leaves


@dataclass(frozen=True)
class OviConfig:
    """Sizes of the twin transformer; both towers share all but their channels. Defaults: the published 11 B."""

    dim: int = 3072
    ffn_dim: int = 14336
    num_layers: int = 30
    text_dim: int = 4096
    freq_dim: int = 256
    video_channels: int = 48
    audio_channels: int = 20

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class TimeCode:
    """The time embedding of a tower's distinct timesteps, float32.

    embedding: [B, K, D], for the head. projection: [B, K, 6, D], for the blocks. index: [B, n] or None, see
    :class:`.timesteps.TimestepShares`.
    """

    embedding: Tensor
    projection: Tensor
    index: Tensor | None


@dataclass(frozen=True)
class Stream:
    """What a block needs of one tower beside its tokens: rope table, time code, text key and value [B, S, D].

    cross_modal_scale: of what it reads of the other tower, for each of the batch's conditionings, or for all.
    negative_text: as ``text``, of the negative prompt, where patches compare the answers; see ``text_attention``.
    """

    table: Tensor
    time: TimeCode
    text: tuple[Tensor, Tensor]
    cross_modal_scale: cross_modal.Scale
    negative_text: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class Text:
    """One tower's text: key and value of every block where the run keeps them, else the embedded text [B, S, D]."""

    keys: list[tuple[Tensor, Tensor]] | None
    embedded: Tensor | None

    def of_block(self, i: int, block: Block) -> tuple[Tensor, Tensor]:
        """Key and value [B, S, D] for ``block``, the ``i``-th; where memory is short, no more than one at a time."""
        return self.keys[i] if self.keys is not None else block.cross_attn.text_keys(self.embedded)


class Block(nn.Module):
    """One tower's half of a fused block pair; called, it runs the whole pair, so that what is compiled is that."""

    def __init__(self, config: OviConfig, layers: Layers):
        super().__init__()
        dim = config.dim
        self.self_attn = SelfAttention(dim, layers)
        self.norm3 = layers.layer_norm(dim)
        self.cross_attn = CrossAttention(dim, layers)
        self.ffn = FeedForward(layers.linear(dim, config.ffn_dim), GELU(), layers.linear(config.ffn_dim, dim))
        self.modulation = layers.modulation(6, dim)

    def forward(
        self, other: Block | None, tokens: list[Tensor], streams: Sequence[Stream], options: dict
    ) -> tuple[Tensor, ...]:
        """Run this block and the ``other`` tower's, or this one alone; see :func:`fused_blocks`."""
        return fused_blocks((self,) if other is None else (self, other), tokens, streams, options)

    def read_layers(self, text_kept: bool, alone: bool) -> Iterator[nn.Module]:
        """The layers whose weights a step reads.

        Args:
            text_kept: the keys of the text are cached.
            alone: the other tower does not run, or its scale is 0 for all.
        """
        cross = self.cross_attn
        text = [cross.k, cross.norm_k, cross.v] if text_kept else []
        other = [cross.k_fusion, cross.norm_k_fusion, cross.v_fusion, cross.pre_attn_norm_fusion] if alone else []
        return leaves(self, without=[*text, *other])


def fused_blocks(
    blocks: Sequence[Block], tokens: list[Tensor], streams: Sequence[Stream], options: dict
) -> tuple[Tensor, ...]:
    """Run one block pair, or the block of a tower that is alone; returns the new tokens [B, L, D] of each stream.

    Each tower's cross-attention reads the other **as it stood after self-attention**: the pair is symmetric, neither
    sees what the other learns in this block (reference: ``single_fusion_block_forward``).

    Args:
        tokens: [B, L, D] of each stream. The list is emptied on the way, so that what nobody else holds is freed.
    """
    parts = [block.modulation(stream.time.projection) for block, stream in zip(blocks, streams, strict=True)]
    after = [
        _self_attended(block, tokens.pop(0), stream, part, options)
        for block, stream, part in zip(blocks, streams, parts, strict=True)
    ]
    tables = [stream.table for stream in streams]
    new: list[Tensor] = []
    # the video, which is larger, last: then nothing else reads it any more
    for i in reversed(range(len(blocks))):
        other = (after[1 - i], tables[1 - i]) if len(after) == 2 else None
        x = _cross_attended(blocks[i], after[i] if i else after.pop(0), other, streams[i], options)
        del other
        new.insert(0, _fed_forward(blocks[i], x, streams[i], parts[i], options))
    return tuple(new)


def _self_attended(block: Block, x: Tensor, stream: Stream, parts: Sequence[Tensor], options: dict) -> Tensor:
    """x [B, L, D] after the block's self-attention; parts: its modulation."""
    (shift, scale, gate, *_), index = parts, stream.time.index
    y = block.self_attn(modulated_norm(x, shift, scale, index), stream.table, options)
    return add_gated(x, y, gate, index)


def _cross_attended(
    block: Block, x: Tensor, other: tuple[Tensor, Tensor] | None, stream: Stream, options: dict
) -> Tensor:
    """x [B, L, D] after the block's cross-attention to its text and to the ``other`` tower's tokens and rope."""
    scale, table, negative = stream.cross_modal_scale, stream.table, stream.negative_text
    y = block.cross_attn(block.norm3(x), stream.text, other, scale, table, options, negative)
    return x + y


def _fed_forward(block: Block, x: Tensor, stream: Stream, parts: Sequence[Tensor], options: dict) -> Tensor:
    """x [B, L, D] after the block's feed-forward; parts: its modulation."""
    (*_, shift, scale, gate), index = parts, stream.time.index
    y = in_chunks(block.ffn, options, modulated_norm(x, shift, scale, index))
    return add_gated(x, y, gate, index)
