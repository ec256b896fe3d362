"""A joint latent to frames and sound."""

from __future__ import annotations

import math
from typing import Any

import comfy.model_management
import torch
from einops import rearrange
from torch import Tensor

from . import latents
from .errors import OviError
from .pictures import check_video_vae
from .spec import AUDIO_CHANNELS, FPS, SAMPLE_RATE

TILED = ("auto", "on", "off")
# The host's own defaults for tiled decoding: 512 px and 64 frames with 64 px and 8 frames of overlap, in latent cells.
TILES = {"tile_x": 32, "tile_y": 32, "overlap": 4, "tile_t": 16, "overlap_t": 2}


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


def decode_video(vae: Any, video: Tensor, tiled: str) -> Tensor:
    """Video latent [B, 48, T, H, W] to frames [B, F, 16 H, 16 W, 3] in 0..1.

    Args:
        tiled: ``on`` decodes in overlapping tiles, ``off`` at once, ``auto`` at once where memory allows.
    """
    if tiled == "auto":
        needed = vae.memory_used_decode(video.shape, vae.vae_dtype)
        tiled = "on" if needed > _memory_once_free(vae) else "off"
    frames = vae.decode_tiled(video, **TILES) if tiled == "on" else vae.decode(video)
    return frames if frames.ndim == 5 else rearrange(frames, "(b f) h w c -> b f h w c", b=video.shape[0])


def _memory_once_free(vae: Any) -> float:
    """Memory of the VAE's device when the host has put everything else away: in all, less the VAE's own weights."""
    return comfy.model_management.get_total_memory(vae.device) * 0.9 - vae.model_size()


def decode_audio(vae: Any, audio: Tensor) -> Tensor:
    """Audio latent [B, 20, L] to sound [B, 1, 512 L] at 16 kHz, as the vocoder gives it."""
    return rearrange(vae.decode(audio), "b s c -> b c s")


def decode(vae: Any, audio_vae: Any, samples: Any, tiled: str) -> tuple[Tensor, Tensor]:
    """A joint latent to frames [B, F, H, W, 3] and sound [B, 1, S].

    Raises:
        OviError: a latent of one part, or a VAE in the other's place.
    """
    video, audio = latents.split(samples, "samples")
    check_video_vae(vae)
    check_audio_vae(audio_vae)
    return decode_video(vae, video, tiled), decode_audio(audio_vae, audio)


def as_one_clip(frames: Tensor, sound: Tensor) -> tuple[Tensor, Tensor]:
    """Clips of a batch one after the other, sound cut or filled with silence to last exactly as long as its frames.

    The model's sound is 18 ms shorter than 5 s of its video and 6 ms longer than 10 s, which would add up.

    Returns:
        frames [B F, H, W, 3] and sound [1, 1, S] with S = frames / 24 s at 16 kHz, rounded up.
    """
    batch, count = frames.shape[:2]
    ends = [math.ceil(i * count * SAMPLE_RATE / FPS) for i in range(batch + 1)]
    parts = [
        torch.nn.functional.pad(wave[:, : end - start], (0, max(0, end - start - wave.shape[-1])))
        for wave, start, end in zip(sound, ends, ends[1:], strict=False)
    ]
    return rearrange(frames, "b f h w c -> (b f) h w c"), torch.cat(parts, dim=-1).unsqueeze(0)
