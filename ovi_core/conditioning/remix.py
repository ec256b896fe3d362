"""A clip changed in part: each tower goes back to a noise level of its own.

Both towers share one schedule. The one that is to change less is held, following the noise, until the run reaches its
noise level, and is free from there on. The mask's values say so (:mod:`..latents.denoise_mask`), and ComfyUI's own hook
for masks that change during a run does it, so it works with every sampler.
"""

from __future__ import annotations

from torch import Tensor

from ..errors import OviError
from ..latents import denoise_mask, joint
from .latent_input import parts_of


def remix(latent: dict, video_denoise: float, audio_denoise: float) -> dict:
    """A copy of a LATENT whose parts are held until the last shares of the run given here.

    Args:
        video_denoise, audio_denoise: 0 leaves a part as it is, bit for bit; 1 regenerates it. Where the LATENT's noise
            mask is not 1, it stays.

    Raises:
        OviError: a share outside 0 to 1, or a part that is to be changed a little and is empty.
    """
    video, audio = parts_of(latent, lead=True)
    masks: list[Tensor | None] = []
    for name, part, share in (("video", video, video_denoise), ("audio", audio, audio_denoise)):
        if not 0 <= share <= 1:
            raise OviError(
                input=f"{name}_denoise",
                found=f"{share:g}",
                accepted="a share of the run from 0 to 1",
                remedy="Set 0 to leave that part unchanged and 1 to regenerate it.",
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
        masks.append(denoise_mask.with_free_as(mask, denoise_mask.held_until(share)))
    return denoise_mask.with_parts(latent, None if video is None else joint.free_video(video), audio, *masks)
