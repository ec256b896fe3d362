"""A clip made anew in part: each tower goes back to a noise level of its own.

Both towers share one schedule. The one that is to change less is kept, following the noise, until the run comes to its
level, and is free from there on. That is told by the mask's values, as all keeping is (``latents``), and done by the
host's own hook for masks that change on the way, so it works with every sampler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import OviError
from ..latents import joint
from ..latents.joint import FOLLOW, HELD
from ..sampling.schedules import ROUNDING


def remixed(latent: dict, video_denoise: float, audio_denoise: float) -> dict:
    """A copy of a LATENT whose parts are held until the last shares of the run given here.

    Args:
        video_denoise, audio_denoise: 0 keeps a part as it is, bit for bit; 1 makes it anew. What the LATENT's noise
            mask keeps anyway, or frees in part, stays so.

    Raises:
        OviError: a share outside 0 to 1, or a part that is to be changed a little and is empty.
    """
    video, audio = joint.parts(latent["samples"], "latent")
    masks: list[Tensor | None] = []
    for name, part, share in (("video", video, video_denoise), ("audio", audio, audio_denoise)):
        if not 0 <= share <= 1:
            raise OviError(
                input=f"{name}_denoise",
                found=f"{share:g}",
                accepted="a share of the run from 0 to 1",
                remedy="Set 0 to keep that part and 1 to make it anew.",
            )
        if part is None:
            masks.append(None)
            continue
        if share < 1 and not part.any():
            raise OviError(
                input="latent",
                found=f"a latent with an empty {name} part and {name}_denoise {share:g}",
                accepted="an encoded or sampled clip where a denoise is below 1",
                remedy=f"Encode a clip into the latent, or set {name}_denoise to 1.",
            )
        mask = (joint.video_mask if name == "video" else joint.audio_mask)(latent)
        value = FOLLOW if share == 0 else 1.0 if share == 1 else HELD * (1 + share)
        masks.append(torch.where(mask == 1, value, mask))
    return joint.with_parts(latent, None if video is None else joint.free_video(video), audio, *masks)


def freeing(mask: Tensor, model_sampling: Any, other: Callable[..., Tensor] | None) -> Callable[..., Tensor] | None:
    """The host's ``denoise_mask_function`` for a mask of which something is held until later in the run, else None.

    Args:
        mask: as the host fits it to the latent, [B, 1, N] or [B, C, T, H, W].
        other: another node's function, called with what this one gives.
    """
    held = joint.is_held(mask)
    if not held.any():
        return None
    level = torch.zeros_like(mask)
    for value in mask[held].unique().tolist():
        level[mask == value] = ROUNDING * model_sampling.percent_to_sigma(2 - value / HELD)

    def free(sigma: Tensor, mask: Tensor, extra_options: dict) -> Tensor:
        now = sigma.reshape(-1, *[1] * (mask.ndim - 1))
        mask = torch.where(held, torch.where(now > level, FOLLOW, 1.0), mask)
        return mask if other is None else other(sigma, mask, extra_options=extra_options)

    return free
