"""A voice of one's own: some seconds of it before the clip, kept in the audio tower and cut away at decoding."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..errors import OviError
from ..latents import denoise_mask, joint, resize
from ..latents.source_media import LEAD, Lead
from ..media import resampling
from ..media.audio import checked_sound
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
from .locked_media import MODES

PAUSE = 0.2  # s of silence at least between the voice and the clip, in which nothing of the voice rings on
SHORTEST = 0.5  # s
FADE = 0.01  # s, from the voice to the pause
SILENT = 1e-3  # rms, 60 dB below full scale


def with_voice(audio_vae: Any, latent: dict, voice: Any, seconds: float, mode: str) -> tuple[dict, list[str]]:
    """A LATENT whose clip goes on from a voice: both towers begin that much earlier, and decoding cuts it away.

    The model was trained on towers that begin at the same time, so the video gets as many steps more as the voice and a
    pause take, and is made to the voice like to any sound. Whatever the LATENT holds comes after them. A picture or
    clip given at its beginning is shown there once more, so that it is known who speaks.

    Args:
        voice: ComfyUI's AUDIO, of any sample rate and channels; one, or one for each clip.
        seconds: how much of the voice to take, from its beginning.
        mode: one of ``locks.MODES``.

    Returns:
        The LATENT, and notes for the artist.

    Raises:
        OviError: a voice or length that does not fit, or a LATENT whose sound is given already.
    """
    video, audio = joint.split(latent["samples"], "latent")
    denoise_mask.check_mask(latent.get("noise_mask"), "latent")
    check_audio_vae(audio_vae)
    _check_free(latent)
    heard = _heard(voice, seconds, audio.shape[0])
    taken = heard.shape[-1] / SAMPLE_RATE
    steps = math.ceil((taken + PAUSE) * FPS / FRAMES_PER_LATENT)
    begins = bool((denoise_mask.video_mask(latent)[:, :, 0] < 1).any())
    lead = Lead(steps, math.ceil(steps * AUDIO_PER_LATENT_FRAME), begins)
    count = math.floor(steps * AUDIO_PER_LATENT_FRAME)
    silence = count * SAMPLES_PER_LATENT - heard.shape[-1]
    encoded = audio_vae.encode(torch.nn.functional.pad(heard, (0, silence)).unsqueeze(-1)).to(audio)

    out = resize.padded(latent, (lead.latent_frames, lead.audio_frames), (0, 0))
    longer, sound = (part.clone() for part in out["samples"].unbind())
    longer = joint.free_video(longer)
    masks = denoise_mask.video_mask(out).clone(), denoise_mask.audio_mask(out).clone()
    sound[..., :count] = encoded
    masks[1][..., :count] = MODES[mode]
    if begins:
        for part in (longer, masks[0]):
            part[:, :, 0] = part[:, :, steps]
    out = {**denoise_mask.with_parts(out, longer, sound, *masks), LEAD: lead}
    return out, _notes(taken, seconds, steps, video.shape[2])


def _check_free(latent: dict) -> None:
    if LEAD in latent:
        found, remedy = "a latent that begins with a voice already", "Use Ovi Own Voice once."
    elif bool(denoise_mask.is_kept(denoise_mask.audio_mask(latent)[..., 0]).any()):
        found = "a latent whose sound is given from its beginning"
        remedy = "Leave Ovi Own Voice out: a sound from Ovi Lock Audio is kept as it is, and what Ovi Extend goes on "
        remedy += "from carries its voice."
    else:
        return
    raise OviError(input="latent", found=found, accepted="a latent whose sound is still to be made", remedy=remedy)


def _heard(voice: Any, seconds: float, batch: int) -> Tensor:
    """The first ``seconds`` of a voice as the audio VAE hears it, [B or 1, S] at 16 kHz, faded out at its end."""
    waveform, rate = checked_sound(voice, batch, input="voice")
    if not SHORTEST <= seconds < math.inf:
        raise OviError(
            input="seconds",
            found=f"{seconds:g}",
            accepted=f"{SHORTEST} s or more",
            remedy="Set it to 2.",
        )
    heard = resampling.as_ovi_hears(waveform, rate, round(seconds * SAMPLE_RATE))
    found = None
    if heard.shape[-1] < SHORTEST * SAMPLE_RATE:
        found = f"a voice of {heard.shape[-1] / SAMPLE_RATE:.2f} s"
    elif bool((heard.square().mean(dim=-1).sqrt() < SILENT).any()):
        found = f"silence in the first {seconds:g} s"
    if found is not None:
        raise OviError(
            input="voice",
            found=found,
            accepted=f"{SHORTEST} s or more of a voice that is heard from the beginning",
            remedy="Cut the recording to where somebody speaks, with Trim Audio Duration.",
        )
    count = round(FADE * SAMPLE_RATE)
    heard[..., -count:] *= torch.linspace(1, 0, count, device=heard.device)
    return heard


def _notes(taken: float, wanted: float, steps: int, clip_steps: int) -> list[str]:
    notes = []
    if wanted - taken > 0.05:
        notes.append(f"The voice lasts {taken:.2f} s; all of it is taken.")
    if steps + clip_steps > SHORTEST_TRAINED:
        notes.append(
            f"With the voice before it the run lasts {frames_for(steps + clip_steps) / FPS:.2f} s. Where the weights "
            "were trained on less (5 s or 10 s), make the latent shorter."
        )
    return notes
