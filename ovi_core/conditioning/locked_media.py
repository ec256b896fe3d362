"""A clip or a sound that is given: one tower keeps it through sampling, the other answers."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from ..errors import OviError
from ..latents import denoise_mask, joint, resize
from ..latents.source_media import AUDIO, VIDEO, KeptAudio, KeptVideo, check_without_lead
from ..media import resampling
from ..media.audio import LEAST_STEPS, checked_sound
from ..media.images import check_picture, fit
from ..spec import FPS, SAMPLE_RATE, SAMPLES_PER_LATENT, SHORTEST_TRAINED, ClipShape, latent_frames_to_show
from ..vae.checks import check_audio_vae, check_video_vae

MODES = {"follow the noise": denoise_mask.FOLLOW, "clean": 0.0}
"""How the kept part is shown to the model, and the noise mask value that says so."""

AS_LATENT = "the latent's"
WHOLE_CLIP = "the whole clip"
WHOLE_SOUND = "the whole sound"

SILENT_TAIL = 3
"""Latent steps of the sound, 0.096 s: a sound that ends so shortly before the clip is taken to fill it.

Ovi's 5 s are 5.04 s long, and a sound of 5 s is meant to be all of its sound.
"""

FASTEST = 1000  # frames a second
NOTABLE_CROP = 0.1  # share of the picture
FITTED_AT_ONCE = 16  # pictures


def lock_video(
    vae: Any, latent: dict, images: Any, frame_rate: float, mode: str, length: str = AS_LATENT
) -> tuple[dict, list[str]]:
    """A LATENT whose video part is a given clip, kept through sampling; its sound stays to be made.

    A clip shorter than the latent shortens the latent, in both parts, to the steps it takes to show all of it; a longer
    one is kept as far as the latent goes, or lengthens it likewise (:data:`WHOLE_CLIP`). It is shown to the model at 24
    frames a second (see ``clocks``) and cropped to the latent's shape.

    Args:
        images: [F, H, W, 3] in 0..1, of any size; all clips of a batch get the same.
        frame_rate: of the images, frames a second.
        mode: one of :data:`MODES`.
        length: of the LATENT, :data:`AS_LATENT` or :data:`WHOLE_CLIP`.

    Returns:
        The LATENT, and notes for the artist.

    Raises:
        OviError: images, frame rate, VAE or latent that do not fit.
    """
    old, _ = joint.split(latent["samples"], "latent")
    denoise_mask.check_mask(latent.get("noise_mask"), "latent")
    check_without_lead(latent)
    check_video_vae(vae)
    _check_clip(images, frame_rate)
    rate = resampling.exact_rate(frame_rate)
    steps = latent_frames_to_show(images.shape[0] / rate)
    clip = resize.clip_of(old, steps if length == WHOLE_CLIP else min(steps, old.shape[2]))
    latent = resize.of_length(latent, clip)
    video, audio = latent["samples"].unbind()
    shown = resampling.at_own_rate(images.shape[0], rate, clip.frames)
    encoded = vae.encode(_fitted(images, shown, clip)).to(video)
    out = denoise_mask.with_parts(
        latent,
        encoded.repeat(video.shape[0], 1, 1, 1, 1),
        audio,
        torch.full_like(video[:, :1], MODES[mode]),
        denoise_mask.audio_mask(latent),
    )
    out[VIDEO] = KeptVideo(images, rate, encoded)
    notes = _notes(images, rate, clip, shortened=clip.latent_frames < old.shape[2])
    return out, [*notes, *_note_of_windows(clip, length)]


def _fitted(images: Tensor, shown: list[int], clip: ClipShape) -> Tensor:
    """Those of ``images`` [F, H, W, 3] that are ``shown``, at the clip's size.

    A few at a time, for a long clip at its own size is the largest thing in memory: it must not be there twice.
    """
    parts = (images[shown[i : i + FITTED_AT_ONCE]] for i in range(0, len(shown), FITTED_AT_ONCE))
    return torch.cat([fit(part, clip.width, clip.height, "crop") for part in parts])


def _check_clip(images: Any, frame_rate: float) -> None:
    count = images.shape[0] if isinstance(images, Tensor) and images.ndim == 4 else None
    if count is None or count < 2:
        shape = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise OviError(
            input="images",
            found=f"images of shape {shape}" if count is None else f"{count} picture(s)",
            accepted="a clip of 2 pictures or more, [frames, height, width, 3]",
            remedy="Connect a clip's frames, as Get Video Components gives them; a single picture goes to Ovi Image To "
            "Video.",
        )
    check_picture(images, "images")
    if not 1 <= frame_rate <= FASTEST:
        raise OviError(
            input="frame_rate",
            found=f"{frame_rate:g}",
            accepted=f"1 to {FASTEST} frames a second",
            remedy="Set it to the clip's own frame rate, as Get Video Components gives it.",
        )


def _notes(images: Tensor, rate: Fraction, clip: ClipShape, shortened: bool) -> list[str]:
    count, given = images.shape[0], float(images.shape[0] / rate)
    notes = []
    fitting = resampling.frames_within(Fraction(clip.frames, FPS), rate)
    if fitting < count:
        notes.append(
            f"The clip lasts {given:.2f} s, the latent {clip.seconds:.2f} s: only the first {fitting} of {count} "
            f"frames are kept and come back. For all of it, set length to {WHOLE_CLIP}."
        )
    if shortened:
        notes.append(f"The clip lasts {given:.2f} s: the latent is shortened to {clip.seconds:.2f} s.")
    shape, wanted = images.shape[2] / images.shape[1], clip.width / clip.height
    lost = 1 - min(shape, wanted) / max(shape, wanted)
    if lost > NOTABLE_CROP:
        notes.append(
            f"The model sees the clip cropped from {images.shape[2]}x{images.shape[1]} to the shape of "
            f"{clip.width}x{clip.height}: {lost:.0%} of the picture is out of its sight. A latent of the clip's shape "
            "shows it all."
        )
    return notes


def _note_of_windows(clip: ClipShape, length: str) -> list[str]:
    if length == AS_LATENT or clip.latent_frames <= SHORTEST_TRAINED:
        return []
    trained = "Where the weights were trained on less (5 s or 10 s), put Ovi Context Windows between model and sampler."
    return [f"The clip will last {clip.seconds:.2f} s. {trained}"]


def lock_audio(
    audio_vae: Any, latent: dict, audio: Any, start_seconds: float, mode: str, length: str = AS_LATENT
) -> tuple[dict, list[str]]:
    """A LATENT whose audio part is a given sound, kept through sampling; its pictures stay to be made.

    A sound shorter than the clip is kept as far as it goes, in whole latent steps, and the model makes the rest. Or the
    LATENT is made as long as the sound (:data:`WHOLE_SOUND`).

    Args:
        audio: ComfyUI's AUDIO, of any sample rate, number of channels and loudness; one sound, or one for each clip.
        start_seconds: where in the sound the clip begins.
        mode: one of :data:`MODES`.
        length: of the LATENT, :data:`AS_LATENT` or :data:`WHOLE_SOUND`.

    Returns:
        The LATENT, and notes for the artist.

    Raises:
        OviError: sound, start, VAE or latent that do not fit.
    """
    video, old = joint.split(latent["samples"], "latent")
    denoise_mask.check_mask(latent.get("noise_mask"), "latent")
    check_without_lead(latent)
    check_audio_vae(audio_vae)
    whole, rate = checked_sound(audio, old.shape[0])
    waveform = _from(whole, rate, start_seconds)
    clip = resize.clip_of(video, video.shape[2])
    if length == WHOLE_SOUND:
        clip = resize.clip_of(video, latent_frames_to_show(Fraction(waveform.shape[-1], rate)))
        latent = resize.of_length(latent, clip)
        video, old = latent["samples"].unbind()
    batch, _, steps = old.shape
    heard = resampling.as_ovi_hears(waveform, rate, steps * SAMPLES_PER_LATENT)
    kept = heard.shape[-1] // SAMPLES_PER_LATENT
    if steps - kept <= SILENT_TAIL:
        kept = steps
    samples = kept * SAMPLES_PER_LATENT
    heard = torch.nn.functional.pad(heard, (0, max(0, samples - heard.shape[-1])))[..., :samples]
    encoded = audio_vae.encode(heard.unsqueeze(-1)).to(old)
    mask = denoise_mask.audio_mask(latent).clone()
    mask[..., :kept] = MODES[mode]
    filled = torch.cat((encoded.expand(batch, -1, -1), old[..., kept:]), dim=-1)
    out = denoise_mask.with_parts(latent, joint.free_video(video), filled, audio_mask=mask)
    out[AUDIO] = KeptAudio(waveform, rate, encoded)
    rest = [] if kept == steps else [_rest_is_made(kept, steps)]
    return out, [*rest, *_note_of_windows(clip, length)]


def _rest_is_made(kept: int, steps: int) -> str:
    given, all_of_it = (count * SAMPLES_PER_LATENT / SAMPLE_RATE for count in (kept, steps))
    return f"The sound fills {given:.2f} s of {all_of_it:.2f} s; Ovi makes the rest."


def _from(waveform: Tensor, rate: int, start_seconds: float) -> Tensor:
    """What is left of a sound [B, C, S] at ``rate`` Hz from ``start_seconds`` on."""
    seconds, least = waveform.shape[-1] / rate, LEAST_STEPS * SAMPLES_PER_LATENT / SAMPLE_RATE
    if seconds < least:
        raise OviError(
            input="audio",
            found=f"a sound of {seconds:.3f} s",
            accepted=f"{least} s or more",
            remedy="Give a longer piece of sound.",
        )
    if not 0 <= start_seconds <= seconds - least:
        raise OviError(
            input="start_seconds",
            found=f"{start_seconds:g} s in a sound of {seconds:.2f} s",
            accepted=f"0 s to {seconds - least:.2f} s",
            remedy="Set it to where in the sound the clip is to begin.",
        )
    return waveform[..., round(start_seconds * rate) :]
