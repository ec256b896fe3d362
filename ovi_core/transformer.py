"""Ovi's twin transformer (arXiv 2510.01284, section 3): a video and an audio tower, joined in every block.

The video tower's modules lie at the root of :class:`OviTransformer`, the audio tower's under ``audio_model``: LoRAs
and merges made for Wan 2.2 5B then meet the video tower under the names they know. Axis letters as in ``layers.py``.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import comfy.ldm.common_dit
import torch
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers
from einops import rearrange
from torch import Tensor, nn

from . import rope
from .layers import HEAD_DIM, CrossAttention, GatedConv, Head, Layers, SelfAttention, add_gated, modulate, plain_norm
from .run import Run
from .timesteps import TimestepShares, Waves

PATCH = (1, 2, 2)


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
    :class:`~ovi_core.timesteps.TimestepShares`.
    """

    embedding: Tensor
    projection: Tensor
    index: Tensor | None


@dataclass(frozen=True)
class Stream:
    """What a block needs of one tower: tokens [B, L, D], rope table, time code, text key and value [B, S, D]."""

    tokens: Tensor
    table: Tensor
    time: TimeCode
    text: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Text:
    """One tower's text: key and value of every block where the run keeps them, else the embedded text [B, S, D]."""

    keys: list[tuple[Tensor, Tensor]] | None
    embedded: Tensor | None

    def of_block(self, i: int, block: Block) -> tuple[Tensor, Tensor]:
        """Key and value [B, S, D] for ``block``, the ``i``-th; where memory is short, no more than one at a time."""
        return self.keys[i] if self.keys is not None else block.cross_attn.text_keys(self.embedded)


class Setup(NamedTuple):
    """What a forward needs beside its inputs, nearly all of it the same in every step of a run.

    options: a copy of the host's transformer options. tables: rope of video and audio. text_keys: of each tower key
    and value [B, S, D] for every block, or None.
    """

    options: dict
    waves: Waves
    tables: tuple[Tensor, Tensor]
    text_keys: list


class Block(nn.Module):
    """One tower's half of a fused block pair."""

    def __init__(self, config: OviConfig, layers: Layers):
        super().__init__()
        dim = config.dim
        self.self_attn = SelfAttention(dim, layers)
        self.norm3 = layers.layer_norm(dim)
        self.cross_attn = CrossAttention(dim, layers)
        self.ffn = nn.Sequential(
            layers.linear(dim, config.ffn_dim), nn.GELU(approximate="tanh"), layers.linear(config.ffn_dim, dim)
        )
        self.modulation = layers.modulation(6, dim)


def fused_blocks(
    video_block: Block, audio_block: Block, video: Stream, audio: Stream, options: dict
) -> tuple[Tensor, Tensor]:
    """Run one block pair; returns the new video and audio tokens [B, L, D].

    Each tower's cross-attention reads the other **as it stood after self-attention**: the pair is symmetric, neither
    sees what the other learns in this block (reference: ``single_fusion_block_forward``).
    """
    pairs = ((audio_block, audio), (video_block, video))
    parts = [block.modulation(stream.time.projection) for block, stream in pairs]
    after = []
    for (block, stream), (shift, scale, gate, *_) in zip(pairs, parts, strict=True):
        index = stream.time.index
        y = block.self_attn(modulate(plain_norm(stream.tokens), shift, scale, index), stream.table, options)
        after.append(replace(stream, tokens=add_gated(stream.tokens, y, gate, index)))
    new = []
    for (block, _), own, other, (*_, shift, scale, gate) in zip(pairs, after, reversed(after), parts, strict=True):
        x = own.tokens + block.cross_attn(
            block.norm3(own.tokens), own.text, other.tokens, own.table, other.table, options
        )
        y = block.ffn(modulate(plain_norm(x), shift, scale, own.time.index))
        new.append(add_gated(x, y, gate, own.time.index))
    return new[1], new[0]


