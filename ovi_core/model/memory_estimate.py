"""How much memory one forward takes beside the weights, from the shapes alone.

The peak lies in one of a few places of a block pair: at the second matrix of a feed-forward; where that runs in
chunks, at self-attention; beside a much longer tower, where cross-attention makes keys of the other's tokens.
``tests/network/test_memory_accounting.py`` compares this with every storage that lives during a forward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..latents.joint import is_absent
from ..network.layers import HEAD_DIM
from ..network.transformer import PATCH, OviConfig
from ..spec import TEXT_LENGTH, VIDEO_CHANNELS

TEXT_COPIES = 3
"""Per tower: the text as embedded, and its key and value in the block that runs."""


def activation_bytes(
    config: OviConfig,
    batch: int,
    video_tokens: int,
    audio_tokens: int,
    itemsize: int,
    chunk_tokens: int = 0,
    asking_twice: float = 0.0,
    in_fp8: bool = False,
) -> int:
    """Most bytes that live at once in a forward beside weights and inputs, with attention that keeps no scores.

    Text keys of all blocks are not in it: the run keeps those only where memory is left.

    Args:
        batch: rows, positive and negative counted apiece.
        video_tokens, audio_tokens: per row; 0 for a tower that does not run.
        itemsize: bytes of a value in the type the model computes in.
        chunk_tokens: see ``layers.in_chunks``.
        asking_twice: share of the rows that ask the negative text beside their own, see ``network.text_attention``;
            where it is not 0, all rows have that text.
        in_fp8: whether matrices multiply in fp8, for which a layer copies what goes in. *Computed*, not measured.
    """
    video, audio = video_tokens, audio_tokens
    hidden = config.ffn_dim / config.dim * (1 + in_fp8 / itemsize)
    widest = max(
        # of the video's own work, beside the audio as it was and as it is
        _in_self_attention(video, chunk_tokens) + audio,
        _in_cross_attention(video, chunk_tokens, asking_twice) + 4 * audio,
        _in_feed_forward(video, chunk_tokens, hidden) + 2 * audio,
        # and the other way about; the audio's block reads the video as it stands after self-attention
        _in_self_attention(audio, chunk_tokens) + video,
        (4 * video + 2 * audio) if audio else 0,
        _in_cross_attention(audio, chunk_tokens, asking_twice) + 3 * video,
        _in_feed_forward(audio, chunk_tokens, hidden) + audio + video,
    )
    tokens = video + audio
    texts = ((video_tokens > 0) + (audio_tokens > 0)) * TEXT_COPIES * TEXT_LENGTH * (2 if asking_twice else 1)
    values = (widest + texts) * config.dim
    latents = video_tokens * math.prod(PATCH) * config.video_channels + audio_tokens * config.audio_channels
    rope_tables = tokens * 2 * HEAD_DIM * 4  # cosine and sine as 2x2 matrices, float32, one for all rows
    return int(batch * itemsize * (values + latents) + rope_tables)


def _in_self_attention(tokens: int, chunk_tokens: int) -> float:
    """Copies of a token's ``dim`` values that live at once in a tower's self-attention, over all its ``tokens``.

    The tokens, what is made of them, key, value, query and answer; of a chunk also its own copy.
    """
    chunk = _longest_chunk(tokens, chunk_tokens)
    return 6 * tokens if chunk == tokens else 5 * tokens + 3 * chunk


def _in_cross_attention(tokens: int, chunk_tokens: int, asking_twice: float) -> float:
    """The same in its cross-attention, without the keys of the other tower.

    The tokens, what is made of them, query, both answers, their sum and what becomes of it. Of rows that ask twice,
    the answer, the same beside that of the negative text, and what ComfyUI's NAGuidance makes of these.
    """
    chunk = _longest_chunk(tokens, chunk_tokens)
    if chunk == tokens:
        return max(7, 4 + 7 * asking_twice) * tokens
    return 3 * tokens + max(6, 3 + 7 * asking_twice) * chunk


def _in_feed_forward(tokens: int, chunk_tokens: int, hidden: float) -> float:
    """The same in its feed-forward: tokens, what goes in, what comes out, ``hidden`` times as much in between."""
    chunk = _longest_chunk(tokens, chunk_tokens)
    return (3 + hidden) * tokens if chunk == tokens else 3 * tokens + (2 + hidden) * chunk


def _longest_chunk(tokens: int, chunk_tokens: int) -> int:
    """Tokens of the longest of the even chunks that ``layers.in_chunks`` makes."""
    return math.ceil(tokens / math.ceil(tokens / chunk_tokens)) if 0 < chunk_tokens < tokens else tokens


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
