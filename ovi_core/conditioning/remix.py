"""A clip made anew in part: each tower goes back to a noise level of its own.

Both towers share one schedule. The one that is to change less is kept, following the noise, until the run comes to its
level, and is free from there on. That is told by the mask's values, as all keeping is (``latents``), and done by the
host's own hook for masks that change on the way, so it works with every sampler.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import OviError
from ..latents import denoise_mask, joint
from ..latents.denoise_mask import FOLLOW, HELD


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
        mask = (denoise_mask.video_mask if name == "video" else denoise_mask.audio_mask)(latent)
        value = FOLLOW if share == 0 else 1.0 if share == 1 else HELD * (1 + share)
        masks.append(torch.where(mask == 1, value, mask))
    return denoise_mask.with_parts(latent, None if video is None else joint.free_video(video), audio, *masks)
