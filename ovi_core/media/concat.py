"""Clips that go on from one another, put together: frames and samples counted exactly, and seams that do not show."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from ..errors import OviError
from ..spec import FPS, SAMPLE_RATE, SIZE_GRID
from . import drift_correction, resampling
from .audio import check_one_sound, without_fill
from .crossfade import as_long_as, crossfaded, joined_sound
from .images import check_frames, fit
from .overlap import Overlap, samples_before


@dataclass(frozen=True)
class Film:
    """Pictures with their sound.

    Attributes:
        images: [F, H, W, 3] in 0..1, at 24 a second.
        sound: [1, C, S].
        rate: of the sound, Hz.
    """

    images: Tensor
    sound: Tensor
    rate: int


def join(
    images_a: Any, audio_a: Any, images_b: Any, audio_b: Any, overlap_seconds: float, correct: str
) -> tuple[Film, list[str]]:
    """Clip a and the clip b that begins with a's end, as one.

    The film has F_a + F_b - overlap frames. Within the overlap the pictures go over from a to b linearly, the sound in
    equal power within 0.1 s around the middle. Before the overlap the film is a bit for bit. Its sound has as many
    samples as fill its frames, ceil(F rate / 24), however many joins it has seen: it is cut, or filled with silence.

    Args:
        images_a, images_b: [F, H, W, 3] at 24 a second; b's may be those of a, brought to the grid of 32 px.
        audio_a, audio_b: ComfyUI's AUDIO of one clip each, or None: silent. b is brought to a's rate and channels.
        overlap_seconds: rounded as :meth:`Overlap.from_seconds` does.
        correct: one of ``drift.CORRECTIONS``.

    Returns:
        The film, and notes for the artist.

    Raises:
        OviError: clips that do not belong together, or an overlap longer than one of them.
    """
    overlap = Overlap.from_seconds(overlap_seconds)
    for input, images in (("images_a", images_a), ("images_b", images_b)):
        check_frames(images, input)
        overlap.check_within(images.shape[0], input)
    sounds = [check_one_sound(audio_a, "audio_a"), check_one_sound(audio_b, "audio_b")]
    images_b, notes = _of_one_size(images_a, images_b.to(images_a))
    start = images_a.shape[0] - overlap.frames
    frames = start + images_b.shape[0]
    first, second, rate = _of_one_kind(sounds, images_a.shape[0])
    begin = samples_before(start, rate)
    if correct != drift_correction.OFF:
        pull = drift_correction.correction(images_a, images_b, overlap.frames, correct)
        images_b = pull.of_images(images_b)
        second = drift_correction.of_sound(first, second, begin, rate, correct)
    images = torch.cat((images_a[:start], crossfaded(images_a[start:], images_b), images_b[overlap.frames :]))
    sound = joined_sound(first, second, begin, rate)
    length = resampling.samples_within(Fraction(frames, FPS), rate)
    return Film(images, as_long_as(sound, length), rate), notes


def _of_one_size(images_a: Tensor, images_b: Tensor) -> tuple[Tensor, list[str]]:
    (height, width), (other_height, other_width) = images_a.shape[1:3], images_b.shape[1:3]
    if (height, width) == (other_height, other_width):
        return images_b, []
    if max(abs(height - other_height), abs(width - other_width)) > SIZE_GRID // 2:
        raise OviError(
            input="images_b",
            found=f"{other_width}x{other_height} px after {width}x{height} px",
            accepted="two clips of one size",
            remedy=f"Bring the second one to {width}x{height} px with Upscale Image, or make it with Ovi Extend.",
        )
    note = f"The second clip is stretched from {other_width}x{other_height} to {width}x{height} px, the first one's."
    return fit(images_b, width, height, "stretch"), [note]


def _of_one_kind(sounds: list[tuple[Tensor, int] | None], frames: int) -> tuple[Tensor, Tensor, int]:
    """Both sounds [1, C, S] at one rate, of as many channels, and that rate; the first cut to its ``frames``."""
    known = [sound for sound in sounds if sound is not None]
    rate = known[0][1] if known else SAMPLE_RATE
    like = known[0][0] if known else torch.zeros(1, 1, 0)
    silent = like.new_zeros(1, 1, 0)
    first, second = (
        silent if sound is None else resampling.resampled(sound[0].to(like), sound[1], rate) for sound in sounds
    )
    first = without_fill(first[..., : resampling.samples_within(Fraction(frames, FPS), rate)], rate)
    channels = second.shape[1] if first.shape[1] == 1 else first.shape[1]
    return _with_channels(first, channels), _with_channels(without_fill(second, rate), channels), rate


def _with_channels(sound: Tensor, channels: int) -> Tensor:
    return sound if sound.shape[1] == channels else sound.mean(dim=1, keepdim=True).expand(-1, channels, -1)
