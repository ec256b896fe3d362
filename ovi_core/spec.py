"""Variants of Ovi, and the arithmetic of frames, seconds, latent frames, audio frames, samples and sizes.

A latent frame is an index of the video latent along time, an audio frame one of the audio latent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from .errors import OviError

FPS = 24
FRAMES_PER_LATENT = 4  # frames that one latent frame stands for, after the first one's single frame
SAMPLE_RATE = 16000  # Hz
SAMPLES_PER_LATENT = 512  # samples that one audio frame stands for
AUDIO_PER_LATENT_FRAME = Fraction(FRAMES_PER_LATENT * SAMPLE_RATE, FPS * SAMPLES_PER_LATENT)  # 125 / 24, in real time
VIDEO_CHANNELS = 48
AUDIO_CHANNELS = 20
SPATIAL = 16  # pixels along each side of one cell of the video latent
SIZE_GRID = 32  # pixels: two latent cells, since the transformer reads them in patches of 2x2
TEXT_LENGTH = 512  # text positions, end of sentence and padding included
MOST_PEOPLE = 2  # whose faces and voices weights were trained to take
MIN_LATENT_FRAMES = 2  # one alone is an image and has no audio

CaptionStyle = Literal["<AUDCAP>", "Audio:", "none"]


@dataclass(frozen=True)
class VariantSampling:
    """How a variant is sampled by those who trained it.

    Attributes:
        video_cfg, audio_cfg: strength of the guidance of each tower.
        skip_layers: block pairs that the negative pass leaves out.
        video_reference, audio_reference: strength of the guidance by faces and by voices; 0 where it knows neither.
    """

    video_cfg: float = 4.0
    audio_cfg: float = 3.0
    skip_layers: tuple[int, ...] = (11,)
    video_reference: float = 0.0
    audio_reference: float = 0.0


@dataclass(frozen=True)
class Variant:
    """One published set of weights, and what it was trained for.

    Attributes:
        name: as the nodes show it.
        file: name of the checkpoint file.
        area: trained area in square pixels.
        seconds: trained length in seconds.
        caption: how the audio caption is written: ``<AUDCAP>...<ENDAUDCAP>``, or ``Audio: ...`` at the end; none for
            weights that read a structured caption of reference people (``text/people_prompt.py``).
        sampling: the trainers' own settings.
        sizes: widths and heights in pixels it was trained at, where it was not any shape of that area.
        recommended: those that its authors recommend, where it was.
        people: whether it was trained on the faces and voices of reference people.
    """

    name: str
    file: str
    area: int
    seconds: float
    caption: CaptionStyle
    sampling: VariantSampling = VariantSampling()
    sizes: tuple[tuple[int, int], ...] = ()
    recommended: tuple[tuple[int, int], ...] = ()
    people: bool = False

    @property
    def latent_frames(self) -> int:
        """T, latent frames at the trained length."""
        return nearest_latent_frames(self.seconds)


def nearest_latent_frames(seconds: float) -> int:
    """T, latent frames of the clip that lasts nearest to ``seconds``."""
    return 1 + round((seconds * FPS - 1) / FRAMES_PER_LATENT)


SIZES_960 = ((960, 960), (1280, 704), (704, 1280))
SIZES_720 = ((704, 704), (992, 512), (512, 992), (960, 544), (544, 960), (1152, 448), (448, 1152))
VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("960x960_10s", "model_960x960_10s.safetensors", 960 * 960, 10.0, "Audio:", recommended=SIZES_960),
        Variant("960x960_5s", "model_960x960.safetensors", 960 * 960, 5.0, "Audio:", recommended=SIZES_960),
        Variant("720x720_5s", "model.safetensors", 720 * 720, 5.0, "<AUDCAP>", recommended=SIZES_720),
        Variant("mini", "ovi_mini.safetensors", 96 * 96, 5.0, "Audio:", VariantSampling(2.0, 3.0, (2,))),
        Variant(
            "dreamid_omni",
            "dreamid_omni.safetensors",
            704 * 1280,
            5.0,
            "none",
            VariantSampling(3.0, 4.0, (), 1.5, 2.0),
            sizes=((1280, 704), (992, 512)),
            people=True,
        ),
    )
}
DEFAULT_VARIANT = VARIANTS["960x960_10s"]
TRAINED = sorted(variant.latent_frames for variant in VARIANTS.values())
SHORTEST_TRAINED, LONGEST_TRAINED = TRAINED[0], TRAINED[-1]  # latent frames


@dataclass(frozen=True)
class ClipShape:
    """Size and length of one clip with its audio, counted in every unit.

    Attributes:
        width, height: pixels.
        latent_frames: T, length of the video latent (31 for 5 s, 61 for 10 s).
    """

    width: int
    height: int
    latent_frames: int

    @classmethod
    def from_seconds(cls, width: int, height: int, seconds: float) -> ClipShape:
        """The clip whose video lasts nearest to ``seconds``, and 5 frames at least.

        Raises:
            OviError: ``width`` or ``height`` is off the grid, or ``seconds`` is not a positive number.
        """
        check_size(width, height)
        if not 0 < seconds < math.inf:
            raise OviError(
                input="seconds",
                found=f"{seconds:g}",
                accepted="a length above 0 s; the models were trained on 5 s and 10 s",
                remedy="Set seconds to 5 or 10.",
            )
        return cls(width, height, max(MIN_LATENT_FRAMES, nearest_latent_frames(seconds)))

    @property
    def frames(self) -> int:
        """Frames of the video, at 24 per second."""
        return frames_for(self.latent_frames)

    @property
    def seconds(self) -> float:
        """Length of the video in seconds; a trained length has one frame more than its name says (121 for 5 s)."""
        return self.frames / FPS

    @property
    def audio_frames(self) -> int:
        """L, length of the audio latent (157 for 5 s, 314 for 10 s)."""
        return audio_frames_for(self.latent_frames)

    @property
    def samples(self) -> int:
        """Samples of the decoded audio, at 16 kHz; within one frame as long as the video from 5 s on."""
        return samples_of(self.audio_frames)

    def video_shape(self, batch: int = 1) -> tuple[int, int, int, int, int]:
        """Video latent shape ``[batch, 48, T, height / 16, width / 16]``."""
        return batch, VIDEO_CHANNELS, self.latent_frames, self.height // SPATIAL, self.width // SPATIAL

    def audio_shape(self, batch: int = 1) -> tuple[int, int, int]:
        """Audio latent shape ``[batch, 20, L]``."""
        return batch, AUDIO_CHANNELS, self.audio_frames


def frames_for(latent_frames: int) -> int:
    """Frames that so many latent frames stand for, the first of a clip among them."""
    return FRAMES_PER_LATENT * (latent_frames - 1) + 1


def audio_frames_for(latent_frames: int) -> int:
    """L, audio frames of a clip of T latent frames.

    Up to the longest trained length the reference's ratio, 31.4 per second. Real time has 31.25, and the two drift
    apart, by 0.4 s in two minutes: a longer clip has the audio frames that fill its frames.
    """
    if latent_frames > LONGEST_TRAINED:
        return math.ceil(frames_for(latent_frames) * AUDIO_PER_LATENT_FRAME / FRAMES_PER_LATENT)
    return round((latent_frames - 1) * 157 / 30)


def check_size(width: int, height: int) -> None:
    """Raise :class:`OviError` unless both sides, in pixels, are multiples of 32."""
    wrong = {
        name: pixels
        for name, pixels in (("width", width), ("height", height))
        if pixels < SIZE_GRID or pixels % SIZE_GRID
    }
    if wrong:
        raise OviError(
            input=" and ".join(wrong),
            found=f"{width}x{height} px",
            accepted=f"multiples of {SIZE_GRID} px, from {SIZE_GRID} px up",
            remedy=f"Set {' and '.join(f'{name} to {_neighbours(pixels)}' for name, pixels in wrong.items())}.",
        )


def snap_size(height: int, width: int, area: int) -> tuple[int, int]:
    """Size on the grid of 32 px for a wanted size, scaled to ``area`` square pixels.

    Each side is rounded twice, to whole pixels and then to the grid, as the reference does for text to video.

    Returns:
        ``(height, width)`` in pixels.

    Raises:
        OviError: a side is not positive.
    """
    scale = _scale_to_area(height, width, area)
    return _to_grid(round(height * scale)), _to_grid(round(width * scale))


SHAPE_TOLERANCE = 0.04  # share by which two shapes may differ and count as one: 16:9 and 1280x704 do, by 2 %


def size_for_shape(variant: Variant, width: int, height: int) -> tuple[int, int]:
    """Size of a clip in the shape of ``width`` to ``height`` that a variant was trained for.

    A trained or recommended size of that shape, else one on the grid at the variant's area.

    Returns:
        ``(width, height)`` in pixels.

    Raises:
        OviError: a side is not positive.
    """
    snapped_height, snapped_width = snap_size(height, width, variant.area)

    def difference(size: tuple[int, int]) -> float:
        return abs(math.log(size[0] * height / (size[1] * width)))

    nearest = min((*variant.sizes, *variant.recommended), key=difference, default=None)
    if nearest and difference(nearest) <= SHAPE_TOLERANCE:
        return nearest
    return snapped_width, snapped_height


def _scale_to_area(height: int, width: int, area: int) -> float:
    if height < 1 or width < 1:
        raise OviError(
            input="width and height",
            found=f"{width}x{height} px",
            accepted="sides of 1 px or more",
            remedy="Set both to the size of the clip you want.",
        )
    return math.sqrt(area / (height * width))


def _to_grid(pixels: float) -> int:
    """Nearest multiple of 32 px, 32 at least; halves go to the even multiple."""
    return max(SIZE_GRID, round(pixels / SIZE_GRID) * SIZE_GRID)


def _neighbours(pixels: int) -> str:
    below = pixels // SIZE_GRID * SIZE_GRID
    return f"{below} or {below + SIZE_GRID}" if below >= SIZE_GRID else str(SIZE_GRID)


def latent_frame_at(seconds: float) -> int:
    """The latent frame of the frame nearest to ``seconds``."""
    return math.ceil(round(seconds * FPS) / FRAMES_PER_LATENT)


def frames_of(latent_frame: int) -> tuple[int, int]:
    """First frame of a latent frame, and the first after it: 0 and 1, 1 and 5, 5 and 9 ..."""
    return max(0, frames_for(latent_frame)), frames_for(latent_frame + 1)


def latent_frames_to_show(seconds: Fraction) -> int:
    """T of the shortest clip that lasts ``seconds`` or longer."""
    return max(MIN_LATENT_FRAMES, 1 + math.ceil((seconds * FPS - 1) / FRAMES_PER_LATENT))


METADATA_KEY = "ovi_variant"
"""Under this key a file's own header may tell."""
SPOKEN = "ovi_spoken_seconds"
"""Under this key a CONDITIONING says how long its speech takes."""


