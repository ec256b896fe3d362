"""The whole configuration of a training run: sizes of the networks, what they see, and how they learn."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any

from ovi_native.ovi_core.network.transformer import OviConfig
from ovi_native.ovi_core.vae.mmaudio_weights import AudioSizes


@dataclass(frozen=True)
class Learning:
    """How one network learns: Muon with warm-up, a constant rate, and a linear descent.

    Attributes:
        steps: optimiser steps in all.
        rate: of matrices and filters; about the share by which a step changes them.
        vector_scale: rate of norms, biases and tables, as a share of ``rate``.
        warm_up: steps in which the rate rises.
        descent: share of the steps, at the end, in which the rate falls to zero.
        averaging: decay per step of the averaged weights, which are the ones that are kept.
    """

    steps: int
    rate: float
    warm_up: int = 100
    descent: float = 0.8
    vector_scale: float = 0.3
    weight_decay: float = 0.01
    averaging: float = 0.999
    clip_norm: float = 1.0


@dataclass(frozen=True)
class Crops:
    """What the video VAE sees up to a share of its steps: ``batch`` crops of ``frames`` frames, ``pixels`` a side."""

    until: float
    frames: int
    pixels: int
    batch: int


@dataclass(frozen=True)
class VideoVAE:
    """Channels as in ``video_vae.build_network``; first pictures alone, then clips of several latent steps."""

    learning: Learning = Learning(steps=4193, rate=0.012, averaging=0.998)
    dim: int = 8
    dec_dim: int = 12
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 1
    crops: tuple[Crops, ...] = (
        Crops(0.3, 1, 64, 8),
        Crops(0.8, 9, 64, 3),
        Crops(0.9, 17, 64, 2),
        Crops(1.0, 17, 96, 1),
    )
    noise: float = 0.1  # added to latents of unit variance while training, so that near latents mean near pictures
    moments: float = 0.05  # weight of the latents' means and variances in the loss

    def sizes(self) -> dict[str, Any]:
        return {
            "dim": self.dim,
            "dec_dim": self.dec_dim,
            "dim_mult": list(self.dim_mult),
            "num_res_blocks": self.num_res_blocks,
        }


@dataclass(frozen=True)
class VideoBasis:
    """How the axes of the video latent are scaled by what they change in the picture.

    Attributes:
        clips: over which that is measured.
        largest: deviation of the axis that is seen most.
        power: of how much an axis is seen, compared to that one, in its deviation; 0 would make all alike.
        least: below this share of the most seen no axis is made smaller.
        floor: variance added to every latent, so that what is never used is not blown up.
    """

    clips: int = 16
    largest: float = 2.2
    power: float = 0.5
    least: float = 0.02
    floor: float = 0.01


@dataclass(frozen=True)
class AudioVAE:
    """The spectrogram's VAE.

    Attributes:
        deviation: of the latents that the twin sees; they are trained with 1. The larger latents are, the more noise
            they are still made out in. With 1 a sound was decided at noise levels of 0.95 to 0.7, where the picture it
            should follow was still open; with this, at 0.75 to 0.45.
    """

    learning: Learning = Learning(steps=3000, rate=0.01, averaging=0.998)
    deviation: float = 0.35
    hidden: int = 24
    batch: int = 16
    columns: int = 128  # of the spectrogram, 62.5 a second
    noise: float = 0.1
    moments: float = 0.05


@dataclass(frozen=True)
class Vocoder:
    """The BigVGAN vocoder; it learns from true spectrograms and from those of the audio VAE, half and half."""

    learning: Learning = Learning(steps=1800, rate=0.005, averaging=0.998)
    channels: int = 64
    upsample_kernels: tuple[int, ...] = (16, 16, 8)
    resblock_kernels: tuple[int, ...] = (3, 7)
    batch: int = 6
    columns: int = 32


@dataclass(frozen=True)
class Text:
    """The UMT5 encoder and its vocabulary of pieces, which is learned from ``captions`` captions."""

    d_model: int = 64
    d_ff: int = 192
    d_kv: int = 32
    num_heads: int = 4
    num_layers: int = 2
    pieces: int = 640
    captions: int = 20000

    def sizes(self) -> dict[str, Any]:
        """ComfyUI's configuration of UMT5."""
        return {
            "d_model": self.d_model,
            "d_ff": self.d_ff,
            "d_kv": self.d_kv,
            "num_heads": self.num_heads,
            "num_layers": self.num_layers,
            "vocab_size": self.pieces,
            "model_type": "umt5",
            "is_gated_act": True,
            "dense_act_fn": "gelu_pytorch_tanh",
        }


PER_FILE = 64  # clips that are encoded into one file


@dataclass(frozen=True)
class Bucket:
    """Clips of one size and length: how many are encoded, and how often a batch is of them.

    Attributes:
        kind: of their scenes, as in ``casting.SHARES``; "" for all kinds.
        first: number of its first clip, a multiple of :data:`PER_FILE`; those before are left to another stage.
        at_first: how many of the clips the first step may draw from; 0 for all.
        joining: how many join them with every step, so that training can begin while they are still encoded.
    """

    width: int
    height: int
    seconds: float
    clips: int
    share: float
    batch: int
    kind: str = ""
    first: int = 0
    at_first: int = 0
    joining: float = 0.0

    def __post_init__(self) -> None:
        if self.first % PER_FILE:
            raise ValueError(f"A bucket's first clip is number {self.first}; accepted: multiples of {PER_FILE}.")

    def known(self, step: int) -> int:
        """How many of the clips a step may draw from."""
        return min(self.clips, self.at_first + int(self.joining * step)) if self.at_first else self.clips


