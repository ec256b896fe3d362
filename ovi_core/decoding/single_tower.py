"""One tower alone to frames and audio.

What is absent is filled so that every node after it works: silence as long as the frames, or black frames of 64x64 px
as long as the audio. Its VAE is not used.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from torch import Tensor

from ..latents.source_media import Lead
from ..media import resampling
from ..spec import FPS, SAMPLE_RATE
from ..vae.checks import check_audio_vae, check_video_vae
from .output import Decoded, decoded
from .towers import decode_after, decode_audio

BLACK = (64, 64, 3)
"""Height, width and channels of the frames beside audio alone: small, and still a video that players take."""


def decode_video_alone(vae: Any, video: Tensor, tiled: str, lead: Lead | None) -> Decoded:
    """Video latent [B, 48, T, H, W] to frames with silence, without what stands before the clip."""
    check_video_vae(vae)
    frames = decode_after(vae, video, tiled, lead)
    silence = resampling.samples_within(Fraction(frames.shape[1], FPS), SAMPLE_RATE)
    return decoded(frames, frames.new_zeros(frames.shape[0], 1, silence))


def decode_audio_alone(audio_vae: Any, latent: Tensor) -> Decoded:
    """Audio latent [B, 20, L] to audio with black frames."""
    check_audio_vae(audio_vae)
    audio = decode_audio(audio_vae, latent)
    count = math.ceil(Fraction(audio.shape[-1] * FPS, SAMPLE_RATE))
    return decoded(audio.new_zeros(1).expand(audio.shape[0], count, *BLACK), audio)
