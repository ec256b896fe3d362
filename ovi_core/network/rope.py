"""Rotary position tables of the two towers, computed in float64 and stored in float32.

A table has shape [1, L, 1, head_dim / 2, 2, 2]: one 2x2 rotation for each token and pair of head dimensions, the
layout of ComfyUI's ``apply_rope1``.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from ..spec import AUDIO_PER_LATENT_FRAME

AUDIO_START = "ovi_audio_start"
"""Transformer option: how many audio frames after the first image the audio begins; 0 without it."""
AUDIO_STARTS = "ovi_audio_starts"
"""Transformer option: all that :data:`AUDIO_START` is in the steps of a run; their tables are made together."""
THETA = 10000.0
AUDIO_TIME_SCALE = 0.19676
"""Audio steps in units of video latent frames: 157 steps and 31 frames span the same 5 s (reference configuration)."""


def axis_dims(head_dim: int) -> tuple[int, int, int]:
    """Head dimensions that turn with time, height and width: 44, 42, 42 of 128, as in Wan."""
    spatial = 2 * (head_dim // 6)
    return head_dim - 2 * spatial, spatial, spatial


def _angles(positions: Tensor, dim: int) -> Tensor:
    """Angles [L, dim / 2] in radians, float64, of ``positions`` [L]."""
    frequencies = THETA ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    return torch.outer(positions.double(), frequencies)


def _rotations(angles: Tensor, device: torch.device) -> Tensor:
    """Angles [L, P] to rotation matrices [1, L, 1, P, 2, 2], float32 on ``device``."""
    cos, sin = angles.cos(), angles.sin()
    table = torch.stack((cos, -sin, sin, cos), dim=-1)
    return rearrange(table, "l p (i j) -> 1 l 1 p i j", i=2, j=2).to(device=device, dtype=torch.float32)


def video_table(
    frames: int, height: int, width: int, head_dim: int, device: torch.device, after: tuple[float, ...] = ()
) -> Tensor:
    """Table of a video of ``frames`` latent frames of ``height`` x ``width`` tokens; tokens run frame, row, column.

    after: times, in latent frames, of single frames that follow the video.
    """
    times = torch.tensor([*range(frames), *after], dtype=torch.float64)
    grid = torch.meshgrid(times, *(torch.arange(side, dtype=torch.float64) for side in (height, width)), indexing="ij")
    axes = zip(grid, axis_dims(head_dim), strict=True)
    return _rotations(torch.cat([_angles(axis.flatten(), dim) for axis, dim in axes], dim=-1), device)


def audio_table(
    steps: int,
    head_dim: int,
    device: torch.device,
    start: float = 0.0,
    after: tuple[float, ...] = (),
    scale: float = AUDIO_TIME_SCALE,
) -> Tensor:
    """Table of ``steps`` audio latent steps: the time dimensions turn, the others pass through (angle 0).

    start: how many audio frames after the first latent frame the audio begins.
    after: positions, in audio steps, of further ones that follow.
    scale: audio steps in units of latent frames.
    """
    time_dim = axis_dims(head_dim)[0]
    turning = _angles(torch.cat((torch.arange(steps) + start, torch.tensor(after))) * scale, time_dim)
    still = turning.new_zeros(len(turning), (head_dim - time_dim) // 2)
    return _rotations(torch.cat((turning, still), dim=-1), device)


def window_start(window: Any) -> float:
    """Audio frames, in real time, from the first latent frame of one of ComfyUI's context windows to its audio.

    A window may begin with a latent frame from before it, which is dropped afterwards and has no audio.
    """
    if not window.modality_windows:
        return 0.0
    anchor = getattr(window, "causal_anchor_index", None)
    first = window.index_list[0] if anchor is None else anchor
    return window.modality_windows[1].index_list[0] - float(first * AUDIO_PER_LATENT_FRAME)
