"""One shot of a storyboard: what decides its bytes. Nothing here needs a model."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ..errors import OviError
from ..media import drift_correction
from ..media.images import checked_images
from ..media.video_file import Streams
from ..spec import FPS, SAMPLE_RATE, VARIANTS, ClipShape, Overlap
from ..text import prompt_builder
from .script import HIGHEST_SEED, Shot

RECIPE = 1
"""Goes up when the same plan makes other bytes than before, so that no old shot is taken for a new one."""
START_IMAGE = "the input start_image"


@dataclass(frozen=True)
class Settings:
    """What applies to every shot; as the node's inputs of these names.

    Attributes:
        correct: one of ``drift_correction.CORRECTIONS``, for shots that go on.
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


@dataclass(frozen=True, eq=False)
class Plan:
    """A shot with all that is needed to make it.

    Attributes:
        number: from 1.
        line: of the script.
        clip: its size and length.
        streams: its size, rates and channels, as they stand in files.
        report: of the prompt builder, on the speech.
        guidance: strengths for video and audio.
        overlap: with the shot before; of 0 frames after a cut.
        image: file name of the first frame, :data:`START_IMAGE`, or empty.
        previous: the shot that it goes on from; None after a cut.
        key: hash of all that decides the shot's bytes.
    """

    number: int
    line: int
    clip: ClipShape
    streams: Streams
    prompt: str
    report: str
    seed: int
    guidance: tuple[float, float]
    overlap: Overlap
    image: str
    previous: Plan | None
    key: str = ""

    @property
    def first(self) -> Plan:
        """The shot after the last cut: this one, or the one that those before it go on from."""
        plan = self
        while plan.previous:
            plan = plan.previous
        return plan

    def shortened(self) -> Plan:
        """This plan without the shots between the first and the one before it: a thousand of them cannot be sent."""
        if not self.previous or self.previous is self.first:
            return self
        return replace(self, previous=replace(self.previous, previous=self.first))

    @property
    def guided(self) -> bool:
        """Whether a negative prompt changes anything."""
        return not all(math.isclose(strength, 1.0) for strength in self.guidance)


LoadImage = Callable[[str], Tensor]
"""Returns the image [1, H, W, 3] of a file name, or of :data:`START_IMAGE`."""


def plan_shots(
    shots: list[Shot], settings: Settings, identity: str, start_image: bool, load_image: LoadImage
) -> list[Plan]:
    """Plans of all shots of a script.

    Args:
        identity: of what makes the shots, :meth:`.maker.Maker.identity`.
        start_image: whether there is one, for a first shot that names no picture.
        load_image: called once for each shot with a picture, so that a missing one is reported before any work.

    Raises:
        OviError: a shot that cannot be made, with its line.
    """
    plans: list[Plan] = []
    for shot in shots:
        with _line_reported(shot):
            name = shot.picture or (START_IMAGE if start_image and not plans else "")
            planned = _planned(shot, name, plans[-1] if plans else None, settings)
            content = _hash_of_image(load_image(name), name) if name else ""
        plans.append(replace(planned, key=_key(planned, settings, identity, content)))
    return plans


def hash_of(value: Any) -> str:
    """32 hexadecimal digits that stand for a value of JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def _planned(shot: Shot, image: str, before: Plan | None, settings: Settings) -> Plan:
    variant = VARIANTS[settings.variant]
    clip = ClipShape.from_seconds(settings.width, settings.height, shot.seconds or variant.seconds)
    timed = replace(variant, seconds=round(clip.seconds, 1))
    prompt, report = prompt_builder.build(shot.scene, shot.speech, shot.sound, timed)
    previous = before if shot.goes_on else None
    overlap, seed = Overlap(0), settings.seed
    if previous:
        overlap = Overlap.from_seconds(settings.overlap_seconds, least=1)
        _check_overlap(overlap, previous.clip, clip)
        seed = (previous.seed + 1) % (HIGHEST_SEED + 1)
    return Plan(
        number=before.number + 1 if before else 1,
        line=shot.line,
        clip=clip,
        streams=Streams(clip.width, clip.height, FPS, SAMPLE_RATE),
        prompt=prompt,
        report=report,
        seed=seed if shot.seed is None else shot.seed,
        guidance=shot.guidance or (settings.video_cfg, settings.audio_cfg),
        overlap=overlap,
        image=image,
        previous=previous,
    )


def _check_overlap(overlap: Overlap, previous: ClipShape, clip: ClipShape) -> None:
    shortest = min(previous.seconds, clip.seconds)
    if previous.frames < overlap.frames or clip.latent_frames <= overlap.latent_frames:
        raise OviError(
            input="overlap_seconds",
            found=f"an overlap of {overlap.frames / FPS:.2f} s and a shot of {shortest:.2f} s",
            accepted="an overlap shorter than both shots",
            remedy="Make the shots longer, or overlap_seconds shorter.",
        )


@contextlib.contextmanager
def _line_reported(shot: Shot) -> Iterator[None]:
    """An OviError that passes names the shot and its line in the script."""
    try:
        yield
    except OviError as error:
        error.found = f"in the shot of line {shot.line}, {error.input}: {error.found}"
        error.input = "script"
        raise


def _key(plan: Plan, settings: Settings, identity: str, image: str) -> str:
    """The names in it are those under which shots were first stored."""
    previous, negatives = plan.previous, (settings.video_negative, settings.audio_negative)
    return hash_of(
        {
            "recipe": RECIPE,
            "models": identity,
            "clip": (plan.clip.width, plan.clip.height, plan.clip.latent_frames),
            "prompt": (plan.prompt, settings.variant),
            "guidance": plan.guidance,
            "negative": (*negatives, settings.skip_layers) if plan.guided else None,
            "run": (plan.seed, settings.solver, settings.steps, settings.shift, settings.tiled),
            "picture": image,
            "last": previous and (previous.key, plan.overlap.latent_frames, settings.correct),
        }
    )


def _hash_of_image(image: Tensor, name: str) -> str:
    checked = checked_images(image, name)
    return hashlib.sha256(str(list(checked.shape)).encode() + checked.cpu().numpy().tobytes()).hexdigest()
