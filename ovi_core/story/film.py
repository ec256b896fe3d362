"""The film of a story: its shots put together frame by frame on their way into one file."""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..media import resampling, video_file
from ..media.crossfade import crossfaded, joined_sound
from ..media.overlap import samples_before
from ..spec import FPS, SAMPLE_RATE
from .plan import Plan
from .shot_store import Store

RECIPE = 1  # goes up when the same shots make another file than before
HELD = SAMPLE_RATE // 2  # samples before the next shot, more than a sound falls short of its frames


def write(store: Store, plans: list[Plan], check: Callable[[], None]) -> Path:
    """The film of shots that are all in the store, as H.264 and AAC; the one that is there, if it is.

    Of pictures and sound only what the next shot goes over from is held. The sound lasts exactly as long as the frames.

    Args:
        check: called for every frame; what it raises ends the work, and no film is left.

    Raises:
        OviError: a shot's file is damaged, or the disk is full.
    """
    told = "\n".join([f"{RECIPE} {video_file.FILM}", *(f"{plan.key} {plan.overlap.frames}" for plan in plans)])
    path = store.film(hashlib.sha256(told.encode()).hexdigest()[:32])
    if path.is_file():
        return path
    clip = plans[0].clip
    with video_file.written(path, video_file.FILM, clip.width, clip.height) as file:
        for frames, sound in parts(store, plans):
            file.hear(sound)
            for frame in frames:
                check()
                file.show(frame)
    return path


def beginnings(plans: list[Plan]) -> list[int]:
    """The number of the frame of the film that each shot begins with; and, as the last one, how many frames it has."""
    starts = [0]
    for plan, after in zip(plans, [*plans[1:], None], strict=True):
        starts.append(starts[-1] + plan.clip.frames - (after.overlap.frames if after else 0))
    return starts


def parts(store: Store, plans: list[Plan]) -> Iterator[tuple[Iterator[np.ndarray], Tensor]]:
    """The film shot by shot: frames [H, W, 3] in 8 bit, to be read before the next part, and sound [1, 1, S]."""
    starts = beginnings(plans)
    pictures, sound = _Pictures(store), _Sound()
    for plan, after, start, end in zip(plans, [*plans[1:], None], starts[:-1], starts[1:], strict=True):
        sound.add(store.sound(plan.key), start, cut=not plan.overlap.frames)
        kept = after.overlap.frames if after else 0
        yield pictures.add(plan, kept), sound.taken(end, end + kept, last=after is None)


class _Pictures:
    """Holds the frames that the next shot begins with too."""

    def __init__(self, store: Store):
        self.store = store
        self.held: deque[np.ndarray] = deque()

    def add(self, plan: Plan, kept: int) -> Iterator[np.ndarray]:
        """The frames that are done when a shot is there; the last ``kept`` are held."""
        count = 0
        frames = self.store.frames(plan.key)
        if plan.overlap.frames:
            shared = list(itertools.islice(frames, plan.overlap.frames))
            count = len(shared)
            mixed = crossfaded(video_file.in_floats(np.stack(self.held)), video_file.in_floats(np.stack(shared)))
            self.held = deque(map(video_file.in_8_bit, mixed))
        for frame in frames:
            count += 1
            self.held.append(frame)
            while len(self.held) > kept:
                yield self.held.popleft()
        if count != plan.clip.frames:
            raise video_file.damaged(self.store.shot(plan.key))


class _Sound:
    """Holds the sound that the next shot may still change."""

    def __init__(self) -> None:
        self.held, self.start = torch.zeros(1, 1, 0), 0

    def add(self, sound: Tensor, frame: int, cut: bool) -> None:
        """Go over to the ``sound`` [1, 1, S] of a shot that begins at a ``frame`` of the film."""
        begin = samples_before(frame, SAMPLE_RATE) - self.start
        before = self.held[..., :begin] if cut else self.held
        self.held = joined_sound(before, sound, begin, SAMPLE_RATE) if frame else sound

    def taken(self, frame: int, end: int, last: bool) -> Tensor:
        """What is done when the next shot begins at ``frame`` of a film that has ``end`` frames by now."""
        length = resampling.samples_within(Fraction(end, FPS), SAMPLE_RATE) - self.start
        nothing = self.held[..., :0]
        self.held = joined_sound(self.held, nothing, length, SAMPLE_RATE) if last else self.held[..., :length]
        done = length if last else max(0, samples_before(frame, SAMPLE_RATE) - HELD - self.start)
        taken, self.held = self.held[..., :done], self.held[..., done:]
        self.start += taken.shape[-1]
        return taken