def latent_frames_within(frames: int) -> int:
    """T of the longest clip of no more than ``frames``."""
    return 1 + (frames - 1) // FRAMES_PER_LATENT


def latent_frames_lasting(seconds: float) -> int:
    """Latent frames after a clip's first that last nearest to ``seconds``."""
    return round(seconds * FPS / FRAMES_PER_LATENT)


def samples_of(audio_frames: int) -> int:
    """Samples at 16 kHz that audio frames decode to."""
    return audio_frames * SAMPLES_PER_LATENT


def audio_frames_within(samples: int) -> int:
    """Whole audio frames of so many samples at 16 kHz."""
    return samples // SAMPLES_PER_LATENT


def audio_seconds(audio_frames: int) -> float:
    """How long audio frames last."""
    return samples_of(audio_frames) / SAMPLE_RATE


def circular_audio_frames(latent_frames: int, audio_frames: int) -> int:
    """Audio frames of the circle that a loop of these lengths runs through."""
    return min(audio_frames, round((latent_frames - 1) * AUDIO_PER_LATENT_FRAME))


@dataclass(frozen=True)
class Overlap:
    """What the end of one clip and the beginning of the next have in common.

    Attributes:
        latent_frames: of the video; 0 where the clips only follow one another.
    """

    latent_frames: int

    @classmethod
    def from_seconds(cls, seconds: float, least: int = 0) -> Overlap:
        """The overlap of whole latent frames nearest to ``seconds``: 1, 5, 9, 13 ... frames, or none.

        Args:
            seconds: as the user sets it; 0 is no overlap, anything above is one frame or more.
            least: latent frames to take at least.

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
        return cls(max(nearest_latent_frames(seconds) if seconds else 0, least))

    @property
    def frames(self) -> int:
        """Frames at 24 per second: 4 (k - 1) + 1 for k latent frames."""
        return frames_for(self.latent_frames) if self.latent_frames else 0

    @property
    def audio_frames(self) -> int:
        """Audio frames that end within the overlap (512 samples at 16 kHz each)."""
        return math.floor(Fraction(self.frames, FPS) * SAMPLE_RATE / SAMPLES_PER_LATENT)
