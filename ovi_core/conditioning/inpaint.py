"""Spans of seconds, in either tower, that are regenerated or stay."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from ..errors import OviError
from ..latents import denoise_mask, joint, layout
from ..latents.source_media import AUDIO, VIDEO, with_lock
from ..media.images import checked_mask
from ..spec import FPS, FRAMES_PER_LATENT, SPATIAL, audio_seconds, frames_of
from .latent_input import parts_of

ACTIONS = ("redo", "keep")
Span = tuple[float, float]  # seconds

NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
SPAN = re.compile(rf"{NUMBER}\s*[-–]\s*(?:{NUMBER}|end)", re.IGNORECASE)
LONGEST_SPAN = 60  # characters
MOST_SPANS = 500
ROUNDING = 1e-6  # s: a span that ends where a latent frame begins leaves that one alone
SHAPE_TOLERANCE = 0.05  # relative, of a mask's shape against the clip's


def with_spans(
    latent: dict,
    action: str,
    video_spans: str,
    audio_spans: str,
    mask: Any,
    masked_as: denoise_mask.Intent,
    combine: bool,
) -> tuple[dict, list[str]]:
    """A LATENT of an existing clip whose noise mask lets the sampler regenerate some spans.

    Whole latent frames that a span touches belong to it: up to 4 frames of the video, 32 ms of audio.

    Args:
        action: ``redo`` regenerates the spans and masks the rest, ``keep`` the reverse.
        video_spans, audio_spans: as in ``"1.2-2.0, 3.5-end"``, seconds; nothing for no span.
        mask: ComfyUI's MASK [1 or F, H, W] of the clip's shape, or None: 1 where in the image ``action`` applies. With
            it alone the span is all of the video. Cells of 16 px that it touches belong to it.
        masked_as: what the run does with what stays: ``CLEAN`` or ``FOLLOWING`` of :mod:`..latents.denoise_mask`.
        combine: what the LATENT's mask excludes from sampling already stays so.

    Returns:
        The LATENT, and notes for the user.

    Raises:
        OviError: spans or a mask that do not fit the clip, or nothing to regenerate.
    """
    video, audio = parts_of(latent)
    if not (video_spans.strip() or audio_spans.strip() or mask is not None):
        raise OviError(
            input="video_spans and audio_spans",
            found="no span",
            accepted="seconds such as 1.2-2.0 in one of them, or a mask",
            remedy=f"Type what to {action}.",
        )
    if video is None and (video_spans.strip() or mask is not None):
        raise _absent("video_spans" if video_spans.strip() else "mask", "audio", "audio_spans")
    if audio is None and audio_spans.strip():
        raise _absent("audio_spans", "video", "video_spans")
    masks: list[Tensor | None] = [None, None]
    if video is not None:
        region = _video_region(video, video_spans, mask)
        masks[0] = _masked(region, action, masked_as, denoise_mask.video_mask(latent), combine)
    if audio is not None:
        region = _region(audio_spans, "audio_spans", layout.length(audio), _audio_seconds).to(audio)
        masks[1] = _masked(region, action, masked_as, denoise_mask.audio_mask(latent), combine)
    if all(part is None or bool(denoise_mask.is_masked(part).all()) for part in masks):
        raise OviError(
            input="latent",
            found="a latent whose mask already excludes what is to be regenerated",
            accepted="a span that may be regenerated",
            remedy="Switch combine off to drop that mask, for example after another span of the same clip was redone.",
        )
    for key, part in ((VIDEO, masks[0]), (AUDIO, masks[1])):
        if part is not None and not bool(denoise_mask.is_masked(part).all()):
            latent = with_lock(latent, key, locked=False)
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
    """Spans of a clip of ``seconds`` from a text such as ``"1.2-2.0, 3.5-end"``, in linear time.

    Raises:
        OviError: what is no span, one that ends before it begins, one past the clip's end, or more than 500.
    """
    parts = [part.strip() for part in re.split(r"[,;\n]", text)]
    parts = [part for part in parts if part]
    if len(parts) > MOST_SPANS:
        raise OviError(
            input=input,
            found=f"{len(parts)} spans",
            accepted=f"{MOST_SPANS} spans at most",
            remedy="Join spans that touch.",
        )
    return [_parsed_span(part, input, seconds) for part in parts]


def _parsed_span(part: str, input: str, seconds: float) -> Span:
    match = SPAN.fullmatch(part) if len(part) <= LONGEST_SPAN else None
    if match is None:
        raise OviError(
            input=input,
            found=f"'{part}'" if len(part) <= LONGEST_SPAN else f"'{part[:LONGEST_SPAN]}…', {len(part)} characters",
            accepted="seconds as in 1.2-2.0, 3.5-end",
            remedy="Write start, a hyphen and end, with commas between spans.",
        )
    start, end = float(match[1]), seconds if match[2] is None else float(match[2])
    if start >= end or start >= seconds or end > seconds + 1 / FPS:
        raise OviError(
            input=input,
            found=f"'{part}' in a clip of {seconds:.2f} s",
            accepted=f"a start before its end, both from 0 to {seconds:.2f}",
            remedy="Correct the span; 'end' stands for the clip's end.",
        )
    return start, end


def _audio_seconds(index: int) -> Span:
    return audio_seconds(index), audio_seconds(index + 1)


def _video_seconds(index: int) -> Span:
    first, end = frames_of(index)
    return first / FPS, end / FPS


def _region(text: str, input: str, count: int, seconds_of: Callable[[int], Span]) -> Tensor:
    """[count] bool: the latent or audio frames that the spans of ``text`` touch."""
    spans = parse_spans(text, input, seconds_of(count - 1)[1])
    starts, ends = torch.tensor(spans, dtype=torch.float64).reshape(-1, 2).unbind(dim=1)
    first, last = (
        torch.tensor([seconds_of(index) for index in range(count)], dtype=torch.float64).unsqueeze(2).unbind(1)
    )
    return ((first < ends - ROUNDING) & (last > starts + ROUNDING)).any(dim=1)


def _video_region(video: Tensor, spans: str, mask: Any) -> Tensor:
    """[1, 1, T, h or 1, w or 1] in 0..1: where in the video [B, 48, T, h, w] the action applies."""
    latent_frames, height, width = video.shape[2:]
    in_time = _region(spans, "video_spans", latent_frames, _video_seconds).to(video).reshape(1, 1, -1, 1, 1)
    if mask is None:
        return in_time
    cells = _cells(mask, latent_frames, height, width).to(video)
    return (in_time if spans.strip() else torch.ones_like(in_time)) * cells


def _cells(mask: Any, latent_frames: int, height: int, width: int) -> Tensor:
    """A MASK at the latent's size, [1, 1, 1 or T, h, w]: a cell takes the highest value of its pixels."""
    frames = frames_of(latent_frames - 1)[1]
    mask = checked_mask(mask, "mask")
    fits = mask.shape[0] in (1, frames)
    if not fits or not math.isclose(mask.shape[2] / mask.shape[1], width / height, rel_tol=SHAPE_TOLERANCE):
        raise OviError(
            input="mask",
            found=f"a mask of shape {list(mask.shape)}",
            accepted=f"1 or {frames} frames of the clip's shape, as [1, {height * SPATIAL}, {width * SPATIAL}]",
            remedy="Draw it on a frame of this clip, as Ovi AV Decode gives it, or crop it to the clip's shape.",
        )
    cells = adaptive_max_pool2d(mask, (height, width))
    if mask.shape[0] > 1:
        later = cells[1:].unflatten(0, (-1, FRAMES_PER_LATENT)).amax(dim=1)
        cells = torch.cat((cells[:1], later))
    return cells[None, None]


