"""Stage ``video-vae``: the Wan 2.2 VAE learns the world's pictures, first one by one, then as clips.

Latents are trained to mean 0 and variance 1; ComfyUI's mean and deviation of Wan 2.2's latents are multiplied into the
first and the last 1x1x1 convolution when training ends, so that ComfyUI's own normalisation gives them back.

Stage ``video-decoder`` goes on with the decoder alone: the latents stay what they are, so the twin may learn them now.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comfy.ldm.wan.vae2_2 import WanVAE
from ovi_native.ovi_core.spec import FPS, ClipShape
from torch import Tensor, nn

from ..measure.checks import psnr
from ..training import networks
from ..training.config import Config, Crops, VideoVAE
from ..training.loop import copied, generator, seed_of, trained_weights
from ..world.casting import draw_scene
from ..world.frames import draw_frames
from .preview_sheets import picture_rows, save_sheet

NAME, DECODER_NAME = "video-vae", "video-decoder"
HELD_OUT_SEEDS = range(9_000_000, 9_000_004)
COLOUR_WEIGHT = 3.0  # how much more a coloured pixel's error counts than one of the backdrop


class VideoVAEStage:
    """See :class:`~tools.mini.training.loop.Stage`."""

    name = NAME
    mixed = True

    def __init__(self, config: Config, device: str):
        self.config, self.device = config, device
        self.learning = config.video_vae.learning
        self.network = self.module = networks.video_vae(config, device)
        self.make_batch = partial(make_batch, config, NAME)

    def loss(self, step: int, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Error of the reconstruction and of the latents' moments."""
        settings = self.config.video_vae
        clips = to_network(batch, self.device)
        latents = self.module.encode(clips)
        noise = torch.randn(latents.shape, generator=generator(self.config, NAME, step)).to(self.device)
        again = self.module.decode(latents + settings.noise * noise)
        picture, decibels = picture_error(again.float(), clips)
        moments = moment_error(latents.float(), dim=1)
        return picture + settings.moments * moments, {"psnr": decibels, "moments": moments}

    def preview(self, file: Path) -> dict[str, float]:
        """Frames of held-out clips over the same frames after the VAE."""
        rows: list[np.ndarray] = []
        scores = []
        for seed in HELD_OUT_SEEDS:
            frames = draw_frames(draw_scene(seed, ClipShape.from_seconds(96, 96, 1), "held_out"))
            again = reconstruct(self.network, frames, self.device)
            rows += picture_rows(frames), picture_rows(again)
            scores.append(psnr(frames, again))
        save_sheet(rows, file)
        return {"preview_psnr": float(np.mean(scores))}

    def trained(self) -> dict[str, Tensor]:
        """Weights as published, whose latents have Wan 2.2's mean and deviation."""
        mean, deviation = self._latent_moments()
        return fold_moments(self.module.state_dict(), mean, deviation)

    def _latent_moments(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation [48] of the network's own latents, over some clips of the training split."""
        latents = []
        for seed in range(24):
            frames = draw_frames(draw_scene(seed, ClipShape.from_seconds(96, 96, 0.5)))
            latents.append(self.module.encode(to_network(frames[None], self.device)).float().cpu())
        stacked = torch.cat(latents).transpose(0, 1).flatten(1)
        return stacked.mean(dim=1), stacked.std(dim=1).clamp(min=0.1)


class VideoDecoderStage(VideoVAEStage):
    """The decoder of the trained VAE, with the encoder as it is."""

    name = DECODER_NAME

    def __init__(self, config: Config, device: str, folder: Path):
        self.config, self.device = config, device
        self.learning = config.video_decoder.learning
        self.network = networks.video_vae(config, device)
        self.network.load_state_dict(trained_weights(folder, NAME))
        self.network.requires_grad_(False)
        self.module = nn.ModuleDict({"conv2": self.network.conv2, "decoder": self.network.decoder})
        self.module.requires_grad_(True)
        self.make_batch = partial(make_batch, config, DECODER_NAME)
        self.deviation = networks.wan_moments()[1].view(1, -1, 1, 1, 1).to(device)

    def loss(self, step: int, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Error of the reconstruction."""
        clips = to_network(batch, self.device)
        with torch.no_grad():
            latents = self.network.encode(clips)
        noise = torch.randn(latents.shape, generator=generator(self.config, DECODER_NAME, step)).to(self.device)
        again = self.network.decode(latents + self.config.video_decoder.noise * self.deviation * noise)
        picture, decibels = picture_error(again.float(), clips)
        return picture, {"psnr": decibels}

    def trained(self) -> dict[str, Tensor]:
        """Weights of the whole VAE."""
        return copied(self.network.state_dict())


def picture_error(again: Tensor, clips: Tensor) -> tuple[Tensor, Tensor]:
    """What is minimised for clips [B, 3, F, H, W] in -1..1, where colour weighs more; and their PSNR in dB."""
    error = again - clips
    chroma = clips.amax(dim=1, keepdim=True) - clips.amin(dim=1, keepdim=True)
    weight = 1 + COLOUR_WEIGHT * (chroma / 2).clamp(max=1)
    return (weight * (error.abs() + 2 * error.square())).mean(), -10 * torch.log10(error.square().mean() / 4)


def make_batch(config: Config, stage: str, step: int) -> np.ndarray:
    """Crops [B, F, H, W, 3] in 0..1 for one step."""
    settings = config.video_decoder if stage == DECODER_NAME else config.video_vae
    crops = crops_at(settings, step)
    rng = np.random.default_rng([seed_of(config, stage, step)])
    return np.stack([_crop(rng, crops) for _ in range(crops.batch)])


def crops_at(settings: VideoVAE, step: int) -> Crops:
    """What the VAE sees in a step."""
    share = step / settings.learning.steps
    return next((crops for crops in settings.crops if share < crops.until), settings.crops[-1])


def _crop(rng: np.random.Generator, crops: Crops) -> np.ndarray:
    """Successive frames of a random scene, cut to a random square."""
    size = int(rng.choice([96, 96, 128, 160]))
    size = max(size, crops.pixels)
    scene = draw_scene(int(rng.integers(1 << 31)), ClipShape.from_seconds(size, size, 2))
    start = rng.uniform(0, scene.clip.seconds - crops.frames / FPS)
    frames = draw_frames(scene, start + np.arange(crops.frames) / FPS)
    x, y = rng.integers(0, size - crops.pixels + 1, size=2)
    return frames[:, y : y + crops.pixels, x : x + crops.pixels]


def to_network(clips: np.ndarray, device: str) -> Tensor:
    """Frames [B, F, H, W, 3] in 0..1 as the VAE takes them: [B, 3, F, H, W] in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(clips)).to(device).permute(0, 4, 1, 2, 3) * 2 - 1


def from_network(clips: Tensor) -> np.ndarray:
    """The reverse of :func:`to_network`, cut to 0..1."""
    return ((clips.float() + 1) / 2).clamp(0, 1).permute(0, 2, 3, 4, 1).cpu().numpy()


def reconstruct(network: WanVAE, frames: np.ndarray, device: str) -> np.ndarray:
    """Frames [F, H, W, 3] after encoding and decoding."""
    return from_network(network.decode(network.encode(to_network(frames[None], device))))[0]


def moment_error(latents: Tensor, dim: int) -> Tensor:
    """How far the channels (axis ``dim``) are from mean 0 and variance 1 over a batch."""
    values = latents.transpose(0, dim).flatten(1)
    return values.mean(dim=1).square().mean() + (values.std(dim=1) - 1).square().mean()


def fold_moments(weights: dict[str, Tensor], mean: Tensor, deviation: Tensor) -> dict[str, Tensor]:
    """The same autoencoder with latents of Wan 2.2's moments, where its own have ``mean`` and ``deviation`` [48]."""
    wan_mean, wan_deviation = networks.wan_moments()
    scale = wan_deviation / deviation
    shift = wan_mean - mean * scale
    folded = copied(weights)
    channels = len(mean)
    folded["conv1.weight"][:channels] *= scale.view(-1, 1, 1, 1, 1)
    folded["conv1.bias"][:channels] = folded["conv1.bias"][:channels] * scale + shift
    matrix = folded["conv2.weight"]
    folded["conv2.bias"] -= torch.einsum("oi...,i->o", matrix / scale.view(1, -1, 1, 1, 1), shift)
    folded["conv2.weight"] = matrix / scale.view(1, -1, 1, 1, 1)
    return folded
