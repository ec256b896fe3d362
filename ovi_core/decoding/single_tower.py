"""A LATENT of one tower alone to frames and sound."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from ..latents import joint
from ..media import resampling
from ..spec import FPS, SAMPLE_RATE
from ..vae.checks import check_audio_vae, check_video_vae
from .decode import Decoded, as_one_clip, decode_audio, decode_video
from .decode import decode as decode_both

BLACK = (64, 64, 3)
"""Height, width and channels of the frames beside sound alone: small, and still a video that players take."""


def decode(vae: Any, audio_vae: Any, latent: dict, tiled: str) -> Decoded:
    """A LATENT of both towers or of one to frames and sound.

    What is absent is filled so that every node after it goes on working: beside pictures alone is silence as long as
    they last, beside sound alone are black frames of 64x64 px as long as it sounds. The VAE of what is absent is not
    used.

    Raises:
        OviError: as :func:`.decode.decode`.
    """
    video, audio = joint.parts(latent["samples"], "samples")
    if video is not None and audio is not None:
        return decode_both(vae, audio_vae, latent, tiled)
    if video is not None:
        check_video_vae(vae)
        frames = decode_video(vae, video, tiled)
        silence = resampling.samples_within(Fraction(frames.shape[1], FPS), SAMPLE_RATE)
        sound = frames.new_zeros(frames.shape[0], 1, silence)
    else:
        check_audio_vae(audio_vae)
        sound = decode_audio(audio_vae, audio)
        count = math.ceil(Fraction(sound.shape[-1] * FPS, SAMPLE_RATE))
        frames = sound.new_zeros(1).expand(sound.shape[0], count, *BLACK)
    images, clip_sound = as_one_clip(frames, sound)
    return Decoded(images, Fraction(FPS), sound, clip_sound, SAMPLE_RATE)
