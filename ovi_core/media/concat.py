"""Clips that continue one another joined to one: exact counts of frames and samples, and seams that do not show."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from ..errors import OviError
from . import drift_correction
from .audio import optional_audio, without_added_silence
from .crossfade import crossfaded_images, cut_or_padded, joined_audio
from .frame_rate import checked_frame_rate, converted, notes_of_rate
from .images import checked_images, fit
from .overlap import check_overlap, shows_the_same
from .resampling import resampled, samples_before, samples_within

NOTABLE_STRETCH = 16  # px on a side, half a step of the grid that Ovi Extend brings clips to


@dataclass(frozen=True)
class JoinedClip:
    """Frames with their audio.

    Attributes:
        images: [F, H, W, 3] in 0..1.
        waveform: [1, C, S], as long as the images.
        rate: of the waveform, Hz.
    """

    images: Tensor
    waveform: Tensor
    rate: int


@dataclass(frozen=True)
class Rates:
    """Frames per second and samples per second.

    Attributes:
        frames: of clip b and of the result.
        samples: of a result whose clips both have no audio.
        frames_a: of clip a, the same as the others' without it.
    """

    frames: int
    samples: int
    frames_a: float | None = None


def join(
    images_a: Any, audio_a: Any, images_b: Any, audio_b: Any, overlap: int, correct: str, rates: Rates
) -> tuple[JoinedClip, list[str]]:
    """Clip a, and clip b that begins with a's end, as one.

    The result has F_a + F_b - overlap frames. Within the overlap the frames go linearly from a to b, the audio in equal
    power within 0.1 s around the middle. Before the overlap the result is a bit for bit. Its audio has as many samples
    as fill its frames, ceil(F rate / frame rate), after however many joins: it is cut, or padded with silence.

    Args:
        images_a, images_b: IMAGE [F, H, W, 3]; b's may be those of a, brought to a grid of pixels.
        audio_a, audio_b: AUDIO of one clip each, or None: silent. b is brought to a's rate and channels.
        overlap: frames that both have in common.
        correct: one of ``drift_correction.CORRECTIONS``.

    Returns:
        The joined clip, and notes for the user.

    Raises:
        OviError: clips that do not belong together, or an overlap longer than one of them.
    """
    images_a, images_b = checked_images(images_a, "images_a"), checked_images(images_b, "images_b")
    audio = [optional_audio(audio_a, "audio_a"), optional_audio(audio_b, "audio_b")]
    rate_a = checked_frame_rate(rates.frames if rates.frames_a is None else rates.frames_a)
    notes = notes_of_rate(images_a, audio[0], float(rate_a))
    images_a = converted(images_a, rate_a, rates.frames)
    for input, images in (("images_a", images_a), ("images_b", images_b)):
        check_overlap(overlap, images.shape[0], rates.frames, input)
    images_b, of_size = _of_one_size(images_a, images_b)
    notes += of_size
    start = images_a.shape[0] - overlap
    frames = start + images_b.shape[0]
    if overlap and not shows_the_same(images_a[start:], images_b[:overlap]):
        notes.append(
            f"The last {overlap / rates.frames:.2f} s of the first clip and the first of the second one show different "
            "things and are cross-faded. For a clip that was not made with Ovi Extend, or with another overlap there, "
            "set overlap_seconds to 0."
        )
    first, second, rate = _of_one_kind(audio, images_a.shape[0], rates)
    begin = samples_before(start, rates.frames, rate)
    if correct != drift_correction.OFF:
        change = drift_correction.correction(images_a, images_b, overlap, correct, rates.frames)
        images_b = change.of_images(images_b)
        second = drift_correction.of_audio(first, second, begin, rate, correct)
    images = torch.cat((images_a[:start], crossfaded_images(images_a[start:], images_b), images_b[overlap:]))
    waveform = joined_audio(first, second, begin, rate)
    length = samples_within(Fraction(frames, rates.frames), rate)
    return JoinedClip(images, cut_or_padded(waveform, length), rate), notes


def _of_one_size(images_a: Tensor, images_b: Tensor) -> tuple[Tensor, list[str]]:
    (height, width), (other_height, other_width) = images_a.shape[1:3], images_b.shape[1:3]
    if (height, width) == (other_height, other_width):
        return images_b, []
    if max(abs(height - other_height), abs(width - other_width)) > NOTABLE_STRETCH:
        raise OviError(
            input="images_b",
            found=f"{other_width}x{other_height} px after {width}x{height} px",
            accepted="two clips of one size",
            remedy=f"Bring the second one to {width}x{height} px with Upscale Image, or generate it with Ovi Extend.",
        )
    note = f"The second clip is stretched from {other_width}x{other_height} to {width}x{height} px, the first one's."
    return fit(images_b, width, height, "stretch"), [note]


def _of_one_kind(audio: list[tuple[Tensor, int] | None], frames: int, rates: Rates) -> tuple[Tensor, Tensor, int]:
    """Both waveforms [1, C, S] at one rate, of as many channels, and that rate; the first cut to its ``frames``."""
    known = [part for part in audio if part is not None]
    rate = known[0][1] if known else rates.samples
    silent = torch.zeros(1, known[0][0].shape[1] if known else 1, 0)
    first, second = (silent if part is None else resampled(part[0], part[1], rate) for part in audio)
    first = without_added_silence(first[..., : samples_within(Fraction(frames, rates.frames), rate)], rate)
    channels = second.shape[1] if first.shape[1] == 1 else first.shape[1]
    return _with_channels(first, channels), _with_channels(without_added_silence(second, rate), channels), rate


def _with_channels(audio: Tensor, channels: int) -> Tensor:
    return audio if audio.shape[1] == channels else audio.mean(dim=1, keepdim=True).expand(-1, channels, -1)