class Tower(nn.Module):
    """One modality's transformer without its patch embedding: text and time embedding, blocks, head."""

    def __init__(self, config: OviConfig, out_dim: int, layers: Layers):
        super().__init__()
        dim, gelu = config.dim, nn.GELU(approximate="tanh")
        self.config = config
        self.text_embedding = nn.Sequential(layers.linear(config.text_dim, dim), gelu, layers.linear(dim, dim))
        self.time_embedding = nn.Sequential(
            layers.linear(config.freq_dim, dim, dtype=torch.float32),
            nn.SiLU(),
            layers.linear(dim, dim, dtype=torch.float32),
        )
        self.time_projection = nn.Sequential(nn.SiLU(), layers.linear(dim, 6 * dim, dtype=torch.float32))
        self.blocks = nn.ModuleList(Block(config, layers) for _ in range(config.num_layers))
        self.head = Head(dim, out_dim, layers)

    def time_code(self, timesteps: Tensor, shares: TimestepShares | None, waves: Waves) -> TimeCode:
        """Embed the distinct timesteps of a batch; ``timesteps`` [B] in 0..1000, ``shares`` of 1 or B rows."""
        distinct, index = timesteps.unsqueeze(1), None
        if shares is not None:
            distinct = distinct * shares.values.to(timesteps.device)
            index = shares.index.to(timesteps.device)
            # conditionings run as one batch: the latents' rows come once for each of them
            index = index.repeat(timesteps.shape[0] // index.shape[0], 1)
        embedding = self.time_embedding(waves.sinusoids(distinct))
        return TimeCode(embedding, self.time_projection(embedding).unflatten(-1, (6, -1)), index)

    def text_keys(self, context: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Key and value of the text, context [B, S, text_dim], for every block."""
        text = self.text_embedding(context)
        return [block.cross_attn.text_keys(text) for block in self.blocks]


class OviTransformer(Tower):
    """The twin transformer: predicts the velocity of the video and the audio latent together."""

    def __init__(
        self,
        image_model: str | None = None,
        dtype: Any = None,
        device: Any = None,
        operations: Any = None,
        **sizes: int,
    ):
        config, layers = OviConfig(**sizes), Layers(operations, device, dtype)
        super().__init__(config, config.video_channels * math.prod(PATCH), layers)
        self.dtype = dtype
        self.patch_embedding = operations.Conv3d(
            config.video_channels, config.dim, kernel_size=PATCH, stride=PATCH, device=device, dtype=torch.float32
        )
        self.audio_model = Tower(config, config.audio_channels, layers)
        self.audio_model.patch_embedding = nn.Sequential(
            layers.conv1d(config.audio_channels, config.dim), nn.SiLU(), GatedConv(config.dim, layers)
        )

    @torch.compiler.disable(recursive=False)  # what it calls is compiled; for the reason see _set_up
    def forward(
        self, x: list[Tensor], timestep: Tensor, context: Tensor, transformer_options: dict | None = None, **kwargs: Any
    ) -> list[Tensor]:
        """Velocity of both latents.

        Args:
            x: video latent [B, 48, T, H, W] and audio latent [B, 20, L].
            timestep: [B] in 0..1000.
            context: text for the video tower [B, S, text_dim]; ``audio_context`` the same for the audio tower.
            transformer_options: the host's; wrappers, patches and the current :class:`Run`.
        """
        options = {} if transformer_options is None else transformer_options
        if options.get("ovi_whole_timesteps"):
            timestep = timestep.floor()
        # Caches keep and change what they are given, which must not be the sampler's own latent.
        x = [latent.clone() for latent in x]
        return WrapperExecutor.new_class_executor(
            self._forward, self, get_all_wrappers(WrappersMP.DIFFUSION_MODEL, options)
        ).execute(x, timestep, context, options, **kwargs)

    def _forward(
        self,
        x: list[Tensor],
        timestep: Tensor,
        context: Tensor,
        transformer_options: dict,
        audio_context: Tensor | None = None,
        video_shares: TimestepShares | None = None,
        audio_shares: TimestepShares | None = None,
        keep_text_keys: bool = False,
        **kwargs: Any,
    ) -> list[Tensor]:
        video, audio = x
        height, width = video.shape[-2:]
        padded = comfy.ldm.common_dit.pad_to_patch_size(video, PATCH)
        grid = (padded.shape[2], padded.shape[3] // PATCH[1], padded.shape[4] // PATCH[2])
        contexts = (context, context if audio_context is None else audio_context)
        setup = self._set_up(grid, audio.shape[-1], contexts, keep_text_keys, transformer_options)
        tokens = (
            rearrange(self.patch_embedding(padded.float()).to(video.dtype), "b d t h w -> b (t h w) d"),
            rearrange(self.audio_model.patch_embedding(audio), "b d l -> b l d"),
        )
        times = (
            self.time_code(timestep, video_shares, setup.waves),
            self.audio_model.time_code(timestep, audio_shares, setup.waves),
        )
        texts = [
            Text(keys, None if keys else tower.text_embedding(context))
            for tower, keys, context in zip((self, self.audio_model), setup.text_keys, contexts, strict=True)
        ]
        tokens = self._run_blocks(tokens, setup.tables, times, texts, setup.options)
        video_out = self.head(tokens[0], times[0].embedding, times[0].index)
        audio_out = self.audio_model.head(tokens[1], times[1].embedding, times[1].index)
        t, h, w = grid
        video_out = rearrange(
            video_out, "b (t h w) (pt ph pw c) -> b c (t pt) (h ph) (w pw)",
            t=t, h=h, w=w, pt=PATCH[0], ph=PATCH[1], pw=PATCH[2],
        )  # fmt: skip
        return [video_out[..., :height, :width], rearrange(audio_out, "b l c -> b c l")]

    @torch.compiler.disable
    def _set_up(
        self, grid: tuple[int, int, int], steps: int, contexts: tuple[Tensor, Tensor], keep: bool, options: dict
    ) -> Setup:
        """Look up what the run has already computed, compute what it has not.

        Not compiled: the host's TorchCompileModel takes everything it reads from ``transformer_options`` for constant,
        so that a compiled forward would keep the options of the first one. What comes from here it looks at each time.
        """
        run, device = options.get(Run.KEY) or Run(), contexts[0].device
        start = rope.window_start(options["context_window"]) if "context_window" in options else 0.0
        tables = (
            run.once(("video rope", grid, device), lambda: rope.video_table(*grid, HEAD_DIM, device)),
            run.once(("audio rope", steps, start, device), lambda: rope.audio_table(steps, HEAD_DIM, device, start)),
        )
        waves = run.once(("waves", device), lambda: Waves.of_dim(self.config.freq_dim, device))
        text_keys: list = [None, None]
        conditionings = tuple(options.get("uuids", ()))
        if keep and conditionings:
            for i, (tower, context) in enumerate(zip((self, self.audio_model), contexts, strict=True)):
                key = ("text keys", i, conditionings, context.shape, device)
                text_keys[i] = run.once(key, partial(tower.text_keys, context))
        return Setup(dict(options), waves, tables, text_keys)

    def _run_blocks(
        self, tokens: Any, tables: Any, times: Any, texts: list[Text], options: dict
    ) -> tuple[Tensor, Tensor]:
        """All block pairs in order, with the host's per-block patches."""
        replacements = options.get("patches_replace", {}).get("dit", {})
        after_block = options.get("patches", {}).get("double_block", [])
        options["total_blocks"], options["block_type"] = len(self.blocks), "double"
        for i, pair in enumerate(zip(self.blocks, self.audio_model.blocks, strict=True)):
            options["block_index"] = i
            streams = tuple(
                Stream(t, table, time, text.of_block(i, block))
                for t, table, time, text, block in zip(tokens, tables, times, texts, pair, strict=True)
            )

            def run_pair(args: dict, blocks: tuple = pair) -> dict:
                video, audio = (replace(s, tokens=t) for s, t in zip(args["streams"], args["img"], strict=True))
                return {"img": fused_blocks(blocks[0], blocks[1], video, audio, args["transformer_options"])}

            args = {"img": tokens, "streams": streams, "transformer_options": options}
            if ("double_block", i) in replacements:
                tokens = replacements[("double_block", i)](args, {"original_block": run_pair})["img"]
            else:
                tokens = run_pair(args)["img"]
            for patch in after_block:
                tokens = patch({"img": tokens, "block_index": i, "transformer_options": options})["img"]
        return tokens
