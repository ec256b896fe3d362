"""Clips longer than the model was trained on: overlapping windows of both towers, in ComfyUI's context windows.

Each step of a run shows the model one window after the other, each of the length and the geometry it was trained on: T
latent steps of the video, and the L steps of the sound that begin with the first of them. Their predictions go over
into one another within the overlap, so the latent has no seams, and neither has what is decoded from it as a whole.
"""

from __future__ import annotations

import math
from typing import Any

import comfy.context_windows as host
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..errors import OviError
from ..spec import AUDIO_PER_LATENT_FRAME, FPS, FRAMES_PER_LATENT, audio_frames_for
from ..stable_names import stable_name

TIME = 2  # dimension of both parts of a latent
OUT_OF_STEP = 16  # audio latent steps, 0.5 s, by which sound may be shorter or longer than its pictures


def with_windows(patcher: Any, latent_frames: int, overlap_seconds: float, repeat_first_frame: bool) -> Any:
    """A copy of a MODEL that samples what is longer than ``latent_frames`` in overlapping windows of that length.

    Args:
        patcher: an Ovi MODEL.
        latent_frames: T of a window, the variant's trained length.
        overlap_seconds: what two windows share at least; taken as the nearest number of latent steps, 1 or more.
        repeat_first_frame: show every window the clip's first frame in place of the one before it.

    Raises:
        OviError: an overlap of more than half a window.
    """
    overlap = max(1, round(overlap_seconds * FPS / FRAMES_PER_LATENT))
    if overlap > latent_frames // 2:
        raise OviError(
            input="overlap_seconds",
            found=f"{overlap_seconds:g} s",
            accepted=f"at most half a window, {latent_frames // 2 * FRAMES_PER_LATENT / FPS:.1f} s",
            remedy="Set it to 1.",
        )
    patcher = patcher.clone()
    handler = Windows(latent_frames, overlap, repeat_first_frame)
    patcher.model_options["context_handler"] = handler
    patcher.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "ovi_windows", handler.prepare_sampling)
    return patcher


def starts(total: int, length: int, overlap: int) -> list[int]:
    """First steps of the windows of ``length`` that cover ``total`` steps evenly and share ``overlap`` or more."""
    if total <= length:
        return [0]
    count = 1 + math.ceil((total - length) / (length - overlap))
    return [round(i * (total - length) / (count - 1)) for i in range(count)]


@stable_name("windows.Windows")
class Windows(host.IndexListContextHandler):
    """ComfyUI's handler with windows of both towers as training saw them.

    A window's first video step stood for a single frame in training, and does so at the beginning of a clip only.
    Elsewhere it is shown, or the clip's first frame in its place, and what the model says to it is dropped (ComfyUI's
    "causal anchor").
    """

    def __init__(self, length: int, overlap: int, repeat_first_frame: bool):
        super().__init__(
            host.ContextSchedule("ovi", _frames_of_windows),
            host.ContextFuseMethod("ovi", _crossfade),
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

    def _build_window_state(self, *args: Any) -> host.WindowingState:
        return _InStep(**vars(super()._build_window_state(*args)))

    def should_use_context(self, model: Any, conds: Any, x_in: Tensor, timestep: Any, model_options: dict) -> bool:
        """Whether the latent is longer than a window.

        Raises:
            OviError: it is, and its sound and pictures do not last equally long; or EasyCache is on.
        """
        longer = super().should_use_context(model, conds, x_in, timestep, model_options)
        if longer:
            _check_cache(model_options)
        if longer and len(model.latent_shapes) > 1:
            video, audio = model.latent_shapes
            _check_in_step(video[TIME], audio[TIME])
        return longer

    @stable_name("windows.Windows.prepare_sampling")
    def prepare_sampling(self, executor: Any, patcher: Any, noise_shape: Any, *args: Any, **more: Any) -> Any:
        """Around ComfyUI's estimate of memory: a run takes that of one window (``noise_shape`` is of the pack)."""
        shapes = [list(shape) for shape in patcher.model.latent_shapes]
        longest = max(shapes[0][TIME], self.context_length)
        packed = sum(math.prod(shape[1:]) for shape in shapes) * self.context_length // longest
        return executor(patcher, [noise_shape[0], 1, packed], *args, **more)


class _InStep(host.WindowingState):
    """Windows whose sound begins with their pictures, in real time, and is as long as training had it."""

    def prepare_window(self, window: Any, model: Any) -> Any:
        frames, total = window.index_list, window.total_frames
        sounds = None
        if self.is_multimodal:
            sounds = {1: _sound_of(frames, total, self.latents[1].shape[TIME], window.context_overlap)}
        # the anchor is no part of what overlaps
        return _Window(frames, TIME, total, modality_windows=sounds, context_overlap=window.context_overlap - 1)


class _Window(host.IndexListContextWindow):
    def get_tensor(self, full: Tensor, device: Any = None, dim: int | None = None, **more: Any) -> Tensor:
        # ComfyUI takes the timesteps of a batch, [B], for one of its frames
        return full if dim == 0 else super().get_tensor(full, device, dim, **more)


def _sound_of(frames: list[int], total: int, steps: int, overlap: int) -> _Window:
    """Of ``steps`` of sound to ``total`` of pictures, those of the window that counts ``frames``."""
    first = max(0, frames[0] - 1)
    length = frames[-1] + 1 - first
    trained = audio_frames_for(length)
    begin = round(first * AUDIO_PER_LATENT_FRAME)
    end = steps if frames[-1] == total - 1 else min(steps, begin + trained)
    shared = trained - math.ceil((length - overlap) * AUDIO_PER_LATENT_FRAME)
    return _Window(list(range(begin, end)), TIME, steps, context_overlap=max(0, shared))


def _check_in_step(total: int, steps: int) -> None:
    filling = audio_frames_for(total)
    if abs(steps - filling) > OUT_OF_STEP:
        raise OviError(
            input="latent",
            found=f"{steps} latent steps of sound for {total} of pictures",
            accepted=f"about {filling}: in windows, sound and pictures must last equally long",
            remedy="Make the latent with Empty Ovi Latent, or let a lock node set its length.",
        )


def _check_cache(model_options: dict) -> None:
    """EasyCache keeps one result for each prompt, and would give every window that of the last one."""
    from comfy_extras.nodes_easycache import EasyCacheHolder

    if isinstance(model_options["transformer_options"].get("easycache"), EasyCacheHolder):
        raise OviError(
            input="model",
            found="EasyCache together with Ovi Context Windows",
            accepted="LazyCache, which goes by the whole clip",
            remedy="Put LazyCache in the place of EasyCache.",
        )


@stable_name("windows._frames_of_windows")
def _frames_of_windows(total: int, handler: Windows, model_options: dict) -> list[list[int]]:
    """Video steps of each window that count, in the form of ComfyUI's schedules; the anchor is not among them."""
    length = handler.context_length
    return [
        list(range(start + (start > 0), start + length)) for start in starts(total, length, handler.context_overlap)
    ]


@stable_name("windows._crossfade")
def _crossfade(length: int, full_length: int, idxs: list[int], context_overlap: int, **_: Any) -> list[float]:
    """Weights of a window's steps: they rise within the overlap and fall within it, but for the clip's own ends."""
    rise = torch.clamp(torch.arange(1, length + 1) / (context_overlap + 1), max=1)
    weights = torch.ones(length)
    if idxs[0] > 0:
        weights = weights * rise
    if idxs[-1] < full_length - 1:
        weights = weights * rise.flip(0)
    return weights.tolist()
