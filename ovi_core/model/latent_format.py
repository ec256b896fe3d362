"""ComfyUI's image preview during a run, with a strip under it that shows the audio latent.

ComfyUI previews the video part of a joint latent and nothing more. Its ``latent2rgb`` method asks the latent format to
reshape that part first, which is where the strip is put in: as latent cells that the method's own map turns into the
strip's colours. So every sampler of ComfyUI shows it, and packs that take this preview's map for their own find it as
it was. A small decoder (``taesd``) has no such place and shows the image alone.

A row of the strip is a channel of the audio latent, a column a stretch of time, brightness the channel's size there.
That is no spectrum and no loudness, which take the audio VAE, but it shows when something sounds, and that it changes.
"""

from __future__ import annotations

import json
import math
from typing import Any

import comfy.latent_formats
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..latents import joint
from ..network.run_cache import SamplingRun
from ..spec import MIN_LATENT_FRAMES, SPATIAL, VIDEO_CHANNELS, ClipShape

WIDTH, LARGEST = 160, 512
"""Pixels: what a preview is made wide, and ComfyUI's default for its longer side, beyond which nothing is enlarged."""

DARK, BRIGHT = (-0.95, -0.95, -0.85), (1.0, 0.7, -0.3)
"""Colours of a channel at 0 and at its largest, red, green and blue from -1 to 1."""


PREVIEW_KEY = "ovi_preview_rgb"
"""Of a file's metadata: JSON of 49 rows [red, green, blue], of the latent's channels and, as the last, the bias."""
LONGEST = 10_000  # characters of it


class OviLatentFormat(comfy.latent_formats.Wan22):
    """Wan 2.2's latents, with a preview that shows the audio latent under the image.

    Attributes:
        sampling_run: the run that is previewed, which has the audio of its last step; None outside of one.
    """

    sampling_run: SamplingRun | None = None

    def take_preview(self, table: str) -> None:
        """Show previews by the factors of a table, see :data:`PREVIEW_KEY`; by Wan 2.2's where it is no such table."""
        rows = _numbers(table)
        if rows and np.shape(rows) == (VIDEO_CHANNELS + 1, 3) and np.isfinite(rows).all():
            *self.latent_rgb_factors, self.latent_rgb_factors_bias = rows

    def fix_empty_latent(self, latent: Any) -> Any:
        """A plain empty latent [B, 48, T, H, W], of any node for empty latents, as a joint one, as MiniMax H3 has it.

        Called by ComfyUI from 0.31 on. What Empty Ovi Latent made as video alone stays that.
        """
        if getattr(latent, "is_nested", False) or latent.ndim != 5 or joint.is_video_alone(latent):
            return latent
        batch, _, frames, height, width = latent.shape
        if frames < MIN_LATENT_FRAMES:
            return latent
        audio = ClipShape(SPATIAL * width, SPATIAL * height, frames).audio_shape(batch)
        return joint.join(latent, latent.new_zeros(audio))

    def latent_rgb_factors_reshape(self, x0: Tensor) -> Tensor:
        """The first frame of a video latent [B, 48, T, H, W] and, where there is an audio latent, the strip under it.

        Called by ComfyUI's ``latent2rgb`` preview.

        Returns:
            latent [1, 48, H', W'] of a whole number of cells for each of the given ones; the strip alone where the
            video is the cell that stands for no video.
        """
        frame = x0[:1, :, 0]
        run = self.sampling_run
        audio = None if run is None else run.preview_audio
        if run is None or audio is None:
            return frame
        height, width = frame.shape[-2:]
        alone = height * width == 1
        if alone:
            width = min(max(audio.shape[-1], WIDTH), LARGEST)
        else:
            wanted = max(math.ceil(audio.shape[-1] / width), math.ceil(WIDTH / width))
            scale = max(1, min(wanted, LARGEST // max(height, width)))
            frame = interpolate(frame, scale_factor=scale, mode="bilinear")
            width *= scale
        strip = self._cells(brightness(audio, width).to(frame), run)
        return strip if alone else torch.cat((frame, strip), dim=-2)

    def _cells(self, bright: Tensor, run: SamplingRun) -> Tensor:
        """Latent [1, 48, H, W] that ``latent2rgb`` shows as the colours of ``bright``, [H, W] from 0 to 1."""
        key = ("preview colours", bright.device, bright.dtype)
        to_latent, dark, light, bias = run.once(key, lambda: self._colours(bright))
        colours = torch.lerp(dark, light, bright[..., None]) - bias
        return (colours @ to_latent).movedim(-1, 0)[None]

    def _colours(self, like: Tensor) -> tuple[Tensor, ...]:
        """Matrix [3, 48] from a colour to a latent that is shown so, and dark, bright and bias [3], as ``like``."""
        # pinv: of all latents with these colours the smallest
        to_latent = torch.linalg.pinv(torch.tensor(self.latent_rgb_factors)).to(like)
        return to_latent, *(like.new_tensor(c) for c in (DARK, BRIGHT, self.latent_rgb_factors_bias))


def _numbers(text: str) -> list[list[float]]:
    """Rows of numbers from JSON; none where it holds anything else."""
    if len(text) > LONGEST:
        return []
    try:
        return [[float(value) for value in row] for row in json.loads(text)]
    except (ValueError, TypeError, OverflowError, RecursionError):
        return []


def brightness(audio: Tensor, width: int) -> Tensor:
    """The strip of an audio latent [20, L], from 0 to 1, as [20 n, width]: n pixels for a channel, time to the right.

    Silence of zeros is dark; the rest counts in three times its root mean square, so that few loud steps stand out.
    """
    size = audio.abs().float()
    columns = interpolate(size[None], size=width, mode="area" if width < size.shape[-1] else "nearest")[0]
    full = 3 * size.square().mean().sqrt().clamp(min=1 / 3)
    rows = max(1, round(width / WIDTH))
    return (columns / full).clamp(max=1).repeat_interleave(rows, dim=0)
