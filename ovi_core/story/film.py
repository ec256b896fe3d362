"""The film of a storyboard: its shots joined frame by frame on their way into one file."""

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

from ..media import provenance, resampling, video_file
from ..media.crossfade import crossfaded_images, joined_audio
from ..media.resampling import samples_before
from .plan import Plan
from .shot_store import State, Store

RECIPE = 3  # goes up when the same shots make another file than before
OPEN_END = 0.5  # s before the next shot that are not yet written: more than audio falls short of its frames


def key_of(plans: list[Plan]) -> str:
    """A hash of what decides a film's file."""
    shots = "\n".join(f"{plan.key} {plan.overlap.frames}" for plan in plans)
    return hashlib.sha256(f"{RECIPE}\n{shots}".encode()).hexdigest()[:32]


def write(store: Store, plans: list[Plan], check_interrupted: Callable[[], None]) -> Path:
    """The film of shots that are all in the store, as H.264 and AAC; the one that is there, if it is whole.

    The file is marked as generated, and says whether people's faces and voices were given.

    Only the frames and audio that the next shot fades into are held. The audio lasts exactly as long as the frames.

    Args:
        check_interrupted: called for every frame; what it raises ends the work, and no film is left.

    Raises:
        OviError: a shot's file is damaged, or the disk is full; then with what the whole film needs, as far as the
            frames that were written tell.
    """
    key, total, done = key_of(plans), starts_of(plans)[-1], 0
    if store.film_state(key) is State.WHOLE:
        return store.film(key)
    likeness = likeness_of(plans)
    tags = provenance.written_tags(provenance.GENERATED, likeness)
    with store.new_film(key, lambda written: written * total // max(1, done)) as path:
        with video_file.opened_to_write(path, video_file.FILM, plans[0].streams, tags) as file:
            for frames, audio in parts(store, plans):
                file.add_audio(audio)
                for frame in frames:
                    check_interrupted()
                    file.add_frame(frame)
                    done += 1
        provenance.append_xmp(path, provenance.GENERATED, likeness)
    return store.film(key)


def likeness_of(plans: list[Plan]) -> tuple[str, ...]:
    """The parts of people that shots were made from, for the film's mark."""
    people = [person for plan in plans for person in plan.people]
    parts = {"face": any(person.face for person in people), "voice": any(person.voice for person in people)}
    return tuple(part for part, given in parts.items() if given)


def starts_of(plans: list[Plan]) -> list[int]:
    """The number of the film's frame that each shot starts with; and, as the last one, how many frames it has."""
    starts = [0]
    for plan, after in zip(plans, [*plans[1:], None], strict=True):
        starts.append(starts[-1] + plan.clip.frames - (after.overlap.frames if after else 0))
    return starts


def parts(store: Store, plans: list[Plan]) -> Iterator[tuple[Iterator[np.ndarray], Tensor]]:
    """The film shot by shot: frames [H, W, 3] of 8 bit, to be read before the next part, and audio [1, 1, S]."""
    starts = starts_of(plans)
    images, audio = _Images(store), _Audio(plans[0].streams)
    for plan, after, start, end in zip(plans, [*plans[1:], None], starts[:-1], starts[1:], strict=True):
        audio.add(store.audio(plan), start, cut=not plan.overlap.frames)
        shared = after.overlap.frames if after else 0
        yield images.add(plan, shared), audio.take(end, end + shared, last=after is None)


class _Images:
    """Holds the frames that the next shot starts with too."""

    def __init__(self, store: Store):
        self.store = store
        self.held: deque[np.ndarray] = deque()

    def add(self, plan: Plan, shared: int) -> Iterator[np.ndarray]:
        """The frames that are done once a shot is there; its last ``shared`` are held."""
        count = 0
        frames = self.store.frames(plan)
        if plan.overlap.frames:
            first = list(itertools.islice(frames, plan.overlap.frames))
            count = len(first)
            if count != len(self.held):
                raise video_file.damaged(self.store.shot(plan.key))
            mixed = crossfaded_images(video_file.as_floats(np.stack(self.held)), video_file.as_floats(np.stack(first)))
            self.held = deque(map(video_file.as_bytes, mixed))
        for frame in frames:
            count += 1
            self.held.append(frame)
            while len(self.held) > shared:
                yield self.held.popleft()
        if count != plan.clip.frames:
            raise video_file.damaged(self.store.shot(plan.key))


class _Audio:
    """Holds the audio that the next shot may still change."""

    def __init__(self, streams: video_file.Streams):
        self.frame_rate, self.rate = streams.frame_rate, streams.sample_rate
        self.held, self.start = torch.zeros(1, 1, 0), 0

    def add(self, audio: Tensor, frame: int, cut: bool) -> None:
        """Fade to the ``audio`` [1, 1, S] of a shot that starts at a ``frame`` of the film."""
        begin = samples_before(frame, self.frame_rate, self.rate) - self.start
        before = self.held[..., :begin] if cut else self.held
        self.held = joined_audio(before, audio, begin, self.rate) if frame else audio

    def take(self, frame: int, end: int, last: bool) -> Tensor:
        """What is done when the next shot starts at ``frame`` of a film that has ``end`` frames by now."""
        length = resampling.samples_within(Fraction(end, self.frame_rate), self.rate) - self.start
        nothing = self.held[..., :0]
        self.held = joined_audio(self.held, nothing, length, self.rate) if last else self.held[..., :length]
        open_end = round(OPEN_END * self.rate)
        whole = length if last else samples_before(frame, self.frame_rate, self.rate) - open_end - self.start
        done = max(0, whole)
        taken, self.held = self.held[..., :done], self.held[..., done:]
        self.start += taken.shape[-1]
        return taken
