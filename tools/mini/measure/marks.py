"""Where something should sound and where it does, read from a finished clip of Ovi mini's world."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from tools.mini.measure.checks import measure

SAMPLE_RATE = 16000  # Hz


@dataclass(frozen=True)
class Marks:
    """Seconds of what is seen (contacts of a ball, openings of a mouth) and of what begins to sound."""

    events: tuple[float, ...]
    onsets: tuple[float, ...]


def marks_of(file: Path) -> Marks:
    """Measure a video file at 24 frames a second."""
    with av.open(str(file)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(container.streams.video[0])]
    with av.open(str(file)) as container:
        to_float = av.AudioResampler(format="fltp", layout="mono", rate=SAMPLE_RATE)
        blocks = [part.to_ndarray()[0] for frame in container.decode(audio=0) for part in to_float.resample(frame)]
    found = measure(np.stack(frames).astype(np.float32) / 255, np.concatenate(blocks))
    return Marks(tuple(map(float, found.events)), tuple(map(float, found.onsets)))
