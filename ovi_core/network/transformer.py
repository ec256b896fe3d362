"""Ovi's twin transformer (arXiv 2510.01284, section 3): a video and an audio tower, joined in every block.

The video tower's modules lie at the root of :class:`OviTransformer`, the audio tower's under ``audio_model``: LoRAs
and merges made for Wan 2.2 5B then meet the video tower under the names they know. Axis letters as in ``layers.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import cycle
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from ..latents import joint
from . import circular_shift, cross_modal, rope, text_attention
from .blocks import Block, OviConfig, Stream, Text, TimeCode
from .comfyui import (
    CUDNN_FIRST,
    WrapperExecutor,
    WrappersMP,
    get_all_wrappers,
    pad_to_patch_size,
    prefers_cudnn,
)
from .layers import (
    HEAD_DIM,
    GatedConv,
    Head,
    Layers,
)
from .references import References
from .run_cache import RunCache
from .timesteps import TimestepShares, Waves
from .weight_prefetch import WeightPrefetch

PATCH = (1, 2, 2)


class Setup(NamedTuple):
    """What a forward needs beside its inputs, nearly all of it the same in every step of a run.

    options: a copy of ComfyUI's transformer options. For each tower that runs, tables: its rope; text_keys: key and
    value [B, S, D] for every block, or None, and after them those of the negative texts. cross_modal_scales: of video
    and audio, in every block. weights: of the block pairs.
    """

    options: dict
    waves: Waves
    tables: list[Tensor]
    text_keys: list
    cross_modal_scales: list[tuple[cross_modal.Scale, cross_modal.Scale]]
    weights: WeightPrefetch


class Tower(nn.Module):
    """One modality's transformer: text and time embedding, blocks, head; subclasses know the latent's axes."""

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


class AudioTower(Tower):
    """The tower of audio latents [B, 20, L]: one token per audio frame."""

    def __init__(self, config: OviConfig, layers: Layers):
        super().__init__(config, config.audio_channels, layers)
        self.patch_embedding = nn.Sequential(
            layers.conv1d(config.audio_channels, config.dim), nn.SiLU(), GatedConv(config.dim, layers)
        )

    def embed(self, latent: Tensor) -> Tensor:
        """Tokens [B, L, D]."""
        return _as_tokens(rearrange(self.patch_embedding(latent), "b d l -> b l d"))

    def table(self, latent: Tensor, references: References, run: RunCache, options: dict) -> Tensor:
        """Rope of the latent's tokens and of the voices after them."""
        windowed = "context_window" in options
        start = rope.window_start(options["context_window"]) if windowed else options.get(rope.AUDIO_START, 0.0)
        after = references.voice_times()
        scale = references.audio_time_scale
        steps, device = latent.shape[-1], latent.device
        starts = (start,) if windowed else options.get(rope.AUDIO_STARTS, (start,))
        tables = run.once(
            ("audio rope", steps, starts, after, scale, device),
            lambda: {some: rope.audio_table(steps, HEAD_DIM, device, some, after, scale) for some in starts},
        )
        return tables[start]

    def unembed(self, values: Tensor, latent: Tensor) -> Tensor:
        """What the head gives for each token, in the shape of ``latent``."""
        return rearrange(values, "b l c -> b c l")


