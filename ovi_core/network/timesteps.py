"""Timesteps per token and their sinusoids."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .stretches import taken


class Waves(NamedTuple):
    """Frequencies of the time embedding in turns per timestep, each [F] float32, as a coarse and a fine part.

    The coarse part has 12 fractional bits, so its product with a whole timestep up to 1000 is exact in float32 and
    whole turns can be dropped without error: the sinusoids come out as from float64, which graphics cards are slow at.
    """

    coarse: Tensor
    fine: Tensor

    @classmethod
    def of_dim(cls, dim: int, device: torch.device) -> Waves:
        """The ``dim / 2`` frequencies 10000^(-2i / dim)."""
        turns = 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim) / (2 * math.pi)
        coarse = (turns * 4096).round() / 4096
        return cls(coarse.float().to(device), (turns - coarse).float().to(device))

    def sinusoids(self, timesteps: Tensor) -> Tensor:
        """Cosines, then sines, as the reference orders them: timesteps [...] in 0..1000 to [..., 2 F] float32."""
        timesteps = timesteps.float().unsqueeze(-1)
        whole = timesteps.floor()
        turns = (whole * self.coarse).frac() + whole * self.fine + (timesteps - whole) * (self.coarse + self.fine)
        angles = turns * (2 * math.pi)
        return torch.cat((angles.cos(), angles.sin()), dim=-1)


@dataclass(frozen=True, eq=False)  # ComfyUI compares conditionings in every step: by identity, not by content
class TimestepShares:
    """How much of the sampler's timestep each of ``n`` equal stretches of a tower's tokens has.

    A masked latent (noise mask 0: the first frame of image-to-video) is clean and has timestep 0; a free one has the
    whole. Few distinct shares occur, so the time embedding is computed for these alone.

    values: [K] float32 in [0, 1], the distinct shares.
    index: [B, n] long, which of them a stretch has; n is 1, the number of latent frames, or of tokens.
    """

    values: Tensor
    index: Tensor

    @classmethod
    def of_mask(cls, mask: Tensor, frames: int) -> TimestepShares | None:
        """Shares of a noise mask [B, L] over tokens in ``frames`` equal stretches; None where everything is free.

        Waits for the device once, so it is called once a run.
        """
        if bool((mask == 1).all()):
            return None
        per_frame = mask.unflatten(1, (frames, -1))
        constant = bool((per_frame == per_frame[..., :1]).all())
        values, index = torch.unique(per_frame[..., 0] if constant else mask, return_inverse=True)
        return cls(values.float(), index)

    def followed_by(self, stretches: int) -> TimestepShares:
        """These shares, and after them ``stretches`` more that have the whole timestep."""
        values = torch.cat((self.values, self.values.new_ones(1)))
        return TimestepShares(values, torch.nn.functional.pad(self.index, (0, stretches), value=len(self.values)))

    def of_stretches(self, wanted: list[int], total: int) -> TimestepShares:
        """The shares of a part: those of ``wanted`` out of ``total`` latent frames or audio steps."""
        return TimestepShares(self.values, taken(self.index.unflatten(1, (total, -1)), wanted, 1).flatten(1))
