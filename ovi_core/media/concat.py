"""Clips that go on from one another, put together: frames and samples counted exactly, and seams that do not show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from ..conditioning.keyframes import check_picture, fit
from ..conditioning.locked_media import checked_sound
from ..errors import OviError
from ..spec import FPS, FRAMES_PER_STEP, SAMPLE_RATE, SAMPLES_PER_STEP, SIZE_GRID
from . import drift_correction, resampling

SOUND_FADE = 0.1  # s; longer, the two renderings of the same voice would be heard as a chorus
CLICK_FADE = 0.005  # s, where sounds meet that have no time in common
FILL = 0.1  # s, the longest silence at a sound's end that may be there only to make it as long as its frames


@dataclass(frozen=True)
class Overlap:
    """What the end of one clip and the beginning of the next have in common.

    Attributes:
        video_steps: latent steps of the video; 0 where the clips only follow one another.
    """

    video_steps: int

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
        steps = 1 + round((seconds * FPS - 1) / FRAMES_PER_STEP) if seconds else 0
        return cls(max(steps, least))

    @property
    def frames(self) -> int:
        """Pictures at 24 a second: 4 (k - 1) + 1 for k latent steps."""
        return FRAMES_PER_STEP * (self.video_steps - 1) + 1 if self.video_steps else 0

    @property
    def audio_steps(self) -> int:
        """Latent steps of the sound that end within the overlap's frames (512 samples at 16 kHz each)."""
        return math.floor(Fraction(self.frames, FPS) * SAMPLE_RATE / SAMPLES_PER_STEP)

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


def check_frames(images: Any, input: str) -> None:
    """Raise OviError unless ``images`` are RGB pictures [F, H, W, 3] of finite values, one at least."""
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.shape[0]:
        shape = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise OviError(
            input=input,
            found=f"images of shape {shape}",
            accepted="the frames of a clip, [frames, height, width, 3]",
            remedy="Connect the images of Ovi AV Decode, or of Get Video Components.",
        )
    check_picture(images, input)


def check_one_sound(audio: Any, input: str) -> tuple[Tensor, int] | None:
    """Waveform [1, C, S] and rate in Hz of the host's AUDIO; None for a clip without sound.

    Raises:
        OviError: an AUDIO that is none, not finite, or of several sounds.
    """
    if audio is None:
        return None
    waveform, rate = checked_sound(audio, batch=None, input=input)
    if waveform.shape[0] != 1:
        raise OviError(
            input=input,
            found=f"{waveform.shape[0]} sounds in a batch",
            accepted="the sound of one clip",
            remedy="Make one clip at a time (batch size 1), for each goes on in its own way.",
        )
    return waveform, rate


def without_fill(waveform: Tensor, rate: int) -> Tensor:
    """A sound [..., S] without the exact zeros at its end, of which there are at most 0.1 s.

    Ovi's sound is up to 0.06 s shorter than its frames, and is filled up where it must last as long. Silence that is
    part of the sound loses nothing by being cut too: it is filled again.
    """
    last = waveform[..., -round(FILL * rate) :]
    silent = (last == 0).flatten(0, -2).all(dim=0).flip(0)
    count = int(silent.long().cumprod(0).sum())
    return waveform[..., : waveform.shape[-1] - count]


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
        audio_a, audio_b: the host's AUDIO of one clip each, or None: silent. b is brought to a's rate and channels.
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
    return Film(images, _as_long_as(sound, length), rate), notes


def crossfaded(first: Tensor, second: Tensor) -> Tensor:
    """Pictures [K, H, W, 3] that go over linearly from ``first`` [K, ...] to the beginning of ``second`` [K.., ...]."""
    count = first.shape[0]
    weight = torch.arange(1, count + 1, device=first.device, dtype=first.dtype) / (count + 1)
    return torch.lerp(first, second[:count], weight.reshape(-1, 1, 1, 1))


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


def joined_sound(first: Tensor, second: Tensor, begin: int, rate: int) -> Tensor:
    """``first`` [1, C, S] going over to ``second``, which begins at sample ``begin`` of it.

    Where they have no time in common, the one falls to nothing before the other rises from it, within 5 ms each.
    """
    shared = min(first.shape[-1] - begin, second.shape[-1])
    if shared <= 0:
        before = _as_long_as(_risen(first[..., :begin].flip(-1), rate).flip(-1), begin)
        return torch.cat((before, _risen(second, rate)), dim=-1)
    fade = min(round(SOUND_FADE * rate), shared)
    until = begin + (shared + fade) // 2
    return torch.cat(
        (first[..., :begin], resampling.joined(first[..., begin:until], second, fade / rate, rate)), dim=-1
    )


def _risen(sound: Tensor, rate: int) -> Tensor:
    """Sound [..., S] whose first 5 ms rise from nothing."""
    count = min(round(CLICK_FADE * rate), sound.shape[-1])
    rise = (torch.arange(count, device=sound.device, dtype=sound.dtype) + 0.5) / max(1, count)
    return torch.cat((sound[..., :count] * rise, sound[..., count:]), dim=-1)


def _as_long_as(sound: Tensor, samples: int) -> Tensor:
    """Sound [..., S] cut, or filled with silence, to ``samples``."""
    return torch.nn.functional.pad(sound[..., :samples], (0, max(0, samples - sound.shape[-1])))