class OviTransformer(Tower):
    """The twin transformer: predicts the velocity of the video and the audio latent together, or of one alone.

    As a :class:`Tower` it is that of video latents [B, 48, T, H, W]: one token for each patch of 2x2 cells.
    """

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
        self.audio_model = AudioTower(config, layers)

    def embed(self, latent: Tensor) -> Tensor:
        """Tokens [B, L, D]; odd sides are padded to whole patches."""
        padded = pad_to_patch_size(latent, PATCH)
        return _as_tokens(rearrange(self.patch_embedding(padded.float()).to(latent.dtype), "b d t h w -> b (t h w) d"))

    def table(self, latent: Tensor, references: References, run: RunCache, options: dict) -> Tensor:
        """Rope of the latent's tokens and of the faces after them."""
        grid, device, after = _grid(latent), latent.device, references.face_times()
        return run.once(("video rope", grid, after, device), lambda: rope.video_table(*grid, HEAD_DIM, device, after))

    def unembed(self, values: Tensor, latent: Tensor) -> Tensor:
        """What the head gives for each token, in the shape of ``latent``."""
        (t, h, w), (height, width) = _grid(latent), latent.shape[-2:]
        whole = rearrange(
            values, "b (t h w) (pt ph pw c) -> b c (t pt) (h ph) (w pw)",
            t=t, h=h, w=w, pt=PATCH[0], ph=PATCH[1], pw=PATCH[2],
        )  # fmt: skip
        return whole[..., :height, :width]

    @torch.compiler.disable(recursive=False)  # what it calls is compiled; for the reason see _set_up
    def forward(
        self, x: list[Tensor], timestep: Tensor, context: Tensor, transformer_options: dict | None = None, **kwargs: Any
    ) -> list[Tensor] | Tensor:
        """Velocity of both latents.

        Args:
            x: video latent [B, 48, T, H, W] and audio latent [B, 20, L]; or the video alone; or the audio alone, beside
                the single video cell that stands for no video (``latents.is_absent``).
            timestep: [B] in 0..1000.
            context: text for the video tower [B, S, text_dim]; ``audio_context`` the same for the audio tower.
            transformer_options: ComfyUI's; wrappers, patches and the current :class:`RunCache`.

        Returns:
            As many as were given, 0 for what is absent; the video alone as a tensor, as ComfyUI expects it.
        """
        options = {} if transformer_options is None else transformer_options
        if options.get("ovi_whole_timesteps"):
            timestep = timestep.floor()
        # Caches keep and change what they are given, which must not be the sampler's own latent.
        present = [latent.clone() for latent in x if not joint.is_absent(latent.shape)]
        # Wrappers see one latent as other models have it: a cache goes by the first it sees.
        forward = circular_shift.around(self._forward) if options.get(circular_shift.KEY) else self._forward
        out = WrapperExecutor.new_class_executor(
            forward, self, get_all_wrappers(WrappersMP.DIFFUSION_MODEL, options)
        ).execute(present if len(present) == 2 else present[0], timestep, context, options, **kwargs)
        return out if len(x) == len(present) else [torch.zeros_like(x[0]), out]

    @torch.compiler.disable(recursive=False)
    def _forward(
        self,
        x: list[Tensor] | Tensor,
        timestep: Tensor,
        context: Tensor,
        transformer_options: dict,
        audio_context: Tensor | None = None,
        video_shares: TimestepShares | None = None,
        audio_shares: TimestepShares | None = None,
        keep_text_keys: bool = False,
        face_references: Tensor | None = None,
        voice_references: Tensor | None = None,
        voice_lengths: tuple[int, ...] = (),
        negative_context: Tensor | None = None,
        negative_audio_context: Tensor | None = None,
        **kwargs: Any,
    ) -> list[Tensor] | Tensor:
        given = [x] if isinstance(x, Tensor) else x
        references = References(face_references, voice_references, voice_lengths)
        run = transformer_options.get(RunCache.KEY) or RunCache()
        each = (
            (self, context, video_shares, negative_context),
            (self.audio_model, audio_context, audio_shares, negative_audio_context),
        )
        towers, asked, shares, negative = zip(*(each[0 if latent.ndim == 5 else 1] for latent in given), strict=True)
        contexts = [context if text is None else text for text in asked]
        contexts += [text for text in negative if text is not None]  # of all towers or of none
        setup = self._set_up(towers, given, contexts, references, keep_text_keys, transformer_options)
        whole = [references.appended(latent) for latent in given]
        tokens = [tower.embed(latent) for tower, latent in zip(towers, whole, strict=True)]
        times = [
            tower.time_code(timestep, references.shares(latent, s, run), setup.waves)
            for tower, latent, s in zip(towers, given, shares, strict=True)
        ]
        texts = [
            Text(keys, None if keys else tower.text_embedding(text))
            for tower, keys, text in zip(cycle(towers), setup.text_keys, contexts, strict=False)
        ]
        tokens = self._run_blocks(towers, tokens, times, texts, setup)
        out = [
            tower.unembed(tower.head(t, time.embedding, time.index), latent)[:, :, : clip.shape[2]]
            for tower, t, time, latent, clip in zip(towers, tokens, times, whole, given, strict=True)
        ]
        return out if len(out) == 2 else out[0]

    @torch.compiler.disable
    def _set_up(
        self,
        towers: Sequence[Any],
        given: list[Tensor],
        contexts: list[Tensor],
        references: References,
        keep: bool,
        options: dict,
    ) -> Setup:
        """Look up what the run has already computed, compute what it has not.

        Not compiled: ComfyUI's TorchCompileModel takes everything it reads from ``transformer_options`` for constant,
        so that a compiled forward would keep the options of the first one. What comes from here it looks at each time.
        """
        run, device = options.get(RunCache.KEY) or RunCache(), contexts[0].device
        tables = [tower.table(latent, references, run, options) for tower, latent in zip(towers, given, strict=True)]
        waves = run.once(("waves", device), lambda: Waves.of_dim(self.config.freq_dim, device))
        text_keys: list = [None] * len(contexts)
        conditionings = tuple(options.get("uuids", ()))
        if keep and conditionings:
            for i, (tower, context) in enumerate(zip(cycle(towers), contexts, strict=False)):
                key = ("text keys", i, conditionings, context.shape, device)
                text_keys[i] = run.once(key, partial(tower.text_keys, context))
        scales = cross_modal.scales_of(options, len(self.blocks))
        if ineffective := text_attention.ineffective(options):
            run.once(("ineffective patches", ineffective), partial(text_attention.warn_of_ineffective, ineffective))
        weights = WeightPrefetch(self._read_layers(towers, text_keys, scales), device, options)
        options = {**options, CUDNN_FIRST: prefers_cudnn(device, options)}
        return Setup(options, waves, tables, text_keys, scales, weights)

    def _read_layers(self, towers: Sequence[Any], text_keys: list, scales: list) -> Iterator[list[nn.Module]]:
        """The layers of each block pair whose weights are read."""
        for i, of_block in enumerate(scales):
            yield [
                layer
                for tower, keys, scale in zip(towers, text_keys, of_block, strict=False)
                for layer in tower.blocks[i].read_layers(keys is not None, len(towers) == 1 or not any(scale))
            ]

    @torch.compiler.disable(recursive=False)  # each pair is a graph of its own, which serves all of them
    def _run_blocks(
        self, towers: Sequence[Any], tokens: list[Tensor], times: Any, texts: list[Text], setup: Setup
    ) -> list[Tensor]:
        """All block pairs in order, with ComfyUI's per-block patches; empties ``tokens``, see ``fused_blocks``."""
        options = setup.options
        replacements = options.get("patches_replace", {}).get("dit", {})
        after_block = options.get("patches", {}).get("double_block", [])
        options["total_blocks"], options["block_type"] = len(self.blocks), "double"
        for i, blocks in enumerate(zip(*(tower.blocks for tower in towers), strict=True)):
            options["block_index"] = i
            setup.weights.advance()
            keys = [text.of_block(i, block) for text, block in zip(texts, cycle(blocks), strict=False)]
            negative: list[Any] = [*keys[len(blocks) :], *[None] * len(blocks)]
            streams = tuple(
                Stream(*of_tower)
                for of_tower in zip(setup.tables, times, keys, setup.cross_modal_scales[i], negative, strict=False)
            )

            first, other = blocks if len(blocks) == 2 else (blocks[0], None)

            def run_pair(args: dict, first: Block = first, other: Block | None = other) -> dict:
                return {"img": first(other, [*args["img"]], args["streams"], args["transformer_options"])}

            if ("double_block", i) in replacements:
                args = {"img": tuple(tokens), "streams": streams, "transformer_options": options}
                tokens = replacements[("double_block", i)](args, {"original_block": run_pair})["img"]
                del args
            else:
                tokens = first(other, tokens, streams, options)
            for patch in after_block:
                tokens = patch({"img": tokens, "block_index": i, "transformer_options": options})["img"]
            tokens = [*tokens]
        setup.weights.advance()
        return tokens


def _as_tokens(x: Tensor) -> Tensor:
    """x [B, L, D] with the values of a token side by side.

    A convolution leaves them far apart, and sums keep that layout: every norm of every block would copy the tokens.
    """
    return x.contiguous()


def _grid(latent: Tensor) -> tuple[int, int, int]:
    """Tokens of a video latent along time, height and width."""
    frames, height, width = latent.shape[2:]
    return frames, -(-height // PATCH[1]), -(-width // PATCH[2])
