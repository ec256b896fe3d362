"""Shots on disk: each a file of its own, named by what it was made of, without loss, whole or not there at all."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from ..media import video_file


@dataclass(frozen=True)
class Store:
    """A folder of shots and films; several ComfyUIs may use it at the same time.

    Attributes:
        folder: made when the first file is written.
    """

    folder: Path

    def shot(self, key: str) -> Path:
        return self.folder / "shots" / f"{key}.mkv"

    def film(self, key: str) -> Path:
        return self.folder / "films" / f"{key}.mp4"

    def has(self, key: str) -> bool:
        return self.shot(key).is_file()

    def write(self, key: str, images: Tensor, sound: Tensor) -> None:
        """Put a shot into the store.

        Args:
            images: [F, H, W, 3] in 0..1, kept in 8 bit.
            sound: [1, 1, S] at 16 kHz, kept in 32 bit.
        """
        height, width = images.shape[1:3]
        with video_file.written(self.shot(key), video_file.LOSSLESS, width, height) as file:
            file.hear(sound)
            for image in images:
                file.show(video_file.in_8_bit(image))

    def put(self, key: str, shot: bytes) -> None:
        """Put the file of a shot that another store had into this one."""
        with video_file.whole(self.shot(key)) as part:
            part.write_bytes(shot)

    def frames(self, key: str) -> Iterator[np.ndarray]:
        """The frames of a shot, each [H, W, 3] in 8 bit."""
        return video_file.frames(self.shot(key))

    def images(self, key: str, start: int, count: int | None = None) -> Tensor:
        """Frames of a shot from number ``start`` on, [count, H, W, 3] in 0..1; fewer where it ends before."""
        frames = list(itertools.islice(video_file.frames(self.shot(key), start), count))
        if not frames:
            raise video_file.damaged(self.shot(key))
        return video_file.in_floats(np.stack(frames))

    def sound(self, key: str) -> Tensor:
        """The sound of a shot, [1, 1, S] at 16 kHz."""
        return video_file.sound(self.shot(key))