def _masked(region: Tensor, action: str, masked_as: denoise_mask.Intent, old: Tensor, combine: bool) -> Tensor:
    """The noise mask [B, 1, ...] of one part: ``old`` without what ``action`` excludes from sampling."""
    free = region if action == "redo" else 1 - region
    new = denoise_mask.of_region(free, masked_as).expand_as(old)
    return denoise_mask.both(old, new) if combine else new


def _notes(masks: list[Tensor | None]) -> list[str]:
    """What is regenerated, in seconds."""
    of_parts = []
    for name, mask, seconds_of in zip(("video", "sound"), masks, (_video_seconds, _audio_seconds), strict=True):
        if mask is None:
            continue
        free = (~denoise_mask.is_masked(mask)).transpose(0, 2).flatten(1).any(dim=1).tolist()
        spans: list[Span] = []
        for start, end in (seconds_of(index) for index, is_free in enumerate(free) if is_free):
            spans = [*spans[:-1], (spans[-1][0], end)] if spans and spans[-1][1] >= start else [*spans, (start, end)]
        of_parts.append(f"{name} " + (", ".join(f"{a:.2f}-{b:.2f} s" for a, b in spans) or "none"))
    return ["Regenerated: " + "; ".join(of_parts) + ". The rest stays as it is."]
