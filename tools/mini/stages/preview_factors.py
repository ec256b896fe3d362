"""ComfyUI's fast preview of the small model in its own colours: how a latent cell's colour follows from its channels.

ComfyUI's factors for Wan 2.2 read other axes than those that ``video_basis`` gives the small model. These are fitted by
least squares to first frames of its world, which the preview shows. An exported model's file holds them as metadata,
and ``preview.json`` beside the shipped files, for the one that was exported before there were any.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import comfy.latent_formats
import torch
from ovi_native.ovi_core.spec import SPATIAL, ClipShape
from ovi_native.ovi_core.vae.video_vae import read_video_vae
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ..world.casting import draw_scene
from ..world.frames import draw_frames

CLIP = ClipShape.from_seconds(96, 96, 0.5)
SCENES, RIDGE = 100, 1e-3


def fitted(encode: Callable[[Tensor], Tensor], scenes: int = SCENES, first: int = 0) -> Tensor:
    """Factors [49, 3]: from 48 channels, as a sampler has them, to red, green and blue in -1..1, and the bias last.

    Args:
        encode: from an image [1, H, W, 3] in 0..1 to its latent [1, 48, 1, H / 16, W / 16].
        first: seed of the first scene.
    """
    pairs = [_cells(encode, seed) for seed in range(first, first + scenes)]
    channels, colours = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    ridge = RIDGE * len(channels) * torch.eye(channels.shape[1], dtype=channels.dtype)
    return torch.linalg.solve(channels.T @ channels + ridge, channels.T @ colours)


def error(factors: Tensor, encode: Callable[[Tensor], Tensor], scenes: int, first: int) -> float:
    """What of the colours' variance the factors leave, on scenes they may not have seen: 0 to 1, and above 1 if worse
    than one colour for all."""
    pairs = [_cells(encode, seed) for seed in range(first, first + scenes)]
    channels, colours = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return float((channels @ factors - colours).var() / colours.var())


def _cells(encode: Callable[[Tensor], Tensor], seed: int) -> tuple[Tensor, Tensor]:
    """Of a scene's first frame the cells' channels [N, 48 + 1] and mean colours [N, 3]."""
    image = torch.from_numpy(draw_frames(draw_scene(seed, CLIP))[:1]).double()
    latent = encode(image.float())[0, :, 0].double()
    colours = avg_pool2d(image.movedim(-1, 1) * 2 - 1, SPATIAL)[0]
    channels = torch.cat((latent, torch.ones_like(latent[:1])))
    return channels.flatten(1).T, colours.flatten(1).T


def encoder(file: Path) -> Callable[[Tensor], Tensor]:
    """Encodes images by a video VAE's file, as a sampler has latents."""
    vae = read_video_vae(str(file))
    return lambda image: comfy.latent_formats.Wan22().process_in(vae.encode(image))


def as_text(factors: Tensor) -> str:
    """The factors as JSON, a line for each channel: for the metadata of the model's file, and for a file beside it."""
    rows = [json.dumps([round(value, 4) for value in row]) for row in factors.tolist()]
    return "[\n " + ",\n ".join(rows) + "\n]\n"
