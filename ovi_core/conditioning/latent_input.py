"""The LATENT that a node of this package is given, checked once."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..errors import OviError
from ..latents import denoise_mask, joint
from ..latents.source_media import check_without_lead

INPUT = "latent"
LONGEST = 600  # s, of a LATENT that a node makes as long as what it is given


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


def check_length(input: str, seconds: float) -> None:
    """Raise OviError where a LATENT as long as a given clip or audio would be longer than 10 minutes."""
    if seconds > LONGEST:
        raise OviError(
            input=input,
            found=f"{seconds:.0f} s, with length set to all of it",
            accepted=f"{LONGEST} s at most",
            remedy="Cut it, or set length to the latent's.",
        )


def _check_rest(latent: dict, lead: bool) -> None:
    denoise_mask.check_mask(latent.get("noise_mask"), INPUT)
    if not lead:
        check_without_lead(latent)
