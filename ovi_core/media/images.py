"""IMAGE and MASK values: checks, one type and scale for all, and fitting them to a size."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.utils
import torch
from einops import rearrange
from torch import Tensor

from ..errors import OviError

FITS = ("crop", "pad", "stretch")
SMALLEST_SIDE = 32  # px: below, there is nothing to enlarge
CHECKED_AT_ONCE = 16  # images: PyTorch copies what it looks at
REMEDY = "Connect the images of Load Image, Get Video Components or Ovi AV Decode."


def checked_images(images: Any, input: str) -> Tensor:
    """As :func:`checked_frames`; raises OviError for less than 32 px on a side, too."""
    checked = checked_frames(images, input)
    height, width = checked.shape[1:3]
    if min(height, width) < SMALLEST_SIDE:
        raise OviError(
            input=input,
            found=f"an image of {width}x{height} px",
            accepted=f"{SMALLEST_SIDE} px or more on each side",
            remedy="Load a larger image; best is one of the clip's own size.",
        )
    return checked


def checked_frames(images: Any, input: str) -> Tensor:
    """RGB images [B, H, W, 3] as float32 in 0..1, from ComfyUI's IMAGE of any type; float32 comes back as it is.

    Integers are scaled by their full scale. A tensor of another device is brought to where ComfyUI keeps IMAGEs.

    Raises:
        OviError: no IMAGE, none in it, a type that holds no numbers, transparency, or values that are not finite.
    """
    if not isinstance(images, Tensor) or images.ndim != 4 or 0 in images.shape:
        shape = f"shape {list(images.shape)}" if isinstance(images, Tensor) else f"type {type(images).__name__}"
        found = f"images of {shape}" if images is not None else "no images"
        raise OviError(input=input, found=found, accepted="an IMAGE, [images, height, width, 3]", remedy=REMEDY)
    channels = images.shape[-1]
    if channels != 3:
        kind = "an image with transparency (4 channels)" if channels == 4 else f"an image of {channels} channel(s)"
        raise OviError(
            input=input,
            found=kind,
            accepted="an RGB image without transparency",
            remedy="Put it on a background first, or load it with Load Image, which leaves the transparency out.",
        )
    scaled = as_float(images, input)
    _check_finite(scaled, input, "an image")
    return scaled


def checked_mask(mask: Any, input: str) -> Tensor:
    """ComfyUI's MASK [H, W] or [B, H, W] of any type as float32 [B, H, W] in 0..1.

    Raises:
        OviError: no MASK, an empty one, a type that holds no numbers, or values that are not finite.
    """
    if not isinstance(mask, Tensor) or mask.ndim not in (2, 3) or 0 in mask.shape:
        shape = f"shape {list(mask.shape)}" if isinstance(mask, Tensor) else f"type {type(mask).__name__}"
        raise OviError(
            input=input,
            found=f"a mask of {shape}",
            accepted="a MASK, [masks, height, width]",
            remedy="Connect the mask of Load Image, or of a node that draws or finds one.",
        )
    scaled = as_float(mask, input).clamp(0, 1)
    _check_finite(scaled, input, "a mask")
    return scaled if scaled.ndim == 3 else scaled[None]


def as_float(values: Tensor, input: str) -> Tensor:
    """``values`` as float32 on the device of ComfyUI's IMAGEs: floats as they are, integers by their full scale.

    Raises:
        OviError: a type without numbers on a line, or packed ones.
    """
    whole = not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)
    try:
        if values.is_complex() or values.is_quantized or values.layout != torch.strided:
            raise TypeError
        full = torch.iinfo(values.dtype).max if whole else 1
        moved = values.to(comfy.model_management.intermediate_device())
        return moved.to(torch.float32) / full if whole else moved.to(torch.float32)
    except (TypeError, NotImplementedError) as error:
        raise OviError(
            input=input,
            found=f"values of type {values.dtype} ({values.layout}, on {values.device})",
            accepted="numbers: float32 in 0..1, other floats, or integers",
            remedy="Look at the node that made them; ComfyUI's own give float32.",
        ) from error


def all_finite(values: Tensor) -> bool:
    """Whether no value of a batch [B, ...] is NaN or infinite; a few of the batch at a time."""
    return all(bool(torch.isfinite(part).all()) for part in values.split(CHECKED_AT_ONCE))


def _check_finite(values: Tensor, input: str, what: str) -> None:
    if not all_finite(values):
        raise OviError(
            input=input,
            found=f"{what} with values that are not numbers (NaN or infinite)",
            accepted="values from 0 to 1",
            remedy="Look at the node that made it: its VAE or filter failed.",
        )


def fit(images: Tensor, width: int, height: int, how: str) -> Tensor:
    """Images [B, H, W, 3] brought to ``width`` x ``height`` px and, as ComfyUI saves them, to 0..1.

    Args:
        how: ``crop`` fills the frame and cuts the rest, ``pad`` shows all of the image between black bars, ``stretch``
            changes its shape (as the reference does, which picks a clip size of nearly the same shape).
    """
    old_height, old_width = images.shape[1:3]
    if (old_height, old_width) == (height, width):
        least, most = images.aminmax()
        return images if least >= 0 and most <= 1 else images.clamp(0, 1)
    planes = rearrange(images, "b h w c -> b c h w")
    if how == "pad":
        planes = _letterboxed(planes, width, height)
    else:
        planes = _lanczos(planes, width, height, "center" if how == "crop" else "disabled")
    return rearrange(planes, "b c h w -> b h w c")


def _lanczos(planes: Tensor, width: int, height: int, crop: str) -> Tensor:
    """Planes [B, C, H, W] of any float type resized by ComfyUI, which takes types that NumPy has."""
    return comfy.utils.common_upscale(planes.float(), width, height, "lanczos", crop).to(planes.dtype)


def _letterboxed(planes: Tensor, width: int, height: int) -> Tensor:
    """Planes [B, C, H, W] scaled to fit into ``width`` x ``height`` px, between black bars."""
    old_height, old_width = planes.shape[-2:]
    scale = min(width / old_width, height / old_height)
    inner_width, inner_height = max(1, round(old_width * scale)), max(1, round(old_height * scale))
    inner = _lanczos(planes, inner_width, inner_height, "disabled")
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    bars = (left, width - inner_width - left, top, height - inner_height - top)
    return torch.nn.functional.pad(inner, bars)
