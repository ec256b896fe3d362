"""The time that two clips share: whether it is there, and whether both show the same in it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import OviError

ALIKE = 0.9
"""Correlation from which two frames show the same. The same frames through a VAE have 0.98 or more, whatever happened
to their colours and contrast; two moments of a scene that moves, or two scenes, have less."""
FLAT = 1e-3  # standard deviation below which a frame has nothing to compare but its mean
CLOSE = 0.1  # difference of the means of frames without anything on them
SIDE = 32  # px to which frames are reduced
COMPARED = 8  # frames, spread over the overlap


def check_overlap(overlap: int, frames: int, frame_rate: float, input: str) -> None:
    """Raise OviError if a clip of ``frames`` is shorter than an ``overlap`` of that many frames."""
    if frames < overlap:
        raise OviError(
            input="overlap_seconds",
            found=f"an overlap of {overlap} frames ({overlap / frame_rate:.2f} s) and {frames} in {input}",
            accepted=f"{frames / frame_rate:.2f} s at most, the length of {input}",
            remedy=f"Shorten the overlap, or connect all frames of the clip to {input}.",
        )


def shows_the_same(first: Tensor, second: Tensor) -> bool:
    """Whether two clips [K, H, W, 3] in 0..1 show the same, apart from what a VAE and a grade change."""
    count = min(COMPARED, first.shape[0])
    chosen = torch.linspace(0, first.shape[0] - 1, count).round().long().tolist()
    a, b = (_reduced(clip[chosen]) for clip in (first, second))
    (a_spread, a_mean), (b_spread, b_mean) = (torch.std_mean(part, dim=1, correction=0) for part in (a, b))
    likeness = ((a - a_mean[:, None]) * (b - b_mean[:, None])).mean(dim=1) / (a_spread * b_spread).clamp(min=FLAT**2)
    both_flat = (a_spread < FLAT) & (b_spread < FLAT)
    likeness = torch.where(both_flat, ((a_mean - b_mean).abs() < CLOSE).to(likeness), likeness)
    return float(likeness.median()) >= ALIKE


def _reduced(images: Tensor) -> Tensor:
    """Images [K, H, W, 3] as [K, 1024], small and grey."""
    grey = images.float().mean(dim=-1)[:, None]
    return torch.nn.functional.adaptive_avg_pool2d(grey, SIDE).flatten(1)
