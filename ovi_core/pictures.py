"""Start pictures: fitted to the clip's size, encoded, and kept by the sampler."""

from __future__ import annotations

from typing import Any

import comfy.utils
import torch
from einops import rearrange
from torch import Tensor

from . import latents
from .errors import OviError
from .spec import SPATIAL, VIDEO_CHANNELS

FITS = ("crop", "pad", "stretch")
SMALLEST_SIDE = 32  # px: below, there is nothing to enlarge


def check_picture(image: Tensor, input: str) -> None:
    """Raise OviError unless image [B, H, W, C] holds RGB pictures of a usable size with finite values."""
    height, width, channels = image.shape[1:]
    if channels != 3:
        kind = "a picture with transparency (4 channels)" if channels == 4 else f"a picture of {channels} channel(s)"
        raise OviError(
            input=input,
            found=kind,
            accepted="an RGB picture without transparency",
            remedy="Put it on a background first, or load it with Load Image, which leaves the transparency out.",
        )
    if min(height, width) < SMALLEST_SIDE:
        raise OviError(
            input=input,
            found=f"a picture of {width}x{height} px",
            accepted=f"{SMALLEST_SIDE} px or more on each side",
            remedy="Load a larger picture; best is one of the clip's own size.",
        )
    if not torch.isfinite(image).all():
        raise OviError(
            input=input,
            found="a picture with values that are not numbers (NaN or infinite)",
            accepted="values from 0 to 1",
            remedy="Look at the node that made the picture: its VAE or filter failed.",
        )


def fit(image: Tensor, width: int, height: int, how: str) -> Tensor:
    """Pictures [B, H, W, 3] brought to ``width`` x ``height`` px.

    Args:
        how: ``crop`` fills the frame and cuts what is over, ``pad`` shows all of the picture between black bars,
            ``stretch`` changes its shape (as the reference does, which picks a clip size of nearly the same shape).
    """
    old_height, old_width = image.shape[1:3]
    if (old_height, old_width) == (height, width):
        return image
    planes = rearrange(image, "b h w c -> b c h w")
    if how == "pad":
        planes = _letterboxed(planes, width, height)
    else:
        crop = "center" if how == "crop" else "disabled"
        planes = comfy.utils.common_upscale(planes, width, height, "lanczos", crop)
    return rearrange(planes, "b c h w -> b h w c")


def _letterboxed(planes: Tensor, width: int, height: int) -> Tensor:
    """Planes [B, C, H, W] scaled to fit into ``width`` x ``height`` px, between black bars."""
    old_height, old_width = planes.shape[-2:]
    scale = min(width / old_width, height / old_height)
    inner_width, inner_height = max(1, round(old_width * scale)), max(1, round(old_height * scale))
    inner = comfy.utils.common_upscale(planes, inner_width, inner_height, "lanczos", "disabled")
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    bars = (left, width - inner_width - left, top, height - inner_height - top)
    return torch.nn.functional.pad(inner, bars)


def check_video_vae(vae: Any, input: str = "vae") -> None:
    """Raise OviError unless ``vae`` is one of the Wan 2.2 build: 48 channels, 16 px a latent cell."""
    channels = getattr(vae, "latent_channels", None)
    if channels != VIDEO_CHANNELS or getattr(vae, "latent_dim", None) != 3:
        raise OviError(
            input=input,
            found="no VAE" if vae is None else f"a VAE of {channels} latent channels",
            accepted=f"the Wan 2.2 VAE ({VIDEO_CHANNELS} channels)",
            remedy="Load wan2.2_vae with Load VAE, or take the first VAE of Load Ovi (all in one).",
        )


def keep_start(vae: Any, latent: dict, image: Tensor, how: str) -> dict:
    """A LATENT whose first video latent frame is ``image``, kept through sampling at timestep 0.

    Args:
        image: [B, H, W, 3] in 0..1; one picture for the whole batch or one each.

    Raises:
        OviError: a picture, VAE or latent that does not fit.
    """
    video, audio = latents.split(latent["samples"], "latent")
    latents.check_mask(latent.get("noise_mask"), "latent")
    check_video_vae(vae)
    check_picture(image, "start_image")
    if image.shape[0] not in (1, video.shape[0]):
        raise OviError(
            input="start_image",
            found=f"{image.shape[0]} pictures for {video.shape[0]} clip(s)",
            accepted=f"1 picture, or {video.shape[0]}: one a clip",
            remedy="Pick one picture of the batch, or set the latent's batch size to the number of pictures.",
        )
    height, width = (side * SPATIAL for side in video.shape[-2:])
    fitted = fit(image, width, height, how)
    first = torch.cat([vae.encode(picture[None]) for picture in fitted]).to(video)
    rest = latents.free_video(video)[:, :, 1:]
    video = torch.cat((first[:, :, :1].expand(video.shape[0], -1, -1, -1, -1), rest), dim=2)
    mask = latents.video_mask(latent).clone()
    mask[:, :, 0] = 0
    return latents.with_parts(latent, video, audio, mask)