@dataclass(frozen=True)
class Twin:
    """The twin transformer, trained together with the text encoder.

    Attributes:
        often: kinds of scene that are seen more often than there are clips of them, and by what factor: those that are
            learned last.
        video_clean, audio_clean: share of the samples in which that tower is given clean, at timestep 0, so that the
            other learns to follow it.
        span: share of the samples in which both towers are given clean but for a span of time, so that clips can be
            gone on with, ended with a picture, and redone in part.
        first_frame: share of the others in which the first latent frame is given clean.
        no_text: share of the samples without a prompt: both towers read nothing, or each its usual negative prompt.
        audio_weight: weight of the audio tower's error, about 2 over the variance of its latents.
        shift: of the timesteps towards the noisy end, as in the reference. What a clip is to show is decided above a
            noise level of 0.9, where even steps hardly ever go.
        eight_bit: whether it learns with its large matrices rounded as the exported file holds them.
        batch_share: of the buckets' batches that a step sees, of ``finish`` too: a processor cannot do with whole ones.
    """

    learning: Learning = Learning(steps=7311, rate=0.02, warm_up=200, descent=0.9, vector_scale=0.3, averaging=0.999)
    dim: int = 256
    ffn_dim: int = 960
    num_layers: int = 6
    freq_dim: int = 128
    buckets: tuple[Bucket, ...] = (
        Bucket(96, 96, 2.0, clips=30720, share=0.95, batch=256, at_first=2048, joining=8.0),
        Bucket(96, 96, 5.0, clips=1024, share=0.05, batch=96, at_first=64, joining=0.3),
    )
    often: tuple[tuple[str, float], ...] = (
        ("walls", 1.7), ("two balls", 1.3), ("lamp", 1.5), ("bar", 2.0), ("ball and lamp", 2.0)
    )  # fmt: skip
    video_clean: float = 0.1
    audio_clean: float = 0.4
    span: float = 0.1
    first_frame: float = 0.2
    no_text: float = 0.1
    audio_weight: float = 16.0
    shift: float = 5.0
    eight_bit: bool = False
    batch_share: float = 1.0


@dataclass(frozen=True)
class Finish:
    """What the twin goes on with in the end: clips that it has not seen, with more of what is drawn worst.

    Attributes:
        audio_weight: a lower one than :attr:`Twin.audio_weight`, for the sound is right before the picture is.
        shift: likewise, for places are decided later than what is to be seen at all.
    """

    learning: Learning = Learning(steps=13306, rate=0.01, warm_up=100, descent=0.95, averaging=0.999)
    buckets: tuple[Bucket, ...] = (
        Bucket(96, 96, 2.0, clips=24576, share=0.5, batch=256, first=30720, at_first=1024, joining=2.4),
        Bucket(96, 96, 2.0, clips=12288, share=0.28, batch=256, kind="walls", at_first=512, joining=1.2),
        Bucket(96, 96, 2.0, clips=8192, share=0.18, batch=256, kind="face", at_first=384, joining=0.8),
        Bucket(96, 96, 5.0, clips=512, share=0.04, batch=96, first=1024, at_first=64, joining=0.05),
    )
    audio_weight: float = 8.0
    shift: float = 3.0
    eight_bit: bool = True


@dataclass(frozen=True)
class Config:
    """Everything that decides what a training run yields."""

    seed: int = 0
    video_vae: VideoVAE = field(default_factory=VideoVAE)
    video_decoder: VideoVAE = VideoVAE(
        Learning(steps=2600, rate=0.008, averaging=0.997, descent=1.0),
        crops=(Crops(0.6, 9, 96, 1), Crops(1.0, 17, 96, 1)),
        noise=0.05,
    )
    video_basis: VideoBasis = field(default_factory=VideoBasis)
    audio_vae: AudioVAE = field(default_factory=AudioVAE)
    vocoder: Vocoder = field(default_factory=Vocoder)
    text: Text = field(default_factory=Text)
    twin: Twin = field(default_factory=Twin)
    finish: Finish = field(default_factory=Finish)

    def finishing(self) -> Config:
        """The configuration in which the twin is as it finishes."""
        return replace(self, twin=replace(self.twin, **vars(self.finish)))

    def audio_sizes(self) -> AudioSizes:
        return AudioSizes(
            hidden=self.audio_vae.hidden,
            vocoder_channels=self.vocoder.channels,
            upsample_kernels=self.vocoder.upsample_kernels,
            resblock_kernels=self.vocoder.resblock_kernels,
        )

    def twin_sizes(self) -> OviConfig:
        twin = self.twin
        return OviConfig(
            dim=twin.dim,
            ffn_dim=twin.ffn_dim,
            num_layers=twin.num_layers,
            text_dim=self.text.d_model,
            freq_dim=twin.freq_dim,
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def with_changes(config: Config, changes: Sequence[str]) -> Config:
    """A configuration changed by texts such as ``twin.learning.steps=8000``.

    Raises:
        ValueError: a name that is no field, or a value that is no Python literal.
    """
    for change in changes:
        path, _, value = change.partition("=")
        config = _changed(config, path.split("."), ast.literal_eval(value), change)
    return config


def _changed(part: Any, path: list[str], value: Any, change: str) -> Any:
    names = [entry.name for entry in fields(part)] if is_dataclass(part) else []
    if path[0] not in names:
        raise ValueError(f"'{change}': no '{path[0]}' here; accepted: {', '.join(names) or 'nothing below a value'}.")
    rest = path[1:]
    new = _changed(getattr(part, path[0]), rest, value, change) if rest else value
    return replace(part, **{path[0]: new})
