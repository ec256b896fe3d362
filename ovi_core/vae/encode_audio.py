"""Any AUDIO to latents of the audio VAE: resampled, mixed to one channel, filled up with silence, encoded."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..media import resampling
from ..media.crossfade import cut_or_padded
from ..spec import SAMPLE_RATE, samples_of

MIN_AUDIO_FRAMES = 2  # that the encoder reads: one column of the spectrogram


def as_vae_input(waveform: Tensor, rate: int, audio_frames: int) -> Tensor:
    """The start of audio [B, C, S] at ``rate`` Hz as [B, S'] at 16 kHz, for up to ``audio_frames`` latent steps."""
    return resampling.mono_at(waveform, rate, SAMPLE_RATE, samples_of(audio_frames))


def encode_mono(audio_vae: Any, mono: Tensor, audio_frames: int) -> Tensor:
    """Audio [B, S] at 16 kHz, cut or followed by silence, as [B, 20, ``audio_frames``], two or more."""
    return audio_vae.encode(cut_or_padded(mono, samples_of(audio_frames)).unsqueeze(-1))
