"""One shot of a storyboard: what decides its bytes. Nothing here needs a model."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

from ..conditioning import person as references
from ..errors import OviError
from ..media import drift_correction
from ..media.images import checked_images
from ..media.video_file import Streams
from ..spec import FPS, SAMPLE_RATE, VARIANTS, ClipShape, Overlap, Variant
from ..text import cast_prompt, prompt_builder
from .script import HIGHEST_SEED, Person, Shot

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
        people: of the cast, in the order of their references.
        reference: strengths of the guidance by faces and by voices.
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
    people: tuple[Person, ...] = ()
    reference: tuple[float, float] = (0.0, 0.0)
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


class Voice(NamedTuple):
    """A recording around the second that is taken of it.

    Attributes:
        audio: ComfyUI's AUDIO.
        start: second of ``audio`` at which that second begins.
        skipped: seconds of the file before ``audio``.
    """

    audio: dict[str, Any]
    start: float
    skipped: float


LoadVoice = Callable[[str, float], Voice]
"""Returns the voice of a file name, from a second of the file on."""


def no_voices(name: str, start: float) -> Voice:
    """A :data:`LoadVoice` for scripts without a cast."""
    raise OviError(
        input="voice",
        found=f"'{name}', for which there is no way to load it",
        accepted="a cast of faces alone",
        remedy="Take the voice out of the cast.",
    )


def plan_shots(
    shots: list[Shot],
    settings: Settings,
    identity: str,
    start_image: bool,
    load_image: LoadImage,
    load_voice: LoadVoice = no_voices,
) -> list[Plan]:
    """Plans of all shots of a script.

    Args:
        identity: of what makes the shots, :meth:`.maker.Maker.identity`.
        start_image: whether there is one, for a first shot that names no picture.
        load_image: called once for each shot with a picture, so that a missing one is reported before any work, and
            for each face.
        load_voice: called once for each voice of the people that shots name.

    Raises:
        OviError: a shot that cannot be made, with its line.
    """
    plans: list[Plan] = []
    cast: dict[Person, tuple[str, str, float]] = {}
    for shot in shots:
        for person in shot.people:
            if person not in cast:
                with _line_reported(f"of '{person.name}' in line {person.line}"):
                    cast[person] = _content_of(person, load_image, load_voice)
        with _line_reported(f"in the shot of line {shot.line}"):
            name = shot.picture or (START_IMAGE if start_image and not plans else "")
            planned = _planned(shot, name, plans[-1] if plans else None, settings)
            content = _hash_of_image(load_image(name), name) if name else ""
        people = [cast[person] for person in shot.people]
        plans.append(replace(planned, key=_key(planned, settings, identity, content, people)))
    return plans


def hash_of(value: Any) -> str:
    """32 hexadecimal digits that stand for a value of JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def _planned(shot: Shot, image: str, before: Plan | None, settings: Settings) -> Plan:
    variant = VARIANTS[settings.variant]
    clip = ClipShape.from_seconds(settings.width, settings.height, shot.seconds or variant.seconds)
    timed = replace(variant, seconds=round(clip.seconds, 1))
    prompt, report = _prompt(shot, timed)
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
        people=shot.people,
        reference=_reference(shot, variant),
    )


def _prompt(shot: Shot, variant: Variant) -> tuple[str, str]:
    """The prompt of a shot, and a report of it."""
    people, notes = shot.people, []
    if people and variant.people:
        named = [(person.name, person.description) for person in people]
        prompt, report = cast_prompt.build(named, shot.scene, shot.speech, variant)
    else:
        prompt, report = prompt_builder.build(shot.scene, shot.speech, "" if variant.people else shot.sound, variant)
    if shot.sound and variant.people:
        notes.append(f"The weights of {variant.name} read no description of the sound: 'sound:' is left out.")
    if people and not variant.people:
        notes.append(f"Warning: {references.without_people(variant)}")
    if variant.people and not people:
        notes.append(f"Warning: {references.with_people(variant)} This shot has none.")
    faces, voices = ([k for k, person in enumerate(people) if getattr(person, part)] for part in ("face", "voice"))
    notes += [f"Warning: {note}" for note in references.slot_notes(faces, voices)]
    return prompt, "\n".join([report, *notes])


def _reference(shot: Shot, variant: Variant) -> tuple[float, float]:
    """Strengths of the guidance by faces and by voices; 0 where there are none."""
    chosen = shot.reference or (variant.sampling.video_reference, variant.sampling.audio_reference)
    given = (any(person.face for person in shot.people), any(person.voice for person in shot.people))
    return chosen[0] * given[0], chosen[1] * given[1]


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
def _line_reported(where: str) -> Iterator[None]:
    """An OviError that passes names where in the script its reason stands."""
    try:
        yield
    except OviError as error:
        error.found = f"{where}, {error.input}: {error.found}"
        error.input = "script"
        raise


def _key(plan: Plan, settings: Settings, identity: str, image: str, people: list[tuple[str, str, float]]) -> str:
    """The names in it are those under which shots were first stored; shots without people know nothing of them."""
    previous, negatives = plan.previous, (settings.video_negative, settings.audio_negative)
    cast = {"people": (people, plan.reference)} if people else {}
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
            **cast,
        }
    )


def _hash_of_image(image: Tensor, name: str) -> str:
    checked = checked_images(image, name)
    return hashlib.sha256(str(list(checked.shape)).encode() + checked.cpu().numpy().tobytes()).hexdigest()


def _content_of(person: Person, load_image: LoadImage, load_voice: LoadVoice) -> tuple[str, str, float]:
    """Hashes of a face and a voice, and where the voice begins: what makes two people the same, whatever their names.

    Raises:
        OviError: a file that is missing or cannot be read, a face that is too small, a voice that is too short or
            silent.
    """
    face = _hash_of_face(person.face, load_image) if person.face else ""
    if not person.voice:
        return face, "", 0.0
    voice = load_voice(person.voice, person.voice_start)
    references.voice_second(voice.audio, voice.start, skipped=voice.skipped)
    samples = voice.audio["waveform"].float().cpu()
    form = str((list(samples.shape), voice.audio["sample_rate"], voice.start))
    return face, hashlib.sha256(form.encode() + samples.numpy().tobytes()).hexdigest(), person.voice_start


def _hash_of_face(name: str, load_image: LoadImage) -> str:
    try:
        return _hash_of_image(load_image(name), "face")
    except OviError as error:
        error.input = "face"
        raise
