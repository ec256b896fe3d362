"""How much memory one forward takes beside the weights, from the shapes alone.

The peak lies in one of two places of a block: in a feed-forward, between its two matrices, or, where that runs in
chunks, where one tower's cross-attention makes keys of the other's tokens.
``tests/network/test_memory_accounting.py`` compares this with every storage that lives during a forward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..latents.joint import is_absent
from ..network.layers import HEAD_DIM
from ..network.transformer import PATCH, OviConfig
from ..spec import TEXT_LENGTH, VIDEO_CHANNELS

HELD = 3
"""Copies of every token that live throughout: as embedded, before the block, after its self-attention."""
TEXT_COPIES = 3
"""Per tower: the text as embedded, and its key and value in the block that runs."""


def activation_bytes(
    config: OviConfig, batch: int, video_tokens: int, audio_tokens: int, itemsize: int, chunk_tokens: int = 0
) -> int:
    """Most bytes that live at once in a forward beside weights and inputs, with attention that keeps no scores.

    Text keys of all blocks are not in it: the run keeps those only where memory is left.

    Args:
        batch: rows, positive and negative counted apiece.
        video_tokens, audio_tokens: per row; 0 for a tower that does not run.
        itemsize: bytes of a value in the type the model computes in.
        chunk_tokens: see ``layers.in_chunks``.
    """
    widest = 0.0  # copies of a token's ``dim`` values
    for own, other, done in ((video_tokens, audio_tokens, 0), (audio_tokens, video_tokens, video_tokens)):
        chunks = max(1, math.ceil(own / chunk_tokens)) if chunk_tokens else 1
        hidden = 2 * math.ceil(own / chunks) * config.ffn_dim / config.dim
        feed_forward = 2 * own + hidden + (own if chunks > 1 else 0)
        keys_of_other = own + 3 * other
        if own:
            widest = max(widest, done + feed_forward, done + keys_of_other)
    tokens = video_tokens + audio_tokens
    texts = ((video_tokens > 0) + (audio_tokens > 0)) * TEXT_COPIES * TEXT_LENGTH
    values = (HELD * tokens + widest + texts) * config.dim
    latents = video_tokens * math.prod(PATCH) * config.video_channels + audio_tokens * config.audio_channels
    rope_tables = tokens * 2 * HEAD_DIM * 4  # cosine and sine as 2x2 matrices, float32, one for all rows
    return int(batch * itemsize * (values + latents) + rope_tables)


def tokens_of(
    shape: Sequence[int], latent_shapes: Sequence[Sequence[int]], references: tuple[int, int] = (0, 0)
) -> tuple[int, int]:
    """Video and audio tokens of a latent shape as ComfyUI gives it, those of reference people included.

    Args:
        shape: [B, 48, T, H, W], or [B, 1, N] packed.
        latent_shapes: of the run's latent before packing, if there is a run. A context window has a part of its N, and
            that part of its tokens.
        references: latent frames of faces and audio frames of voices.
    """
    if len(shape) == 5:
        return _video_tokens(shape) + references[0] * _video_tokens((*shape[:2], 1, *shape[3:])), 0
    packed = math.prod(shape[1:])
    whole = sum(math.prod(part[1:]) for part in latent_shapes)
    if not whole:
        return math.ceil(packed / (VIDEO_CHANNELS * math.prod(PATCH))), 0
    video, *audio = latent_shapes
    share = packed / whole
    faces = 0 if is_absent(video) else references[0] * _video_tokens((*video[:2], 1, *video[3:]))
    audio_frames = audio[0][-1] if audio else 0
    voices = references[1] if audio else 0
    return math.ceil(share * _video_tokens(video)) + faces, math.ceil(share * audio_frames) + voices


def _video_tokens(shape: Sequence[int]) -> int:
    if is_absent(shape):
        return 0
    return math.prod(math.ceil(cells / side) for cells, side in zip(shape[2:], PATCH, strict=True))
