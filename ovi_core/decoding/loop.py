"""Loops: a MODEL whose clips end where they begin, and how such a clip is decoded; what it is: ``circle``.

The VAEs run over the end of the circle into its start, and what was needed only for that is dropped.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from ..latents import joint
from ..media import resampling
from ..spec import FPS, FRAMES_PER_LATENT, SAMPLE_RATE, SAMPLES_PER_LATENT, circular_audio_frames
from ..vae.checks import check_audio_vae, check_video_vae
from .decode import Decoded, as_one_clip, decode_audio, decode_video

VIDEO_LEAD = 16  # latent steps that the video VAE is shown before the circle: it remembers, fading, about 37
AUDIO_LEAD = 32  # latent steps that the audio VAE is shown on either side of it, about 1 s


def decode_loop(vae: Any, audio_vae: Any, latent: dict, tiled: str) -> Decoded:
    """A joint LATENT, sampled with :func:`joined_ends`, to 4 (T - 1) frames and sound that go round without a seam.

    The sound is brought from its whole latent steps to the length of the pictures, at most 1 % of a second of them,
    as the periodic signal that it is.

    Raises:
        OviError: a latent of one part, or a VAE in the other's place.
    """
    video, audio = joint.split(latent["samples"], "samples")
    check_video_vae(vae)
    check_audio_vae(audio_vae)
    circle = video[:, :, 1:]
    lead = min(VIDEO_LEAD, circle.shape[2])
    frames = decode_video(vae, torch.cat((circle[:, :, -lead:], circle), dim=2), tiled)
    # the last frame of the circle is the one it begins with
    frames = frames[:, 1 + FRAMES_PER_LATENT * (lead - 1) :].roll(1, dims=1)
    steps = circular_audio_frames(video.shape[2], audio.shape[2])
    circle, lead = audio[:, :, :steps], min(AUDIO_LEAD, steps)
    sound = decode_audio(audio_vae, torch.cat((circle[:, :, -lead:], circle, circle[:, :, :lead]), dim=2))
    sound = sound[..., SAMPLES_PER_LATENT * lead : SAMPLES_PER_LATENT * (lead + steps)]
    sound = stretched(sound, resampling.samples_within(Fraction(frames.shape[1], FPS), SAMPLE_RATE))
    images, clip_sound = as_one_clip(frames, sound)
    return Decoded(images, Fraction(FPS), sound, clip_sound, SAMPLE_RATE)


def stretched(sound: Tensor, samples: int) -> Tensor:
    """One period [..., S] of a periodic sound as one of ``samples``: its Fourier series, sampled anew."""
    spectrum = torch.fft.rfft(sound.float())
    return torch.fft.irfft(spectrum, n=samples) * (samples / sound.shape[-1])
