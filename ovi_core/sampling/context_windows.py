"""Clips longer than the model was trained on: overlapping windows of both towers, as ComfyUI's context windows.

Each step of a run shows the model one window after the other, each of the length and the geometry it was trained on: T
latent frames of the video, and the L audio frames that begin with the first of them. Their predictions are crossfaded
within the overlap, so the latent has no seams, and neither has what is decoded from it as a whole.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..errors import OviError
from ..spec import AUDIO_PER_LATENT_FRAME, FPS, FRAMES_PER_LATENT, audio_frames_for, latent_frames_lasting
from ..stable_names import stable_name
from .comfyui import (
    ContextFuseMethod,
    ContextSchedule,
    IndexListContextHandler,
    IndexListContextWindow,
    WindowingState,
    WrappersMP,
    check_context_windows,
    has_easy_cache,
)

TIME = 2  # dimension of both parts of a latent
MOST_DIFFERENCE = 16  # audio frames, 0.5 s, by which the audio may be shorter or longer than the video


def with_context_windows(patcher: Any, latent_frames: int, overlap_seconds: float, repeat_first_frame: bool) -> Any:
    """A copy of a MODEL that samples what is longer than ``latent_frames`` in overlapping windows of that length.

    Args:
        patcher: an Ovi MODEL.
        latent_frames: T of a window, the variant's trained length.
        overlap_seconds: what two windows share at least; taken as the nearest number of latent frames, 1 or more.
        repeat_first_frame: show every window the clip's first frame in place of the one before it.

    Raises:
        OviError: an overlap of more than half a window, or a ComfyUI with other context windows.
    """
    check_context_windows()
    overlap = max(1, latent_frames_lasting(overlap_seconds))
    if overlap > latent_frames // 2:
        raise OviError(
            input="overlap_seconds",
            found=f"{overlap_seconds:g} s",
            accepted=f"at most half a window, {latent_frames // 2 * FRAMES_PER_LATENT / FPS:.1f} s",
            remedy="Set it to 1.",
        )
    patcher = patcher.clone()
    handler = OviContextHandler(latent_frames, overlap, repeat_first_frame)
    patcher.model_options["context_handler"] = handler
    patcher.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "ovi_windows", handler.prepare_sampling)
    return patcher


def starts(total: int, length: int, overlap: int) -> list[int]:
    """First frames of the windows of ``length`` that cover ``total`` frames evenly and share ``overlap`` or more."""
    if total <= length:
        return [0]
    count = 1 + math.ceil((total - length) / (length - overlap))
    return [round(i * (total - length) / (count - 1)) for i in range(count)]


@stable_name("windows.Windows")
class OviContextHandler(IndexListContextHandler):
    """ComfyUI's handler with windows of both towers as training saw them.

    A window's first latent frame stood for a single image in training, and does so at the beginning of a clip only.
    Elsewhere it is shown, or the clip's first frame in its place, and its prediction is dropped (ComfyUI's "causal
    anchor").
    """

    def __init__(self, length: int, overlap: int, repeat_first_frame: bool):
        super().__init__(
            ContextSchedule("ovi", _frames_of_windows),
            ContextFuseMethod("ovi", _crossfade),
            context_length=length,
            context_overlap=overlap,
            dim=TIME,
            latent_retain_index_list="0" if repeat_first_frame else "",
            causal_window_fix=True,
        )

    def stable_values(self) -> dict[str, Any]:
        """What decides the result, for hashes of a MODEL; the rest are settings of ComfyUI's that stay as they are."""
        return {
            "_step": 0,
            "causal_window_fix": True,
            "closed_loop": False,
            "context_length": self.context_length,
            "context_overlap": self.context_overlap,
            "context_schedule": self.context_schedule,
            "context_stride": 1,
            "dim": TIME,
            "freenoise": False,
            "fuse_method": self.fuse_method,
            "latent_retain_index_list": self.latent_retain_index_list,
            "split_conds_to_windows": False,
        }

    def _build_window_state(self, *args: Any, **named: Any) -> WindowingState:
        return _InSync(**vars(super()._build_window_state(*args, **named)))

    def should_use_context(self, model: Any, conds: Any, x_in: Tensor, timestep: Any, model_options: dict) -> bool:
        """Whether the latent is longer than a window.

        Raises:
            OviError: it is, and its audio and video do not last equally long; or EasyCache is on.
        """
        longer = super().should_use_context(model, conds, x_in, timestep, model_options)
        if longer:
            _check_cache(model_options)
        shapes = model.sampling_run.latent_shapes
        if longer and len(shapes) > 1:
            _check_in_sync(shapes[0][TIME], shapes[1][TIME])
        return longer

    @stable_name("windows.Windows.prepare_sampling")
    def prepare_sampling(self, executor: Any, patcher: Any, noise_shape: Any, *args: Any, **more: Any) -> Any:
        """Around ComfyUI's estimate of memory: a run takes that of one window (``noise_shape`` is of the pack)."""
        shapes = [list(shape) for shape in patcher.model.sampling_run.latent_shapes]
        longest = max(shapes[0][TIME], self.context_length)
        packed = sum(math.prod(shape[1:]) for shape in shapes) * self.context_length // longest
        return executor(patcher, [noise_shape[0], 1, packed], *args, **more)


