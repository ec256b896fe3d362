"""One shot: what decides its bytes, and how it is made."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from ..errors import OviError
from ..media import drift_correction
from ..media.images import check_picture
from ..media.overlap import Overlap
from ..sampling.guidance import Guidance
from ..spec import FPS, VARIANTS, ClipShape
from ..text import prompt_builder
from .models import hash_of
from .script import Shot

RECIPE = 1
"""Goes up when the same plan makes other bytes than before, so that no old shot is taken for a new one."""
START_IMAGE = "the input start_image"


@dataclass(frozen=True)
class Settings:
    """What holds for every shot of a story; as the node's inputs of these names.

    Attributes:
        correct: one of ``drift.CORRECTIONS``, for shots that go on.
        skip_layers: block pairs that the negative pass leaves out.
    """

    variant: str = "960x960_10s"
    width: int = 960
    height: int = 960
    overlap_seconds: float = 1.0
    correct: str = drift_correction.CORRECTIONS[0]
    seed: int = 0
    steps: int = 50
    video_cfg: float = 4.0
    audio_cfg: float = 3.0
    shift: float = 5.0
    solver: str = "unipc"
    skip_layers: tuple[int, ...] = (11,)
    video_negative: str = "jitter, bad hands, blur, distortion"
    audio_negative: str = "robotic, muffled, echo, distorted"
    tiled: str = "auto"


@dataclass(frozen=True)
class Plan:
    """A shot with all that is needed to make it.

    Attributes:
        number: from 1.
        line: of the script.
        report: of the prompt builder, on what is spoken.
        overlap: with the shot before; of 0 frames after a cut.
        picture: file name of the first frame, :data:`START_IMAGE`, or empty.
        last: the shot that it goes on from; None after a cut.
        key: hash of all that decides the shot's bytes.
    """

    number: int
    line: int
    clip: ClipShape
    prompt: str
    report: str
    seed: int
    guidance: Guidance
    overlap: Overlap
    picture: str
    last: Plan | None
    key: str = ""

    @property
    def first(self) -> Plan:
        """The shot after the last cut: itself, or where those that it goes on from began."""
        return self.last.first if self.last else self


Pictures = Callable[[str], Tensor]
"""The picture [1, H, W, 3] in 0..1 of a file name, or of :data:`START_IMAGE`."""


def plan_shots(shots: list[Shot], settings: Settings, models: str, start_image: bool, load: Pictures) -> list[Plan]:
    """Plans of all shots of a script.

    Args:
        models: :meth:`Models.identity`.
        start_image: whether there is one, for a first shot that names no picture.
        load: reads pictures; called once for each, so that a missing one is told before anything is made.

    Raises:
        OviError: a shot that cannot be made, told with its line.
    """
    plans: list[Plan] = []
    for shot in shots:
        with _told_of(shot):
            picture = shot.picture or (START_IMAGE if start_image and not plans else "")
            planned = _planned(shot, picture, plans[-1] if plans else None, settings)
            shown = _hash_of_picture(load(picture), picture) if picture else ""
        plans.append(replace(planned, key=_key(planned, settings, models, shown)))
    return plans


def _planned(shot: Shot, picture: str, last: Plan | None, settings: Settings) -> Plan:
    variant = VARIANTS[settings.variant]
    clip = ClipShape.from_seconds(settings.width, settings.height, shot.seconds or variant.seconds)
    timed = replace(variant, seconds=round(clip.seconds, 1))
    prompt, report = prompt_builder.build(shot.scene, shot.speech, shot.sound, timed)
    number = last.number + 1 if last else 1
    last = last if shot.goes_on else None
    overlap, seed = Overlap(0), settings.seed
    if last:
        overlap = Overlap.from_seconds(settings.overlap_seconds, least=1)
        _check_overlap(overlap, last.clip, clip)
        seed = (last.seed + 1) % 2**64
    guidance = Guidance(*(shot.guidance or (settings.video_cfg, settings.audio_cfg)), settings.skip_layers)
    seed = seed if shot.seed is None else shot.seed
    return Plan(number, shot.line, clip, prompt, report, seed, guidance, overlap, picture, last)


def _check_overlap(overlap: Overlap, last: ClipShape, clip: ClipShape) -> None:
    shortest = min(last.seconds, clip.seconds)
    if last.frames < overlap.frames or clip.latent_frames <= overlap.latent_frames:
        raise OviError(
            input="overlap_seconds",
            found=f"an overlap of {overlap.frames / FPS:.2f} s and a shot of {shortest:.2f} s",
            accepted="an overlap shorter than both shots",
            remedy="Make the shots longer, or overlap_seconds shorter.",
        )


@contextlib.contextmanager
def _told_of(shot: Shot) -> Iterator[None]:
    """An OviError that passes names the shot and its line in the script."""
    try:
        yield
    except OviError as error:
        error.found = f"in the shot of line {shot.line}, {error.input}: {error.found}"
        error.input = "script"
        raise


def _key(plan: Plan, settings: Settings, models: str, picture: str) -> str:
    guidance, negatives = plan.guidance, (settings.video_negative, settings.audio_negative)
    return hash_of(
        {
            "recipe": RECIPE,
            "models": models,
            "clip": (plan.clip.width, plan.clip.height, plan.clip.latent_frames),
            "prompt": (plan.prompt, settings.variant),
            "guidance": (guidance.video_cfg, guidance.audio_cfg),
            "negative": None if guidance.off else (*negatives, guidance.skip_layers),
            "run": (plan.seed, settings.solver, settings.steps, settings.shift, settings.tiled),
            "picture": picture,
            "last": plan.last and (plan.last.key, plan.overlap.latent_frames, settings.correct),
        }
    )


def _hash_of_picture(image: Tensor, picture: str) -> str:
    check_picture(image, picture)
    return hashlib.sha256(str(list(image.shape)).encode() + image.float().cpu().numpy().tobytes()).hexdigest()
