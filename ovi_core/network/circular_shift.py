"""A clip as a circle: the layout of a looped clip in a joint latent, and its shift in every step.

A video latent of T frames stands for one image and then T - 1 times four, and a clip of that length ends with the
image it began with. So the circle has the last T - 1 latent frames, and the audio frames that last as long; the first
latent frame, and the last audio frames where there are more, repeat what the circle has there already.

Every step of the run shows the model the circle from another point on (as Mobius does, arXiv 2502.20307): the cut,
across which the model cannot attend, lies elsewhere each time, so no place is a seam. What the model sees is always a
clip as in training, with positions from 0 and a latent frame before its first four images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import OviError
from ..spec import AUDIO_PER_LATENT_FRAME, circular_audio_frames
from .rope import AUDIO_START, AUDIO_STARTS
from .run_cache import RunCache, SamplingRun, noise_level
from .stretches import stretches, taken

KEY = "ovi_loop"
"""Transformer option: the clip is a circle."""
GOLDEN = (math.sqrt(5) - 1) / 2  # multiples of it stay far apart for long


@dataclass(frozen=True)
class Turn:
    """The shift of one tower's latent in one step; its frames are latent frames or audio frames.

    Attributes:
        shown: which frame of the latent the model is shown at each position.
        counts: positions whose prediction counts.
        copies: pairs of a frame of the latent and the one of the circle that it repeats.
    """

    shown: list[int]
    counts: list[int]
    copies: list[tuple[int, int]]

    def turned(self, x: Tensor) -> Tensor:
        """x [B, C, frames, ...] as it is shown."""
        return taken(x, self.shown, 2)

    def turned_back(self, velocity: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """The prediction [B, C, frames, ...] in the order of ``x``, at noise level ``sigma`` [B].

        A copy gets the velocity that leads to the same clean latent as its original's.
        """
        out = torch.empty_like(velocity)
        for to, of, length in stretches([self.shown[i] for i in self.counts], self.counts):
            out[:, :, to : to + length] = velocity[:, :, of : of + length]
        level = sigma.to(x).reshape(-1, *[1] * (x.ndim - 2))
        for copy, original in self.copies:
            out[:, :, copy] = out[:, :, original] + (x[:, :, copy] - x[:, :, original]) / level
        return out


def video_turn(frames: int, by: int, shows_first: bool) -> Turn:
    """The video's, by ``by`` latent frames; with ``shows_first`` the first one is shown itself, not what it repeats."""
    circle = frames - 1
    if shows_first and by == 0:
        return Turn([*range(frames)], [*range(frames)], [])
    return Turn([1 + (by - 1 + i) % circle for i in range(frames)], [*range(1, frames)], [(0, circle)])


def audio_turn(steps: int, circle: int, turn: float) -> tuple[Turn, float]:
    """The audio's, by ``turn`` of a whole turn, and how many audio frames after the first image it begins."""
    exact = turn * circle
    first = math.ceil(exact - 1e-6)
    shown = [(first + i) % circle for i in range(steps)]
    return Turn(shown, [*range(circle)], [(i, i - circle) for i in range(circle, steps)]), first - exact


def _step_of(options: dict) -> int:
    """How many of the run's steps lie before the noise level of this forward."""
    level = noise_level(options, options["sigmas"]) * (1 + 1e-5)
    return sum(some > level for some in _levels(options))


def _levels(options: dict) -> Sequence[float]:
    """Noise levels of the run's steps, and the last one."""
    run = options.get(RunCache.KEY)
    if isinstance(run, SamplingRun) and run.sigmas:
        return run.sigmas
    return options["sample_sigmas"].tolist()


def _turns(given: list[Tensor], step: int, keeps: bool) -> tuple[list[Turn], float]:
    """The shifts of the latents in a step of the run, and how many audio frames after the first image the audio begins.

    keeps: something of the video is masked, as a start image is: every other step shows it, at the beginning.
    """
    lengths = {part.ndim: part.shape[2] for part in given}
    frames = lengths.get(5) or 1 + max(1, round(lengths[3] / AUDIO_PER_LATENT_FRAME))
    circle = frames - 1
    by = 0 if keeps and step % 2 == 0 else round(step * GOLDEN % 1 * circle) % circle
    steps = lengths.get(3, 0)
    audio, start = audio_turn(steps, max(1, circular_audio_frames(frames, steps)), by / circle)
    return [video_turn(frames, by, keeps) if part.ndim == 5 else audio for part in given], start


def around(forward: Callable[..., Any]) -> Callable[..., Any]:
    """``forward`` of the transformer on a circle, turned a bit further in every step of the run."""

    @torch.compiler.disable(recursive=False)
    def turning(x: Any, timestep: Tensor, context: Tensor, options: dict, **kwargs: Any) -> Any:
        given = [x] if isinstance(x, Tensor) else x
        if "context_window" in options:
            raise OviError(
                input="model",
                found="Ovi Loop together with context windows",
                accepted="one of the two",
                remedy="Take Ovi Loop away, and set closed_loop of the context windows.",
            )
        keeps, run = kwargs.get("video_shares") is not None, options.get(RunCache.KEY) or RunCache()
        turns, start = _turns(given, _step_of(options), keeps)
        starts = run.once(
            ("starts of a loop's audio", tuple(part.shape[2] for part in given), keeps),
            lambda: tuple({_turns(given, step, keeps)[1] for step in range(len(_levels(options)))}),
        )
        options = {**options, AUDIO_START: start, AUDIO_STARTS: starts}
        for part, turn in zip(given, turns, strict=True):
            name = "video_shares" if part.ndim == 5 else "audio_shares"
            if kwargs.get(name) is not None:
                kwargs = {**kwargs, name: kwargs[name].of_stretches(turn.shown, part.shape[2])}
        shown = [turn.turned(part) for part, turn in zip(given, turns, strict=True)]
        out = forward(shown if len(shown) == 2 else shown[0], timestep, context, options, **kwargs)
        sigma = options["sigmas"].repeat(timestep.shape[0] // options["sigmas"].shape[0])
        back = [
            turn.turned_back(velocity, part, sigma)
            for turn, velocity, part in zip(turns, [out] if isinstance(out, Tensor) else out, given, strict=True)
        ]
        return back if len(back) == 2 else back[0]

    return turning
