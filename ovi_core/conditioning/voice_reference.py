"""A voice of the user's own: some seconds of it stand before the clip in the audio tower; decoding cuts them off."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ..errors import OviError
from ..latents import denoise_mask, joint, layout, resize
from ..latents.source_media import LEAD, Lead, lead_of
from ..media.audio import checked_audio, is_inaudible
from ..media.crossfade import fallen
from ..spec import (
    AUDIO_PER_LATENT_FRAME,
    FPS,
    FRAMES_PER_LATENT,
    SAMPLE_RATE,
    SAMPLES_PER_LATENT,
    SHORTEST_TRAINED,
    frames_for,
)
from ..vae.checks import check_audio_vae
from ..vae.encode_audio import as_vae_input, encode_mono
from .latent_input import towers_of
from .locked_media import MODES

PAUSE = 0.2  # s of silence at least between the voice and the clip, in which the voice dies away
SHORTEST = 0.5  # s
FADE = 0.01  # s, from the voice to the pause


def with_voice(audio_vae: Any, latent: dict, voice: Any, seconds: float, mode: str) -> tuple[dict, list[str]]:
    """A LATENT that starts with a voice, which the clip continues: both towers are that much longer.

    The model was trained on towers that start at the same time, so the video gets as many latent frames more as voice
    and pause take, generated for the voice as for any audio. Whatever the LATENT holds follows them. A start image or
    clip is shown at the very beginning, too, so that it is known who speaks.

    Args:
        voice: ComfyUI's AUDIO, of any rate and channels; one for all clips of the batch, or one for each.
        seconds: how much of the voice to take, from its start.
        mode: one of :data:`.locked_media.MODES`.

    Returns:
        The LATENT, and notes for the user.

    Raises:
        OviError: a voice or length that does not fit, or a LATENT whose audio is given already.
    """
    video, audio = towers_of(latent, lead=True)
    check_audio_vae(audio_vae)
    _check_free(latent)
    mono = _voice_as_mono(voice, seconds, audio.shape[0])
    taken = mono.shape[-1] / SAMPLE_RATE
    latent_frames = math.ceil((taken + PAUSE) * FPS / FRAMES_PER_LATENT)
    clip_begins = not bool(denoise_mask.is_free(denoise_mask.video_mask(latent)[:, :, 0]).all())
    lead = Lead(latent_frames, math.ceil(latent_frames * AUDIO_PER_LATENT_FRAME), clip_begins)
    masked = math.floor(latent_frames * AUDIO_PER_LATENT_FRAME)  # audio frames, the pause among them

    out = resize.padded(latent, (lead.latent_frames, lead.audio_frames), (0, 0))
    longer_video, longer_audio = (part.clone() for part in out["samples"].unbind())
    longer_video = joint.free_video(longer_video)
    video_mask = denoise_mask.video_mask(out).clone()
    layout.span(longer_audio, 0, masked).copy_(encode_mono(audio_vae, mono, masked).to(audio))
    audio_mask = denoise_mask.with_span(denoise_mask.audio_mask(out), 0, masked, MODES[mode])
    if clip_begins:
        for part in (longer_video, video_mask):
            part[:, :, 0] = part[:, :, latent_frames]
    out = {**denoise_mask.with_parts(out, longer_video, longer_audio, video_mask, audio_mask), LEAD: lead}
    return out, _notes(taken, seconds, latent_frames, video.shape[2])


def _check_free(latent: dict) -> None:
    if lead_of(latent) is not None:
        found, remedy = "a latent that starts with a voice already", "Use Ovi Own Voice once."
    elif bool(denoise_mask.is_masked(layout.span(denoise_mask.audio_mask(latent), 0, 1)).any()):
        found = "a latent whose sound is given from its start"
        remedy = "Leave Ovi Own Voice out: audio from Ovi Lock Audio stays as it is, and what Ovi Extend continues has "
        remedy += "its voice already."
    else:
        return
    raise OviError(input="latent", found=found, accepted="a latent whose sound is still to be generated", remedy=remedy)


def _voice_as_mono(voice: Any, seconds: float, batch: int) -> Tensor:
    """The first ``seconds`` of a voice as the audio VAE takes them, [B or 1, S] at 16 kHz, faded out at the end."""
    waveform, rate = checked_audio(voice, batch, input="voice")
    if not SHORTEST <= seconds < math.inf:
        raise OviError(
            input="seconds",
            found=f"{seconds:g}",
            accepted=f"{SHORTEST} s or more",
            remedy="Set it to 2.",
        )
    samples = round(seconds * SAMPLE_RATE)
    mono = as_vae_input(waveform, rate, math.ceil(samples / SAMPLES_PER_LATENT))[..., :samples]
    found = None
    if mono.shape[-1] < SHORTEST * SAMPLE_RATE:
        found = f"a voice of {mono.shape[-1] / SAMPLE_RATE:.2f} s"
    elif is_inaudible(mono):
        found = f"silence in the first {seconds:g} s"
    if found is not None:
        raise OviError(
            input="voice",
            found=found,
            accepted=f"{SHORTEST} s or more of a voice that is heard from the start",
            remedy="Cut the recording to where somebody speaks, with Trim Audio Duration.",
        )
    return fallen(mono, SAMPLE_RATE, FADE)


def _notes(taken: float, wanted: float, latent_frames: int, of_the_clip: int) -> list[str]:
    notes = []
    if wanted - taken > 0.05:
        notes.append(f"The voice lasts {taken:.2f} s; all of it is taken.")
    if latent_frames + of_the_clip > SHORTEST_TRAINED:
        notes.append(
            f"With the voice before it the run lasts {frames_for(latent_frames + of_the_clip) / FPS:.2f} s. Where the "
            "weights were trained on less (5 s or 10 s), make the latent shorter."
        )
    return notes
