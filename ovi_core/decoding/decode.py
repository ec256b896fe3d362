"""A joint latent, or one of one tower, to frames and audio."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from torch import Tensor

from ..latents import layout, source_media
from ..latents.source_media import SourceAudio
from ..media import crossfade, resampling
from ..spec import FPS, SAMPLE_RATE, frames_for, samples_of
from ..vae.checks import check_audio_vae, check_video_vae
from .given import Given
from .output import Decoded, decoded
from .single_tower import decode_audio_alone, decode_video_alone
from .towers import checked_parts, decode_after, decode_audio

CROSSFADE = 0.02  # s, the last of given audio that the model continues


def decode(vae: Any, audio_vae: Any, latent: Any, tiled: str) -> Decoded:
    """A LATENT to frames and audio.

    A clip or audio that was given and is unchanged comes back as it was given, bit for bit: at its own size, frame
    rate, sample rate and channels, as far as the latent goes. Audio generated for a given clip lasts as long as the
    clip. A voice before the clip is cut off. One tower alone: see :mod:`.single_tower`.

    Args:
        tiled: one of :data:`.towers.TILED`.

    Raises:
        OviError: no LATENT of Ovi's, values that are not finite, or a VAE in the other's place.
    """
    video, audio = checked_parts(latent)
    if video is None or audio is None:
        lead = source_media.lead_of(latent)
        return decode_video_alone(vae, video, tiled, lead) if audio is None else decode_audio_alone(audio_vae, audio)
    check_video_vae(vae)
    check_audio_vae(audio_vae)
    given = Given.of(latent)
    frames, frame_rate = _frames(vae, video, given, tiled)
    waveform, rate = _audio(audio_vae, audio, given)
    if given.video is not None or given.audio is not None:
        lasting = resampling.samples_within(frames.shape[1] / frame_rate, rate)
        waveform = waveform[..., :lasting] if given.video is None else crossfade.cut_or_padded(waveform, lasting)
    return decoded(frames, waveform, frame_rate, rate, given.source, given.notes)


def _frames(vae: Any, video: Tensor, given: Given, tiled: str) -> tuple[Tensor, Fraction]:
    """Frames [B, F, H, W, 3] and their rate, decoded from [B, 48, T, h, w] or given, without what stands before."""
    if given.video is None:
        return decode_after(vae, video, tiled, given.lead), Fraction(FPS)
    latent_frames = layout.length(video) - (given.lead.latent_frames if given.lead else 0)
    count = resampling.frames_within(Fraction(frames_for(latent_frames), FPS), given.video.rate)
    return given.video.images[:count].expand(video.shape[0], -1, -1, -1, -1), given.video.rate


def _audio(audio_vae: Any, audio: Tensor, given: Given) -> tuple[Tensor, int]:
    """Audio [B, C, S] and its rate in Hz, decoded from [B, 20, L] or given, without what stands before."""
    if given.lead is None:
        return _given_or_decoded(audio_vae, audio, given.audio)
    samples = samples_of(layout.length(audio) - given.lead.audio_frames)
    shown = layout.span(audio, given.lead.unheard, layout.length(audio))
    waveform, rate = _given_or_decoded(audio_vae, shown, given.audio)
    cut = waveform[..., given.lead.samples : given.lead.samples + samples]
    return crossfade.risen(cut, SAMPLE_RATE), rate


def _given_or_decoded(audio_vae: Any, audio: Tensor, given: SourceAudio | None) -> tuple[Tensor, int]:
    """Audio [B, C, S] and its rate in Hz: what was given, decoded, or the one and then the other."""
    if given is None:
        return decode_audio(audio_vae, audio), SAMPLE_RATE
    whole = given.waveform.expand(audio.shape[0], -1, -1)
    if layout.length(given.latent) >= layout.length(audio):
        return whole, given.rate
    end = samples_of(layout.length(given.latent)) * given.rate // SAMPLE_RATE
    generated = resampling.resampled(decode_audio(audio_vae, audio), SAMPLE_RATE, given.rate)
    generated = generated.expand(-1, whole.shape[1], -1)
    return crossfade.crossfaded_audio(whole[..., :end], generated, CROSSFADE, given.rate), given.rate
