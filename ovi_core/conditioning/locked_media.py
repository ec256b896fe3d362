"""One tower is given and locked: the sampler returns it unchanged, and the model generates the other one to it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from torch import Tensor

from ..errors import OviError
from ..latents import denoise_mask, layout, resize
from ..latents.source_media import AUDIO, VIDEO, with_lock
from ..media.audio import checked_audio
from ..spec import SHORTEST_TRAINED, ClipShape, audio_seconds, latent_frames_to_show
from ..vae.checks import check_audio_vae
from ..vae.encode_audio import MIN_AUDIO_FRAMES
from . import encode
from .latent_input import check_length, towers_of

MODES = {"follow the noise": denoise_mask.FOLLOWING, "clean": denoise_mask.CLEAN}
"""How the model sees what is masked."""

AS_LATENT = "the latent's"
WHOLE_CLIP = "the whole clip"
WHOLE_SOUND = "the whole sound"


def lock_video(
    vae: Any, latent: dict, images: Any, frame_rate: float, mode: str, length: str = AS_LATENT
) -> tuple[dict, list[str]]:
    """A LATENT whose video part is a given clip and locked; its audio is still to be generated.

    Args:
        images: [F, H, W, 3] in 0..1, of any size; all clips of a batch get the same. See :func:`.encode.encode_video`.
        frame_rate: of the images, frames a second.
        mode: one of :data:`MODES`.
        length: of the LATENT, :data:`AS_LATENT` or :data:`WHOLE_CLIP`.

    Returns:
        The LATENT, and notes for the user.

    Raises:
        OviError: images, frame rate, VAE or latent that do not fit.
    """
    towers_of(latent)
    latent, notes = encode.encode_video(vae, latent, images, frame_rate, whole=length == WHOLE_CLIP)
    video, audio = latent["samples"].unbind()
    mask = denoise_mask.mask_of(video, MODES[mode])
    latent = denoise_mask.with_parts(latent, video, audio, mask, denoise_mask.audio_mask(latent))
    notes += _note_of_windows(layout.clip_of(video, video.shape[2]), length)
    return with_lock(latent, VIDEO, locked=True), notes


def lock_audio(
    audio_vae: Any, latent: dict, audio: Any, start_seconds: float, mode: str, length: str = AS_LATENT
) -> tuple[dict, list[str]]:
    """A LATENT whose audio part is given and locked; its video is still to be generated.

    Audio shorter than the clip is locked as far as it goes, in whole audio frames, and the model generates the rest.
    Or the LATENT is made as long as the audio (:data:`WHOLE_SOUND`).

    Args:
        audio: ComfyUI's AUDIO, of any rate, channels and loudness; one for all clips of the batch, or one for each.
        start_seconds: where in the audio the clip starts.
        mode: one of :data:`MODES`.
        length: of the LATENT, :data:`AS_LATENT` or :data:`WHOLE_SOUND`.

    Returns:
        The LATENT, and notes for the user.

    Raises:
        OviError: audio, start, VAE or latent that do not fit.
    """
    video, old = towers_of(latent)
    check_audio_vae(audio_vae)
    waveform, rate = checked_audio(audio, old.shape[0])
    waveform = _from(waveform, rate, start_seconds)
    clip = layout.clip_of(video, video.shape[2])
    if length == WHOLE_SOUND:
        check_length("audio", waveform.shape[-1] / rate)
        clip = layout.clip_of(video, latent_frames_to_show(Fraction(waveform.shape[-1], rate)))
        latent = resize.of_length(latent, clip)
    latent = encode.encode_audio(audio_vae, latent, waveform, rate)
    mask = denoise_mask.audio_mask(latent)
    locked, audio_frames = latent[AUDIO].latent.shape[-1], mask.shape[-1]
    mask = denoise_mask.with_span(mask, 0, locked, MODES[mode])
    notes = [] if locked == audio_frames else [_rest_is_generated(locked, audio_frames)]
    video, filled = latent["samples"].unbind()
    latent = denoise_mask.with_parts(latent, video, filled, audio_mask=mask)
    return with_lock(latent, AUDIO, locked=True), [*notes, *_note_of_windows(clip, length)]


def _note_of_windows(clip: ClipShape, length: str) -> list[str]:
    if length == AS_LATENT or clip.latent_frames <= SHORTEST_TRAINED:
        return []
    trained = "Where the weights were trained on less (5 s or 10 s), put Ovi Context Windows between model and sampler."
    return [f"The clip will last {clip.seconds:.2f} s. {trained}"]


def _rest_is_generated(locked: int, audio_frames: int) -> str:
    given, in_all = map(audio_seconds, (locked, audio_frames))
    return f"The sound fills {given:.2f} s of {in_all:.2f} s; Ovi generates the rest."


def _from(waveform: Tensor, rate: int, start_seconds: float) -> Tensor:
    """What is left of audio [B, C, S] at ``rate`` Hz from ``start_seconds`` on."""
    seconds, least = waveform.shape[-1] / rate, audio_seconds(MIN_AUDIO_FRAMES)
    if seconds < least:
        raise OviError(
            input="audio",
            found=f"audio of {seconds:.3f} s",
            accepted=f"{least} s or more",
            remedy="Give a longer piece of audio.",
        )
    if not 0 <= start_seconds <= seconds - least:
        raise OviError(
            input="start_seconds",
            found=f"{start_seconds:g} s in audio of {seconds:.2f} s",
            accepted=f"0 s to {seconds - least:.2f} s",
            remedy="Set it to where in the audio the clip is to start.",
        )
    return waveform[..., round(start_seconds * rate) :]