class _InSync(WindowingState):
    """Windows whose audio begins with their video, in real time, and is as long as training had it."""

    def prepare_window(self, window: Any, model: Any) -> Any:
        frames, total = window.index_list, window.total_frames
        audio = None
        if self.is_multimodal:
            audio = {1: _audio_window(frames, total, self.latents[1].shape[TIME], window.context_overlap)}
        # the anchor is no part of what overlaps
        return _Window(frames, TIME, total, modality_windows=audio, context_overlap=window.context_overlap - 1)


class _Window(IndexListContextWindow):
    def get_tensor(self, full: Tensor, device: Any = None, dim: int | None = None, **more: Any) -> Tensor:
        # ComfyUI takes the timesteps of a batch, [B], for one of its frames
        return full if dim == 0 else super().get_tensor(full, device, dim, **more)


def _audio_window(frames: list[int], total: int, audio_frames: int, overlap: int) -> _Window:
    """Of ``audio_frames`` beside ``total`` latent frames, those of the window whose ``frames`` count."""
    first = max(0, frames[0] - 1)
    length = frames[-1] + 1 - first
    trained = audio_frames_for(length)
    begin = round(first * AUDIO_PER_LATENT_FRAME)
    end = audio_frames if frames[-1] == total - 1 else min(audio_frames, begin + trained)
    shared = trained - math.ceil((length - overlap) * AUDIO_PER_LATENT_FRAME)
    return _Window(list(range(begin, end)), TIME, audio_frames, context_overlap=max(0, shared))


def _check_in_sync(latent_frames: int, audio_frames: int) -> None:
    equal = audio_frames_for(latent_frames)
    if abs(audio_frames - equal) > MOST_DIFFERENCE:
        raise OviError(
            input="latent",
            found=f"{audio_frames} audio frames for {latent_frames} latent frames",
            accepted=f"about {equal}: in context windows, audio and video must last equally long",
            remedy="Use Empty Ovi Latent, or let a lock node set the latent's length.",
        )


def _check_cache(model_options: dict) -> None:
    """EasyCache keeps one result for each prompt, and would give every window that of the last one."""
    if has_easy_cache(model_options["transformer_options"]):
        raise OviError(
            input="model",
            found="EasyCache together with Ovi Context Windows",
            accepted="LazyCache, which caches the whole clip",
            remedy="Replace EasyCache with LazyCache.",
        )


@stable_name("windows._frames_of_windows")
def _frames_of_windows(total: int, handler: OviContextHandler, model_options: dict) -> list[list[int]]:
    """Latent frames of each window that count, in the form of ComfyUI's schedules; without the anchor."""
    length = handler.context_length
    return [
        list(range(start + (start > 0), start + length)) for start in starts(total, length, handler.context_overlap)
    ]


@stable_name("windows._crossfade")
def _crossfade(length: int, full_length: int, idxs: list[int], context_overlap: int, **_: Any) -> list[float]:
    """Weights of a window's frames: they rise and fall within the overlaps, and are 1 at the clip's own ends."""
    rise = torch.clamp(torch.arange(1, length + 1) / (context_overlap + 1), max=1)
    weights = torch.ones(length)
    if idxs[0] > 0:
        weights = weights * rise
    if idxs[-1] < full_length - 1:
        weights = weights * rise.flip(0)
    return weights.tolist()
