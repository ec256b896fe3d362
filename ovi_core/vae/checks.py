"""Whether a VAE is the one that Ovi needs, and in which type it computes."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import OviError
from ..spec import AUDIO_CHANNELS, SAMPLE_RATE, VIDEO_CHANNELS


def check_video_vae(vae: Any, input: str = "vae") -> None:
    """Raise OviError unless ``vae`` is one of the Wan 2.2 build: 48 channels, 16 px a latent cell."""
    channels = getattr(vae, "latent_channels", None)
    if channels != VIDEO_CHANNELS or getattr(vae, "latent_dim", None) != 3:
        raise OviError(
            input=input,
            found="no VAE" if vae is None else f"a VAE of {channels} latent channels",
            accepted=f"the Wan 2.2 VAE ({VIDEO_CHANNELS} channels)",
            remedy="Load wan2.2_vae with Load VAE, or take the first VAE of Load Ovi (all in one).",
        )


def check_audio_vae(vae: Any, input: str = "audio_vae") -> None:
    """Raise OviError unless ``vae`` is Ovi's audio VAE: 20 channels, 16 kHz."""
    rate, channels = getattr(vae, "audio_sample_rate", None), getattr(vae, "latent_channels", None)
    if channels != AUDIO_CHANNELS or rate != SAMPLE_RATE:
        found = "no VAE" if vae is None else f"a VAE of {channels} latent channels at {rate} Hz"
        raise OviError(
            input=input,
            found=found,
            accepted=f"Ovi's audio VAE ({AUDIO_CHANNELS} channels at {SAMPLE_RATE} Hz)",
            remedy="Connect Load Ovi Audio VAE, or the second VAE of Load Ovi (all in one).",
        )


def compute_dtype(vae: Any) -> torch.dtype:
    """The type that a VAE's layers compute in; the audio VAE takes its inputs in another one."""
    return getattr(vae.first_stage_model, "dtype", vae.vae_dtype)
