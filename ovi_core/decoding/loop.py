"""Decoding of loops: clips sampled with :func:`..sampling.model_patches.joined_ends`, whose end meets their start.

The VAEs run over the end of the loop into its start, and what was needed only for that is dropped.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from ..errors import OviError
from ..latents import layout
from ..media import resampling
from ..spec import FPS, SAMPLE_RATE, circular_audio_frames, frames_for, samples_of
from ..vae.checks import check_audio_vae, check_video_vae
from .given import Given
from .output import Decoded, decoded
from .towers import INPUT, checked_parts, decode_audio, decode_video

VIDEO_LEAD = 16  # latent frames that the video VAE is shown before the loop: it remembers, fading, about 37
AUDIO_LEAD = 32  # audio frames that the audio VAE is shown on either side of it, about 1 s


def decode_loop(vae: Any, audio_vae: Any, latent: Any, tiled: str) -> Decoded:
    """A joint LATENT to 4 (T - 1) frames and audio that repeat without a seam.

    The audio is brought from its whole audio frames to the length of the frames, at most 1 % of a second of them, as
    the periodic signal that it is.

    Args:
        tiled: one of :data:`.towers.TILED`.

    Raises:
        OviError: a latent of one part, of one frame, with a voice before it or with values that are not finite, or a
            VAE in the other's place.
    """
    video, audio = checked_parts(latent)
    if video is None or audio is None:
        raise OviError(
            input=INPUT,
            found=f"a latent of {'audio' if video is None else 'video'} alone, with loop switched on",
            accepted="a joint latent of video and audio",
            remedy="Switch loop off, or set towers of Empty Ovi Latent to video + audio.",
        )
    given = Given.of(latent)
    if given.lead is not None:
        raise OviError(
            input=INPUT,
            found="a latent that starts with a voice, with loop switched on",
            accepted="a clip that begins where it ends",
            remedy="Switch loop off, or leave Ovi Own Voice out and sample again.",
        )
    if layout.length(video) < 2:
        raise OviError(
            input=INPUT,
            found="a clip of 1 frame, with loop switched on",
            accepted="2 latent frames or more",
            remedy="Switch loop off, or make the latent longer.",
        )
    check_video_vae(vae)
    check_audio_vae(audio_vae)
    circle = video[:, :, 1:]
    lead = min(VIDEO_LEAD, circle.shape[2])
    frames = decode_video(vae, torch.cat((circle[:, :, -lead:], circle), dim=2), tiled)
    # the last frame of the loop is the one it starts with
    frames = frames[:, frames_for(lead) :].roll(1, dims=1)
    audio_frames = circular_audio_frames(layout.length(video), layout.length(audio))
    circle, lead = layout.span(audio, 0, audio_frames), min(AUDIO_LEAD, audio_frames)
    waveform = decode_audio(audio_vae, torch.cat((circle[:, :, -lead:], circle, circle[:, :, :lead]), dim=2))
    waveform = waveform[..., samples_of(lead) : samples_of(lead + audio_frames)]
    waveform = stretched(waveform, resampling.samples_within(Fraction(frames.shape[1], FPS), SAMPLE_RATE))
    return decoded(frames, waveform, source=given.source)


def stretched(waveform: Tensor, samples: int) -> Tensor:
    """One period [..., S] of a periodic signal as one of ``samples``: its Fourier series, sampled again."""
    spectrum = torch.fft.rfft(waveform.float())
    return torch.fft.irfft(spectrum, n=samples) * (samples / waveform.shape[-1])
