"""Spans of seconds, in either tower, that are kept or made anew."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from ..errors import OviError
from ..latents import denoise_mask, joint
from ..latents.source_media import check_without_lead
from ..spec import FPS, FRAMES_PER_LATENT, SAMPLE_RATE, SAMPLES_PER_LATENT, SPATIAL, frames_of

ACTIONS = ("redo", "keep")
Span = tuple[float, float]  # seconds

SPAN = re.compile(r"(\d+\.?\d*|\.\d+)\s*[-–]\s*(\d+\.?\d*|\.\d+|end)", re.IGNORECASE)
ROUNDING = 1e-6  # s: a span that ends where a step begins leaves that step alone
SHAPE_TOLERANCE = 0.05  # relative, of a mask's shape against the clip's


def mark(
    latent: dict, action: str, video_spans: str, audio_spans: str, mask: Any, kept_as: float, combine: bool
) -> tuple[dict, list[str]]:
    """A LATENT of an existing clip, parts of which are made anew and the rest kept.

    Whole latent steps that a span touches belong to it: up to 4 frames of the video, 32 ms of sound.

    Args:
        action: ``redo`` makes the spans anew and keeps the rest, ``keep`` the reverse.
        video_spans, audio_spans: as in ``"1.2-2.0, 3.5-end"``, seconds; nothing for no span.
        mask: ComfyUI's MASK [1 or F, H, W] in 0..1 of the clip's shape, or None: 1 where in the picture ``action``
            applies. With it alone the span is all of the video. Cells of 16 px that it touches belong to it.
        kept_as: noise mask value of what is kept, 0 or ``latents.FOLLOW``.
        combine: what the LATENT's mask keeps already is kept as it was.

    Returns:
        The LATENT, and notes for the artist.

    Raises:
        OviError: spans or a mask that do not fit the clip, or nothing to be made.
    """
    video, audio = joint.parts(latent["samples"], "latent")
    denoise_mask.check_mask(latent.get("noise_mask"), "latent")
    check_without_lead(latent)
    if not (video_spans.strip() or audio_spans.strip() or mask is not None):
        raise OviError(
            input="video_spans and audio_spans",
            found="no span",
            accepted="seconds such as 1.2-2.0 in one of them, or a mask",
            remedy=f"Type what to {action}.",
        )
    if video is None and (video_spans.strip() or mask is not None):
        raise _absent("video_spans" if video_spans.strip() else "mask", "sound", "audio_spans")
    if audio is None and audio_spans.strip():
        raise _absent("audio_spans", "video", "video_spans")
    masks: list[Tensor | None] = [None, None]
    if video is not None:
        region = _video_region(video, video_spans, mask)
        masks[0] = _masked(region, action, kept_as, denoise_mask.video_mask(latent), combine)
    if audio is not None:
        region = _region(audio_spans, "audio_spans", audio.shape[-1], _audio_seconds).to(audio)
        masks[1] = _masked(region, action, kept_as, denoise_mask.audio_mask(latent), combine)
    if all(part is None or bool(denoise_mask.is_kept(part).all()) for part in masks):
        raise OviError(
            input="latent",
            found="a latent whose mask keeps already what is to be made",
            accepted="a span that may be made anew",
            remedy="Switch combine off to forget that mask, as when another span of the same clip was made before.",
        )
    filled = None if video is None else joint.free_video(video)
    return denoise_mask.with_parts(latent, filled, audio, *masks), _notes(masks)


def _absent(input: str, is_there: str, other: str) -> OviError:
    return OviError(
        input=input,
        found=f"a span in a latent of {is_there} alone",
        accepted="spans of what the latent holds",
        remedy=f"Leave it empty, and use {other}.",
    )


def parse_spans(text: str, input: str, seconds: float) -> list[Span]:
    """Spans of a clip of ``seconds`` from a text such as ``"1.2-2.0, 3.5-end"``.

    Raises:
        OviError: what is no span, one that ends before it begins, or one past the clip's end.
    """
    spans = []
    for part in filter(None, (part.strip() for part in re.split(r"[,;\n]", text))):
        match = SPAN.fullmatch(part)
        if match is None:
            raise OviError(
                input=input,
                found=f"'{part}'",
                accepted="seconds as in 1.2-2.0, 3.5-end",
                remedy="Write start, a hyphen and end, with commas between spans.",
            )
        start = float(match[1])
        end = seconds if match[2].lower() == "end" else float(match[2])
        if start >= end or start >= seconds or end > seconds + 1 / FPS:
            raise OviError(
                input=input,
                found=f"'{part}' in a clip of {seconds:.2f} s",
                accepted=f"a start before its end, both from 0 to {seconds:.2f}",
                remedy="Correct the span; 'end' stands for the clip's end.",
            )
        spans.append((start, end))
    return spans


def _audio_seconds(step: int) -> Span:
    return step * SAMPLES_PER_LATENT / SAMPLE_RATE, (step + 1) * SAMPLES_PER_LATENT / SAMPLE_RATE


def _video_seconds(step: int) -> Span:
    first, end = frames_of(step)
    return first / FPS, end / FPS


def _region(text: str, input: str, steps: int, seconds_of: Callable[[int], Span]) -> Tensor:
    """[steps] bool: the latent steps that the spans of ``text`` touch."""
    spans = parse_spans(text, input, seconds_of(steps - 1)[1])
    touched = [
        any(first < end - ROUNDING and last > start + ROUNDING for start, end in spans)
        for first, last in map(seconds_of, range(steps))
    ]
    return torch.tensor(touched)


def _video_region(video: Tensor, spans: str, mask: Any) -> Tensor:
    """[1, 1, T, h or 1, w or 1] in 0..1: where in the video [B, 48, T, h, w] the action applies."""
    steps, height, width = video.shape[2:]
    in_time = _region(spans, "video_spans", steps, _video_seconds).to(video).reshape(1, 1, -1, 1, 1)
    if mask is None:
        return in_time
    return (in_time if spans.strip() else torch.ones_like(in_time)) * _cells(mask, steps, height, width).to(video)


def _cells(mask: Any, steps: int, height: int, width: int) -> Tensor:
    """A MASK at the latent's size, [1, 1, 1 or T, h, w]: of the pixels a cell stands for the whitest."""
    frames = frames_of(steps - 1)[1]
    shape = list(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
    fits = isinstance(mask, Tensor) and mask.ndim == 3 and mask.shape[0] in (1, frames) and 0 not in mask.shape
    if fits:
        fits = math.isclose(mask.shape[2] / mask.shape[1], width / height, rel_tol=SHAPE_TOLERANCE)
    if not fits:
        raise OviError(
            input="mask",
            found=f"a mask of shape {shape}",
            accepted=f"1 or {frames} frames of the clip's shape, as [1, {height * SPATIAL}, {width * SPATIAL}]",
            remedy="Draw it on a frame of this clip, as Ovi AV Decode gives it, or crop it to the clip's shape.",
        )
    cells = adaptive_max_pool2d(mask.float().clamp(0, 1), (height, width))
    if mask.shape[0] > 1:
        later = cells[1:].unflatten(0, (-1, FRAMES_PER_LATENT)).amax(dim=1)
        cells = torch.cat((cells[:1], later))
    return cells[None, None]


def _masked(region: Tensor, action: str, kept_as: float, old: Tensor, combine: bool) -> Tensor:
    """The noise mask [B, 1, ...] of one part: ``old`` with what ``action`` keeps."""
    free = region if action == "redo" else 1 - region
    new = torch.where(free > 0, free, kept_as).expand_as(old)
    return torch.where(denoise_mask.is_kept(old), old, torch.minimum(old, new)) if combine else new


def _notes(masks: list[Tensor | None]) -> list[str]:
    """What is made anew, in seconds."""
    told = []
    for name, mask, seconds_of in zip(("video", "sound"), masks, (_video_seconds, _audio_seconds), strict=True):
        if mask is None:
            continue
        free = (~denoise_mask.is_kept(mask)).transpose(0, 2).flatten(1).any(dim=1).tolist()
        spans: list[Span] = []
        for start, end in (seconds_of(step) for step, made in enumerate(free) if made):
            spans = [*spans[:-1], (spans[-1][0], end)] if spans and spans[-1][1] >= start else [*spans, (start, end)]
        told.append(f"{name} " + (", ".join(f"{a:.2f}-{b:.2f} s" for a, b in spans) or "none"))
    return ["Made anew: " + "; ".join(told) + ". The rest is kept."]
