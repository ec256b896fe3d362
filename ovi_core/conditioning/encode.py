"""An existing clip with its sound to a joint latent."""

from __future__ import annotations

from typing import Any

from torch.nn.functional import pad

from ..latents import joint
from ..latents.source_media import AUDIO, KeptAudio
from ..media import resampling
from ..media.audio import checked_sound
from ..spec import SAMPLE_RATE, SAMPLES_PER_LATENT
from ..vae.checks import check_audio_vae
from . import locked_media

NOTABLE_SILENCE = 0.1  # s


def encode_clip(
    vae: Any, audio_vae: Any, latent: dict, images: Any, audio: Any, frame_rate: float
) -> tuple[dict, list[str]]:
    """A LATENT of a given clip and its sound, nothing of it kept yet.

    Size, rate and length of the pictures are brought to the LATENT's as :func:`.locks.lock_video` does it. Sound that
    ends before the pictures goes on as silence, what is longer is cut. Decoded unchanged, either part comes back as it
    was given.

    Args:
        images: [F, H, W, 3] in 0..1, of any size.
        audio: ComfyUI's AUDIO, of any rate and channels; one sound, or one for each clip of the batch.
        frame_rate: of the images, frames a second.

    Returns:
        The LATENT, without a noise mask, and notes for the artist.

    Raises:
        OviError: a clip, sound, VAE or latent that does not fit.
    """
    check_audio_vae(audio_vae)
    out, notes = locked_media.lock_video(vae, latent, images, frame_rate, "clean")
    video, old = out["samples"].unbind()
    waveform, rate = checked_sound(audio, old.shape[0])
    samples = old.shape[-1] * SAMPLES_PER_LATENT
    heard = resampling.as_ovi_hears(waveform, rate, samples)
    missing = samples - heard.shape[-1]
    if missing > NOTABLE_SILENCE * SAMPLE_RATE:
        notes.append(f"The sound ends {missing / SAMPLE_RATE:.2f} s before the pictures: the rest is silence.")
    encoded = audio_vae.encode(pad(heard, (0, missing)).unsqueeze(-1)).to(old)
    out["samples"] = joint.join(video, encoded.expand(old.shape[0], -1, -1))
    out[AUDIO] = KeptAudio(waveform, rate, encoded)
    del out["noise_mask"]
    return out, notes
