"""The LATENT that a node of this package is given, checked once."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..latents import denoise_mask, joint
from ..latents.source_media import check_without_lead

INPUT = "latent"


def parts_of(latent: Any, *, lead: bool = False) -> tuple[Tensor | None, Tensor | None]:
    """Video [B, 48, T, H, W] and audio [B, 20, L] of a LATENT, None for the one that it lacks.

    Args:
        lead: whether a voice may stand before the clip; times of such a LATENT are not the clip's.

    Raises:
        OviError: no LATENT of Ovi's, a mask that does not fit it, or a voice before the clip.
    """
    parts = joint.parts(joint.samples_of(latent, INPUT), INPUT)
    _check_rest(latent, lead)
    return parts


def towers_of(latent: Any, *, lead: bool = False) -> tuple[Tensor, Tensor]:
    """As :func:`parts_of`, for what needs both parts: raises OviError where one is lacking."""
    towers = joint.split(joint.samples_of(latent, INPUT), INPUT)
    _check_rest(latent, lead)
    return towers


def _check_rest(latent: dict, lead: bool) -> None:
    denoise_mask.check_mask(latent.get("noise_mask"), INPUT)
    if not lead:
        check_without_lead(latent)
