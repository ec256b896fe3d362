"""Images at the start, at the end or at any second of a clip: fitted to its size, encoded, and masked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import OviError
from ..latents import denoise_mask
from ..latents.joint import free_video
from ..latents.source_media import VIDEO, with_lock
from ..media.images import checked_images, fit
from ..spec import FPS, FRAMES_PER_LATENT, SPATIAL, frames_for, frames_of, latent_frame_at
from ..vae.checks import check_video_vae
from .latent_input import parts_of

SETTLED = 2
"""Latent frames of a still clip after which a trained VAE's latents do not change any more.

Decoded in the middle of another clip, the second latent frame of a still shows its image 3 dB nearer than the image
encoded alone does, the first one 2 dB; further ones are no better.
"""


def with_start_image(vae: Any, latent: dict, image: Tensor, how: str, strength: float = 1.0) -> dict:
    """A LATENT whose first frame is ``image``; see :func:`_with_image`."""
    video, audio = _video_and_audio(latent)
    return _with_image(vae, latent, (video, audio), image, how, 0, strength, ("start_image", "start_strength"))


def with_end_image(vae: Any, latent: dict, image: Tensor, how: str, strength: float = 1.0) -> dict:
    """A LATENT whose last frames are ``image``; see :func:`_with_image`."""
    video, audio = _video_and_audio(latent)
    last = video.shape[2] - 1
    return _with_image(vae, latent, (video, audio), image, how, last, strength, ("end_image", "end_strength"))


def with_keyframe(vae: Any, latent: dict, image: Tensor, how: str, seconds: float, strength: float) -> dict:
    """A LATENT that shows ``image`` at ``seconds`` from its start; see :func:`_with_image`.

    Raises:
        OviError: also for a time past the last frame, and one whose frames are masked already.
    """
    video, audio = _video_and_audio(latent)
    last = frames_for(video.shape[2]) - 1
    if not 0 <= seconds * FPS < last + 0.5:
        raise OviError(
            input="seconds",
            found=f"{seconds:g} s in a clip of {(last + 1) / FPS:.2f} s",
            accepted=f"0 to {last / FPS:.2f} s",
            remedy="Set it to a moment within the clip, or make the latent longer.",
        )
    index = latent_frame_at(seconds)
    if strength and not bool(denoise_mask.is_free(denoise_mask.video_mask(latent)[:, :, index]).any()):
        first, end = frames_of(index)
        raise OviError(
            input="seconds",
            found=f"{seconds:g} s, where an image is given already ({first / FPS:.2f} to {(end - 1) / FPS:.2f} s)",
            accepted="a moment that is still to be generated",
            remedy=f"Set it {FRAMES_PER_LATENT / FPS:.2f} s or more away from the other images, or leave one out.",
        )
    return _with_image(vae, latent, (video, audio), image, how, index, strength, ("image", "strength"))


def _with_image(
    vae: Any,
    latent: dict,
    parts: tuple[Tensor, Tensor | None],
    image: Tensor,
    how: str,
    index: int,
    strength: float,
    inputs: tuple[str, str],
) -> dict:
    """A LATENT one of whose latent frames shows ``image``, masked.

    At strength 1 the latent frame stays as it is, clean, at timestep 0, as training saw the first frame. Below, the
    noise mask is 1 - strength: the model sees the image under that share of each step's noise and timestep, and the
    result is that share the model's.

    Args:
        parts: video [B, 48, T, h, w] and audio of the LATENT.
        image: [B or 1, H, W, 3] in 0..1; one for all clips of the batch, or one for each.
        how: one of :data:`..media.images.FITS`.
        index: of the latent frame.
        strength: 0 to 1; 0 leaves the LATENT as it is.
        inputs: names of image and strength, for errors.

    Raises:
        OviError: an image, strength or VAE that does not fit.
    """
    video, audio = parts
    check_video_vae(vae)
    image = checked_images(image, inputs[0])
    if image.shape[0] not in (1, video.shape[0]):
        raise OviError(
            input=inputs[0],
            found=f"{image.shape[0]} images for {video.shape[0]} clip(s)",
            accepted=f"1 image, or {video.shape[0]}: one a clip",
            remedy="Pick one image of the batch, or set the latent's batch size to the number of images.",
        )
    if not 0 <= strength <= 1:
        raise OviError(
            input=inputs[1],
            found=f"{strength:g}",
            accepted="0 (no influence) to 1 (the image as it is)",
            remedy="Set it to 1, or to about 0.5 for an image that the clip only approaches.",
        )
    if strength == 0:
        return latent
    height, width = (side * SPATIAL for side in video.shape[-2:])
    stills = [_still(vae, one, index) for one in fit(image, width, height, how)]
    filled = free_video(video).clone()
    filled[:, :, index : index + 1] = torch.cat(stills).to(video)
    shown = denoise_mask.approached(strength)
    mask = denoise_mask.with_span(denoise_mask.video_mask(latent), index, index + 1, shown)
    return denoise_mask.with_parts(with_lock(latent, VIDEO, locked=False), filled, audio, mask)


def _video_and_audio(latent: dict) -> tuple[Tensor, Tensor | None]:
    """The parts of a LATENT that has a video."""
    video, audio = parts_of(latent)
    if video is None:
        raise OviError(
            input="latent",
            found="a latent of audio alone",
            accepted="a latent with a video",
            remedy="Set towers of Empty Ovi Latent to video + audio or video only.",
        )
    return video, audio


def _still(vae: Any, image: Tensor, index: int) -> Tensor:
    """An image [H, W, 3] as the latent [1, 48, 1, h, w] of a clip's latent frame ``index``.

    The first latent frame stands for one frame, and is the image encoded alone. Each other stands for four and depends
    on those before: it is the last latent frame of a clip in which nothing moves, long enough to have settled.
    """
    if index == 0:
        return vae.encode(image[None])[:, :, :1]
    frames = frames_for(SETTLED + 1)
    return vae.encode(image.expand(frames, -1, -1, -1))[:, :, SETTLED:]
