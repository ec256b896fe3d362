"""What the parts measure: the published size on a card, or a toy of it on a CPU, which shows that the script runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

Clip = tuple[int, int, int]
"""Width, height, latent frames."""
Measure = Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Size:
    """What is measured.

    Attributes:
        model: sizes of the transformer beside the published ones.
        pairs: block pairs where a few of them are enough.
        clips: by name.
        seconds: how long the matrix products run back to back.
        vae: sizes of the video VAE.
        frames: latent frames of a decode that is compared; the whole clip takes as much for each.
        caps: GB of the card that are left for a clip.
    """

    device: str = "cuda"
    dtype: torch.dtype = torch.bfloat16
    model: dict[str, Any] = field(default_factory=dict)
    pairs: int = 4
    clips: dict[str, Clip] = field(
        default_factory=lambda: {"704x704, 5 s": (704, 704, 31), "960x960, 10 s": (960, 960, 61)}
    )
    seconds: float = 5.0
    vae: dict[str, Any] = field(
        default_factory=lambda: {"dim": 160, "dec_dim": 256, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2}
    )
    frames: int = 6
    caps: dict[str, float] = field(default_factory=lambda: {"704x704, 5 s": 6.0, "960x960, 10 s": 8.0})

    @property
    def few_pairs(self) -> dict[str, Any]:
        return {**self.model, "num_layers": self.pairs}


TOY_CLIPS = {"64x96, 3 frames": (64, 96, 3), "64x64, 7 frames": (64, 64, 7)}
FULL = Size()
TOY = Size(
    device="cpu",
    dtype=torch.float32,
    model={"dim": 256, "ffn_dim": 512, "num_layers": 2, "text_dim": 64},
    pairs=1,
    clips=TOY_CLIPS,
    seconds=0.02,
    vae={"dim": 8, "dec_dim": 8, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 1},
    frames=2,
    caps=dict.fromkeys(TOY_CLIPS, 1.0),
)


def tflop_per_second(tflop: float, seconds: float) -> float | None:
    """Rounded; None where nothing was counted."""
    return round(tflop / seconds, 2) if tflop else None
