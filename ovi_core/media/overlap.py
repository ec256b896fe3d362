"""The time that two clips share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from ..errors import OviError
from ..spec import FPS, FRAMES_PER_LATENT, SAMPLE_RATE, SAMPLES_PER_LATENT


@dataclass(frozen=True)
class Overlap:
    """What the end of one clip and the beginning of the next have in common.

    Attributes:
        latent_frames: latent steps of the video; 0 where the clips only follow one another.
    """

    latent_frames: int

    @classmethod
    def from_seconds(cls, seconds: float, least: int = 0) -> Overlap:
        """The overlap of whole latent steps nearest to ``seconds``: 1, 5, 9, 13 ... frames at 24 a second, or none.

        Args:
            seconds: as the artist sets it; 0 is no overlap, anything above is one frame or more.
            least: latent steps to take at least.

        Raises:
            OviError: ``seconds`` is negative or no number.
        """
        if not 0 <= seconds < math.inf:
            raise OviError(
                input="overlap_seconds",
                found=f"{seconds:g}",
                accepted="0 s or more",
                remedy="Set it to 1, the same in Ovi Extend and Ovi Join Clips.",
            )
        steps = 1 + round((seconds * FPS - 1) / FRAMES_PER_LATENT) if seconds else 0
        return cls(max(steps, least))

    @property
    def frames(self) -> int:
        """Pictures at 24 a second: 4 (k - 1) + 1 for k latent steps."""
        return FRAMES_PER_LATENT * (self.latent_frames - 1) + 1 if self.latent_frames else 0

    @property
    def audio_frames(self) -> int:
        """Latent steps of the sound that end within the overlap's frames (512 samples at 16 kHz each)."""
        return math.floor(Fraction(self.frames, FPS) * SAMPLE_RATE / SAMPLES_PER_LATENT)

    def check_within(self, frames: int, input: str) -> None:
        """Raise OviError if a clip of ``frames`` pictures is shorter than the overlap."""
        if frames < self.frames:
            raise OviError(
                input="overlap_seconds",
                found=f"an overlap of {self.frames} frames ({self.frames / FPS:.2f} s) and {frames} in {input}",
                accepted=f"{frames / FPS:.2f} s at most, the length of {input}",
                remedy=f"Shorten the overlap, or connect all frames of the clip to {input}.",
            )


def samples_before(frame: int, rate: int) -> int:
    """The sample at ``rate`` Hz that is nearest to the beginning of a frame; counted anew, so errors do not add up."""
    return math.floor(Fraction(frame, FPS) * rate + Fraction(1, 2))
