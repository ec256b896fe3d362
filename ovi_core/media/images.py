"""IMAGE values: checks, and fitting them to a size."""

from __future__ import annotations

from typing import Any

import comfy.utils
import torch
from einops import rearrange
from torch import Tensor

from ..errors import OviError

FITS = ("crop", "pad", "stretch")


SMALLEST_SIDE = 32  # px: below, there is nothing to enlarge


CHECKED_AT_ONCE = 16  # pictures


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
    # A few at a time: PyTorch copies what it looks at.
    if not all(bool(torch.isfinite(part).all()) for part in image.split(CHECKED_AT_ONCE)):
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


def check_frames(images: Any, input: str) -> None:
    """Raise OviError unless ``images`` are RGB pictures [F, H, W, 3] of finite values, one at least."""
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.shape[0]:
        shape = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise OviError(
            input=input,
            found=f"images of shape {shape}",
            accepted="the frames of a clip, [frames, height, width, 3]",
            remedy="Connect the images of Ovi AV Decode, or of Get Video Components.",
        )
    check_picture(images, input)
