"""The trained VAEs of a run as plain functions between clips and the latents that the twin learns from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..training import networks
from ..training.config import Config
from ..training.loop import trained_weights
from . import audio as audio_module
from . import video_basis
from .video_vae import from_network, to_network


class Autoencoders:
    """Video and audio VAE with what they have learned.

    The video latents here are as the twin sees them: normalised by Wan 2.2's mean and deviation.
    """

    def __init__(self, config: Config, device: str, folder: Path):
        self.device = device
        self.video = networks.video_vae(config, device)
        self.video.load_state_dict(trained_weights(folder, video_basis.NAME))
        self.audio = networks.audio_autoencoder(config, device)
        self.audio.vae.load_state_dict(trained_weights(folder, audio_module.VAE_NAME))
        self.audio.vocoder.load_state_dict(trained_weights(folder, audio_module.VOCODER_NAME))
        for network in (self.video, self.audio):
            network.requires_grad_(False)
        mean, deviation = networks.wan_moments()
        self.mean, self.deviation = (value.view(1, -1, 1, 1, 1).to(device) for value in (mean, deviation))

    @torch.no_grad()
    def encode(self, frames: np.ndarray, sound: np.ndarray) -> tuple[Tensor, Tensor]:
        """Frames [B, F, H, W, 3] in 0..1 and sound [B, S] to latents [B, 48, T, H/16, W/16] and [B, 20, L]."""
        with torch.autocast(self.device, torch.bfloat16):  # as it was trained
            encoded = self.video.encode(to_network(frames, self.device))
        video = (encoded.float() - self.mean) / self.deviation
        audio = self.audio.encode(torch.from_numpy(sound)[:, None].to(self.device))
        return video.float().cpu(), audio.float().cpu()

    @torch.no_grad()
    def decode(self, video: Tensor, audio: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Latents of one clip back to frames and sound."""
        frames = self.video.decode(video[None].to(self.device) * self.deviation + self.mean)
        sound = self.audio.decode(audio[None].to(self.device))
        return from_network(frames)[0], sound[0, 0].float().cpu().numpy()


def fingerprint(folder: Path) -> str:
    """Of the weights that decide what the latents are: both encoders."""
    digest = hashlib.sha256()
    for stage in (video_basis.NAME, audio_module.VAE_NAME):
        for key, weight in sorted(trained_weights(folder, stage).items()):
            digest.update(key.encode())
            digest.update(weight.contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
