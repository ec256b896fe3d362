"""An existing clip, its frames or its audio, encoded into a joint latent. Nothing of it is masked here."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from ..errors import OviError
from ..latents import joint, layout, resize
from ..latents.source_media import AUDIO, VIDEO, SourceAudio, SourceVideo
from ..media import resampling
from ..media.audio import checked_audio
from ..media.frame_rate import checked_frame_rate
from ..media.images import checked_images, fit
from ..spec import FPS, SAMPLE_RATE, ClipShape, audio_frames_within, latent_frames_to_show, samples_of
from ..vae.checks import check_audio_vae, check_video_vae
from ..vae.encode_audio import as_vae_input, encode_mono
from .latent_input import check_length, towers_of

NOTABLE_SILENCE = 0.1  # s
NOTABLE_CROP = 0.1  # share of the image
FITTED_AT_ONCE = 16  # images

SHORT_TAIL = 3
"""Audio frames, 0.096 s: audio that ends so shortly before the clip is taken to fill it.

Ovi's 5 s are 5.04 s long, and audio of 5 s is meant to be all of its audio.
"""


def encode_clip(
    vae: Any, audio_vae: Any, latent: dict, images: Any, audio: Any, frame_rate: float
) -> tuple[dict, list[str]]:
    """A LATENT of a clip with its audio, without a noise mask.

    Size, rate and length of the images become the LATENT's as :func:`encode_video` describes. Audio that ends before
    the images is followed by silence, what is longer is cut. Decoded unchanged, either part comes back as it was given.

    Args:
        images: [F, H, W, 3] in 0..1, of any size.
        audio: ComfyUI's AUDIO, of any rate and channels; one for all clips of the batch, or one for each.
        frame_rate: of the images, frames a second.

    Returns:
        The LATENT, and notes for the user.

    Raises:
        OviError: images, audio, VAE or latent that do not fit.
    """
    check_audio_vae(audio_vae)
    video, _ = towers_of(latent)
    waveform, rate = checked_audio(audio, video.shape[0])
    latent = {key: value for key, value in latent.items() if key != "noise_mask"}
    latent, notes = encode_video(vae, latent, images, frame_rate)
    audio_frames = latent["samples"].unbind()[1].shape[-1]
    missing = Fraction(samples_of(audio_frames), SAMPLE_RATE) - Fraction(waveform.shape[-1], rate)
    if missing > NOTABLE_SILENCE:
        notes.append(f"The sound ends {float(missing):.2f} s before the frames: the rest is silence.")
    return encode_audio(audio_vae, latent, waveform, rate, audio_frames), notes


def encode_video(
    vae: Any, latent: dict, images: Any, frame_rate: float, *, whole: bool = False
) -> tuple[dict, list[str]]:
    """A LATENT whose video part is a given clip, one for all of the batch.

    The clip is encoded at 24 frames a second, each the nearest in time, cropped to the LATENT's shape. A shorter clip
    shortens both parts of the LATENT to the latent frames that show all of it; of a longer one the LATENT's length is
    taken.

    Args:
        latent: checked by the caller (:mod:`.latent_input`); its noise mask is cut or extended with it.
        images: [F, H, W, 3] in 0..1, of any size, two or more.
        frame_rate: of the images, frames a second.
        whole: a longer clip lengthens the LATENT instead.

    Returns:
        The LATENT, which carries the clip as :class:`SourceVideo`, and notes for the user.

    Raises:
        OviError: images, frame rate or VAE that do not fit.
    """
    check_video_vae(vae)
    rate = checked_frame_rate(frame_rate)
    images = _checked_clip(images)
    length = latent["samples"].unbind()[0].shape[2]
    if whole:
        check_length("images", float(images.shape[0] / rate))
    needed = latent_frames_to_show(images.shape[0] / rate)
    clip = layout.clip_of(latent["samples"].unbind()[0], needed if whole else min(needed, length))
    latent = resize.of_length(latent, clip)
    video, audio = latent["samples"].unbind()
    shown = resampling.nearest_frames(images.shape[0], rate, clip.frames, FPS)
    encoded = vae.encode(_fitted(images, shown, clip)).to(video)
    samples = joint.join(encoded.repeat(video.shape[0], 1, 1, 1, 1), audio)
    notes = _notes(images, rate, clip, shortened=clip.latent_frames < length)
    return {**latent, "samples": samples, VIDEO: SourceVideo(images, rate, encoded)}, notes


def encode_audio(audio_vae: Any, latent: dict, waveform: Tensor, rate: int, audio_frames: int | None = None) -> dict:
    """A LATENT whose audio part starts with given audio.

    Args:
        latent: checked by the caller.
        waveform: [B or 1, C, S] at ``rate`` Hz, from the clip's first moment on.
        audio_frames: how many the audio fills, silence included. Without it: as many whole ones as it lasts, and all
            where it ends within :data:`SHORT_TAIL` of the clip's end. What follows stays as it is.

    Returns:
        The LATENT, which carries the audio as :class:`SourceAudio`.
    """
    video, old = latent["samples"].unbind()
    length = layout.length(old)
    mono = as_vae_input(waveform, rate, length)
    if audio_frames is None:
        audio_frames = audio_frames_within(mono.shape[-1])
        audio_frames = length if length - audio_frames <= SHORT_TAIL else audio_frames
    encoded = encode_mono(audio_vae, mono, audio_frames).to(old)
    rest = layout.span(old, audio_frames, length)
    filled = torch.cat((encoded.expand(old.shape[0], -1, -1), rest), dim=layout.TIME)
    samples = joint.join(joint.free_video(video), filled)
    return {**latent, "samples": samples, AUDIO: SourceAudio(waveform, rate, encoded)}


def _fitted(images: Tensor, shown: list[int], clip: ClipShape) -> Tensor:
    """Those of ``images`` [F, H, W, 3] that are ``shown``, at the clip's size.

    A few at a time, for a long clip at its own size is the largest thing in memory: it must not be there twice.
    """
    parts = (images[shown[i : i + FITTED_AT_ONCE]] for i in range(0, len(shown), FITTED_AT_ONCE))
    return torch.cat([fit(part, clip.width, clip.height, "crop") for part in parts])


def _checked_clip(images: Any) -> Tensor:
    images = checked_images(images, "images")
    if images.shape[0] < 2:
        raise OviError(
            input="images",
            found="1 image",
            accepted="a clip of 2 frames or more, [frames, height, width, 3]",
            remedy="Connect a clip's frames, as Get Video Components gives them; a single image goes to Ovi Image To "
            "Video.",
        )
    return images


def _notes(images: Tensor, rate: Fraction, clip: ClipShape, shortened: bool) -> list[str]:
    count, given = images.shape[0], float(images.shape[0] / rate)
    notes = []
    fitting = resampling.frames_within(Fraction(clip.frames, FPS), rate)
    if fitting < count:
        notes.append(
            f"The clip lasts {given:.2f} s, the latent {clip.seconds:.2f} s: only the first {fitting} of {count} "
            "frames are used and come back. For all of it, lengthen the latent, or set length of Ovi Lock Video to the "
            "whole clip."
        )
    if shortened:
        notes.append(f"The clip lasts {given:.2f} s: the latent is shortened to {clip.seconds:.2f} s.")
    shape, wanted = images.shape[2] / images.shape[1], clip.width / clip.height
    lost = 1 - min(shape, wanted) / max(shape, wanted)
    if lost > NOTABLE_CROP:
        notes.append(
            f"The model sees the clip cropped from {images.shape[2]}x{images.shape[1]} to the shape of "
            f"{clip.width}x{clip.height}: {lost:.0%} of the image is cut off. A latent of the clip's shape shows all "
            "of it."
        )
    return notes
