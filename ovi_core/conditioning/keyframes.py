"""Pictures at the start, the end or any second of a clip: fitted to its size, encoded, and kept by the sampler."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import OviError
from ..latents import denoise_mask, joint
from ..latents.source_media import check_without_lead
from ..media.images import check_picture, fit
from ..spec import FPS, FRAMES_PER_LATENT, SPATIAL, frames_of, latent_frame_at
from ..vae.checks import check_video_vae

SETTLED = 2
"""Latent steps of a still clip after which a trained VAE's latents do not change any more.

Decoded in the midst of another clip, the second step of a still shows its picture 3 dB nearer than the picture encoded
alone does, the first step 2 dB; further ones are no better.
"""


def keep_start(vae: Any, latent: dict, image: Tensor, how: str, strength: float = 1.0) -> dict:
    """A LATENT whose first frame is ``image``; see :func:`_keep`."""
    return _keep(vae, latent, image, how, 0, strength, ("start_image", "start_strength"))


def keep_end(vae: Any, latent: dict, image: Tensor, how: str, strength: float = 1.0) -> dict:
    """A LATENT whose last frames are ``image``; see :func:`_keep`."""
    last = _video_of(latent).shape[2] - 1
    return _keep(vae, latent, image, how, last, strength, ("end_image", "end_strength"))


def keep_at(vae: Any, latent: dict, image: Tensor, how: str, seconds: float, strength: float) -> dict:
    """A LATENT that shows ``image`` at ``seconds`` from its start; see :func:`_keep`.

    Raises:
        OviError: also for a time past the last frame, and one whose frames are all given already.
    """
    video = _video_of(latent)
    last = (video.shape[2] - 1) * FRAMES_PER_LATENT
    if not 0 <= seconds * FPS < last + 0.5:
        raise OviError(
            input="seconds",
            found=f"{seconds:g} s in a clip of {(last + 1) / FPS:.2f} s",
            accepted=f"0 to {last / FPS:.2f} s",
            remedy="Set it to a moment within the clip, or make the latent longer.",
        )
    step = latent_frame_at(seconds)
    if strength and bool((denoise_mask.video_mask(latent)[:, :, step] < 1).all()):
        first, end = frames_of(step)
        raise OviError(
            input="seconds",
            found=f"{seconds:g} s, whose pictures ({first / FPS:.2f} to {(end - 1) / FPS:.2f} s) are given already",
            accepted="a moment that is still to be made",
            remedy=f"Set it {FRAMES_PER_LATENT / FPS:.2f} s or more away from the other pictures, or leave one out.",
        )
    return _keep(vae, latent, image, how, step, strength, ("image", "strength"))


def _keep(vae: Any, latent: dict, image: Tensor, how: str, step: int, strength: float, inputs: tuple[str, str]) -> dict:
    """A LATENT one of whose video latent steps shows ``image``, kept through sampling.

    At strength 1 the step is kept as it is, clean, at timestep 0, as training saw the first frame. Below, the noise
    mask is 1 - strength: the model sees the picture under that share of each step's noise and timestep, and the result
    is that share the model's.

    Args:
        image: [B, H, W, 3] in 0..1; one picture for the whole batch or one each.
        strength: 0 to 1; 0 leaves the LATENT as it is.
        inputs: names of picture and strength, for errors.

    Raises:
        OviError: a picture, strength, VAE or latent that does not fit.
    """
    video = _video_of(latent)
    audio = joint.parts(latent["samples"], "latent")[1]
    denoise_mask.check_mask(latent.get("noise_mask"), "latent")
    check_without_lead(latent)
    check_video_vae(vae)
    check_picture(image, inputs[0])
    if image.shape[0] not in (1, video.shape[0]):
        raise OviError(
            input=inputs[0],
            found=f"{image.shape[0]} pictures for {video.shape[0]} clip(s)",
            accepted=f"1 picture, or {video.shape[0]}: one a clip",
            remedy="Pick one picture of the batch, or set the latent's batch size to the number of pictures.",
        )
    if not 0 <= strength <= 1:
        raise OviError(
            input=inputs[1],
            found=f"{strength:g}",
            accepted="0 (no influence) to 1 (the picture as it is)",
            remedy="Set it to 1, or to about 0.5 for a picture that is only to be approached.",
        )
    if strength == 0:
        return latent
    height, width = (side * SPATIAL for side in video.shape[-2:])
    still = [_still(vae, picture, step) for picture in fit(image, width, height, how)]
    filled = joint.free_video(video).clone()
    filled[:, :, step : step + 1] = torch.cat(still).to(video)
    mask = denoise_mask.video_mask(latent).clone()
    mask[:, :, step] = 1 - strength
    return denoise_mask.with_parts(latent, filled, audio, mask)


def _video_of(latent: dict) -> Tensor:
    video, _ = joint.parts(latent["samples"], "latent")
    if video is None:
        raise OviError(
            input="latent",
            found="a latent of sound alone",
            accepted="a latent with a video",
            remedy="Set towers of Empty Ovi Latent to video + audio or video only.",
        )
    return video


def _still(vae: Any, picture: Tensor, step: int) -> Tensor:
    """A picture [H, W, 3] as the latent [1, 48, 1, h, w] of a clip's ``step``.

    The first step stands for one frame, and is the picture encoded alone. Each other stands for four, seen with those
    before: it is the last step of a clip in which nothing moves, long enough to have settled.
    """
    if step == 0:
        return vae.encode(picture[None])[:, :, :1]
    frames = FRAMES_PER_LATENT * SETTLED + 1
    return vae.encode(picture.expand(frames, -1, -1, -1))[:, :, SETTLED:]
