"""Clips to train on: from ComfyUI's lists of LATENT and CONDITIONING to what the model reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import OviError
from ..latents import joint
from ..model.base_model import Ovi


class Sample(NamedTuple):
    """One clip: latents [B, 48, T, H, W] and [B, 20, L] as the model has them, each tower's text [B, 512, text_dim]."""

    video: Tensor
    audio: Tensor
    video_text: Tensor
    audio_text: Tensor


def samples_of(model: Ovi, latents: Sequence[dict], positive: Sequence[list]) -> list[Sample]:
    """Every clip of ``latents`` with its caption, each with a batch of 1, on the CPU.

    Args:
        latents: LATENTs, of one clip or several; of any number of sizes.
        positive: CONDITIONINGs, with a caption for each clip in all, or one for all clips.

    Raises:
        OviError: what are not joint latents, empty ones, another number of captions, or text of another encoder.
    """
    clips = [clip for latent in latents for clip in _clips_of(model, latent)]
    captions = [caption for conditioning in positive for caption in conditioning]
    if len(captions) not in (1, len(clips)):
        raise OviError(
            input="positive",
            found=f"{len(captions)} captions for {len(clips)} clip(s)",
            accepted="a caption for each clip, or one for all",
            remedy="Connect both outputs of Load Ovi Dataset, or encode as many captions as there are clips.",
        )
    texts = [_texts_of(model, caption, clips[0]) for caption in captions] * (len(clips) // len(captions))
    return [Sample(*clip, *text) for clip, text in zip(clips, texts, strict=True)]


def _clips_of(model: Ovi, latent: dict) -> list[tuple[Tensor, Tensor]]:
    parts = [
        part.to("cpu", torch.float32, copy=True) for part in joint.split(joint.samples_of(latent, "latents"), "latents")
    ]
    if not parts[0].any() or not all(part.isfinite().all() for part in parts):
        raise OviError(
            input="latents",
            found="an empty latent" if not parts[0].any() else "a latent with values that are not numbers",
            accepted="clips encoded by the Wan 2.2 VAE and the VAE of Load Ovi Audio VAE",
            remedy="Connect Load Ovi Dataset, which encodes a folder of clips.",
        )
    video, audio = model.process_latent_in(joint.join(*parts)).unbind()
    return list(zip(video.split(1), audio.split(1), strict=True))


def _texts_of(model: Ovi, caption: Any, clip: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    text, options = caption
    shapes = [list(part.shape) for part in clip]
    conds = model.extra_conds(
        **options, cross_attn=text, prompt_type="positive", noise=clip[0], device=clip[0].device, latent_shapes=shapes
    )
    video, audio = (conds[name].cond.to("cpu", copy=True) for name in ("c_crossattn", "audio_context"))
    return video, audio


def together(samples: Sequence[Sample]) -> Sample:
    """Samples of one size as one batch."""
    return Sample(*(torch.cat(parts) for parts in zip(*samples, strict=True)))


def by_size(samples: Sequence[Sample]) -> list[list[Sample]]:
    """The samples in groups whose latents have one shape, in the order they first occur in."""
    groups: dict[tuple, list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.video.shape, sample.audio.shape), []).append(sample)
    return list(groups.values())
