"""Clips and sounds after the exported VAEs, through ComfyUI's VAE objects."""

from __future__ import annotations

import numpy as np
import torch
from ovi_native.ovi_core.decoding import towers

from .studio import Studio


@torch.inference_mode()
def seen_again(studio: Studio, frames: np.ndarray) -> np.ndarray:
    """Frames [F, H, W, 3] in 0..1 after the video VAE."""
    latent = studio.vae.encode(torch.from_numpy(frames))
    return studio.vae.decode(latent)[0].float().cpu().numpy()


@torch.inference_mode()
def heard_again(studio: Studio, sound: np.ndarray) -> np.ndarray:
    """Sound [S] in -1..1 after audio VAE and vocoder."""
    latent = studio.audio_vae.encode(torch.from_numpy(sound)[None, :, None])
    return towers.decode_audio(studio.audio_vae, latent)[0, 0].float().cpu().numpy()
