"""Reference people: a face image and a second of voice each, read by weights that were trained for it.

DreamID-Omni (arXiv 2602.12160) has Ovi's blocks and keys. Its references stand after the clip on the time axis of both
towers, before the patch embedding, as clean latents at the clip's own timestep; every token attends to every other, and
what the network says to the reference tokens is dropped. So a LATENT stays the clip, and samplers, masks, caches and
previews see nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import OviError
from ..spec import AUDIO_CHANNELS, MOST_PEOPLE, VIDEO_CHANNELS
from .rope import AUDIO_TIME_SCALE as OVI_TIME_SCALE
from .run_cache import RunCache
from .timesteps import TimestepShares

KEY = "ovi_references"
"""Key of a conditioning's options: a list with an entry for each person, ``{"face": Tensor or None, "voice": Tensor or
None}``, in the VAEs' own units: face [1, 48, 1, H, W], voice [1, 20, n]."""

AUDIO_TIME_SCALE = 0.197265625
"""Audio frames in units of latent frames where references are read: 31 / 157 in the bfloat16 of the reference engine.
It holds for the clip's audio too, and is not the scale of Ovi's own weights."""
FACE_DISTANCE = 150  # latent frames: face k stands at time 150 (k + 1)
VOICE_DISTANCE = 760  # audio frames: the first frame of voice k, nearly where face k stands


@dataclass(frozen=True)
class References:
    """The references of a forward, in the model's normalised units; a zeroed one keeps its tokens.

    faces: [B, 48, F, H, W], one latent frame per face, or None.
    voices: [B, 20, n], one after the other, or None.
    lengths: audio frames of each voice, n together.
    """

    faces: Tensor | None = None
    voices: Tensor | None = None
    lengths: tuple[int, ...] = ()

    @property
    def audio_time_scale(self) -> float:
        """Audio frames in units of latent frames: Ovi's own where there are no references."""
        return OVI_TIME_SCALE if self.faces is None and self.voices is None else AUDIO_TIME_SCALE

    def of_tower(self, latent: Tensor) -> Tensor | None:
        """The references that follow the latent of one tower, video [B, 48, T, H, W] or audio [B, 20, L]."""
        return self.faces if latent.ndim == 5 else self.voices

    def appended(self, latent: Tensor) -> Tensor:
        """The latent of one tower with its references after it on the time axis."""
        own = self.of_tower(latent)
        if own is None:
            return latent
        return torch.cat((latent, own.to(latent).expand(latent.shape[0], *own.shape[1:])), dim=2)

    def shares(self, latent: Tensor, shares: TimestepShares | None, run: RunCache) -> TimestepShares | None:
        """Timestep shares of a tower's clip, with those of its references: the whole timestep, whatever is kept."""
        own = self.of_tower(latent)
        if own is None or shares is None:
            return shares
        count = own.shape[2] * (shares.index.shape[1] // latent.shape[2])
        return run.once(("shares with references", shares, count), lambda: shares.followed_by(count))

    def face_times(self) -> tuple[float, ...]:
        """Positions of the faces on the video's time axis, in latent frames."""
        count = 0 if self.faces is None else self.faces.shape[2]
        return tuple(float(FACE_DISTANCE * (k + 1)) for k in range(count))

    def voice_times(self) -> tuple[float, ...]:
        """Positions of the voices' audio frames, in audio frames."""
        return tuple(
            float(VOICE_DISTANCE * (k + 1) + i) for k, length in enumerate(self.lengths) for i in range(length)
        )


def of_people(people: Sequence[dict[str, Any]]) -> References:
    """References of people in the order of their slots: faces and voices are counted apart, as the weights have it.

    Args:
        people: entries as under :data:`KEY`, all faces of one size, for one clip or for each of a batch.
    """
    faces = [person["face"] for person in people if person.get("face") is not None]
    voices = [person["voice"] for person in people if person.get("voice") is not None]
    lengths = tuple(voice.shape[-1] for voice in voices)
    return References(_together(faces) if faces else None, _together(voices) if voices else None, lengths)


def _together(parts: Sequence[Tensor]) -> Tensor:
    """References one after the other in time; one for all clips of a batch stands beside those of single clips."""
    batch = max(part.shape[0] for part in parts)
    return torch.cat([part.expand(batch, *part.shape[1:]) for part in parts], dim=2)


def check_people(people: Any, input: str, remedy: str) -> None:
    """Raise OviError unless ``people`` are what :func:`of_people` takes: at most two, with finite references."""
    found = ""
    if not isinstance(people, (list, tuple)) or len(people) > MOST_PEOPLE:
        found = f"{len(people) if isinstance(people, (list, tuple)) else type(people).__name__} reference people"
    elif not all(isinstance(person, dict) for person in people):
        found = "reference people of another kind"
    else:
        faults = (_fault(person.get(name), name) for person in people for name in ("face", "voice"))
        found = next(filter(None, faults), "") or _apart([person.get("face") for person in people], "faces")
        found = found or _apart([person.get("voice") for person in people], "voices")
    if found:
        raise OviError(
            input=input, found=found, accepted=f"up to {MOST_PEOPLE} people as Ovi Person gives them", remedy=remedy
        )


def _apart(parts: Sequence[Tensor | None], what: str) -> str:
    """What keeps the references of one kind from standing side by side; "" where nothing does."""
    shapes = [list(part.shape) for part in parts if part is not None]
    sizes = {tuple(shape[3:]) for shape in shapes}
    batches = {shape[0] for shape in shapes} - {1}
    return f"{what} of shapes {' and '.join(map(str, shapes))}" if max(len(sizes), len(batches)) > 1 else ""


def _fault(part: Any, name: str) -> str:
    """What is wrong with a person's ``face`` or ``voice``; "" where nothing is, or where there is none."""
    if part is None:
        return ""
    axes, channels = (5, VIDEO_CHANNELS) if name == "face" else (3, AUDIO_CHANNELS)
    fits = isinstance(part, Tensor) and part.ndim == axes and part.shape[1] == channels and part.numel()
    if fits and (name == "voice" or part.shape[2] == 1) and bool(torch.isfinite(part).all()):
        return ""
    shape = list(part.shape) if isinstance(part, Tensor) else type(part).__name__
    return f"a {name} reference of shape {shape}, or not finite"
