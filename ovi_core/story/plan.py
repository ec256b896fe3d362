"""One shot: what decides its bytes, and how it is made."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import latent_preview
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..conditioning import extend, keyframes
from ..decoding.decode import check_audio_vae, decode
from ..errors import OviError
from ..latents import joint
from ..media import drift_correction
from ..media.concat import Overlap, samples_before, without_fill
from ..model.base_model import AUDIO_TEXT
from ..sampling import sample
from ..sampling.guider import Guidance
from ..spec import FPS, SAMPLE_RATE, VARIANTS, Clip
from ..text import encode, prompt_builder
from .model_fingerprint import identity
from .script import Shot
from .shot_store import Store

RECIPE = 1
"""Goes up when the same plan makes other bytes than before, so that no old shot is taken for a new one."""
BEFORE_OVERLAP = FPS  # frames that are read before an overlap: more than the audio encoder looks back
START_IMAGE = "the input start_image"


class Models(NamedTuple):
    """The host's MODEL, CLIP and both VAEs."""

    model: Any
    clip: Any
    vae: Any
    audio_vae: Any

    def check(self) -> None:
        """Raise OviError unless all four are Ovi's."""
        sample.require_ovi(self.model)
        encode.umt5_sentencepiece(self.clip)
        keyframes.check_video_vae(self.vae)
        check_audio_vae(self.audio_vae)

    def identity(self) -> str:
        """What decides the results of all four; see :mod:`.identity`."""
        vaes = (self.vae, self.audio_vae)
        patchers = [self.model, self.clip.patcher, *(vae.patcher for vae in vaes)]
        tokenizer = hashlib.sha256(encode.umt5_sentencepiece(self.clip).serialized_model_proto()).hexdigest()
        return _hash([*map(identity, patchers), *(str(vae.vae_dtype) for vae in vaes), tokenizer])


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
    clip: Clip
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


def plan(shots: list[Shot], settings: Settings, models: str, start_image: bool, load: Pictures) -> list[Plan]:
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
    clip = Clip.from_seconds(settings.width, settings.height, shot.seconds or variant.seconds)
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


def _check_overlap(overlap: Overlap, last: Clip, clip: Clip) -> None:
    shortest = min(last.seconds, clip.seconds)
    if last.frames < overlap.frames or clip.video_steps <= overlap.video_steps:
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
    return _hash(
        {
            "recipe": RECIPE,
            "models": models,
            "clip": (plan.clip.width, plan.clip.height, plan.clip.video_steps),
            "prompt": (plan.prompt, settings.variant),
            "guidance": (guidance.video_cfg, guidance.audio_cfg),
            "negative": None if guidance.off else (*negatives, guidance.skip_layers),
            "run": (plan.seed, settings.solver, settings.steps, settings.shift, settings.tiled),
            "picture": picture,
            "last": plan.last and (plan.last.key, plan.overlap.video_steps, settings.correct),
        }
    )


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def _hash_of_picture(image: Tensor, picture: str) -> str:
    keyframes.check_picture(image, picture)
    return hashlib.sha256(str(list(image.shape)).encode() + image.float().cpu().numpy().tobytes()).hexdigest()


Step = Callable[[int, int, Any], None]
"""Told after every step of a run: steps done, of how many, and the host's preview or None."""


class Maker:
    """Makes shots with one set of models.

    Args:
        load: reads pictures.
    """

    def __init__(self, models: Models, settings: Settings, store: Store, load: Pictures):
        self.models, self.settings, self.store, self.load = models, settings, store, load
        self._negative: list | None = None

    def make(self, plan: Plan, step: Step) -> None:
        """Make a shot and put it into the store, where those that it goes on from are already.

        Raises:
            OviError: models or pictures that do not fit.
        """
        settings, models = self.settings, self.models
        positive, _ = encode.encode(models.clip, plan.prompt, VARIANTS[settings.variant])
        latent = sample.sample(
            _watched(models.model, step),
            positive,
            positive if plan.guidance.off else self._negatives(),
            plan.guidance,
            self._beginning(plan),
            settings.solver,
            sample.sigmas_for(settings.solver, settings.steps, settings.shift, 1.0),
            plan.seed,
        )
        made = decode(models.vae, models.audio_vae, latent, settings.tiled)
        images, sound = made.images, made.sound.cpu()
        if plan.last and settings.correct != drift_correction.OFF:
            images, sound = self._corrected(plan, plan.last, images, sound)
        self.store.write(plan.key, images, without_fill(sound, SAMPLE_RATE))

    def _negatives(self) -> list:
        """What both towers are to keep away from, encoded once."""
        if self._negative is None:
            variant = VARIANTS[self.settings.variant]
            (video, audio) = (
                encode.encode(self.models.clip, words, variant)[0][0]
                for words in (self.settings.video_negative, self.settings.audio_negative)
            )
            self._negative = [[video[0], {**video[1], AUDIO_TEXT: audio[0]}]]
        return self._negative

    def _beginning(self, plan: Plan) -> dict:
        """The LATENT that the run starts with: empty, with a first frame, or with the end of the shot before."""
        vae, clip = self.models.vae, plan.clip
        if plan.last:
            images, sound = self._end_of(plan.last, plan.overlap.frames + BEFORE_OVERLAP)
            audio = {"waveform": sound, "sample_rate": SAMPLE_RATE} if sound.numel() else None
            seconds = plan.overlap.frames / FPS
            return extend.extend(vae, self.models.audio_vae, images, audio, seconds, clip.seconds)[0]
        latent = {"samples": joint.empty(clip, 1, joint.TOWERS[0])}
        return keyframes.keep_start(vae, latent, self.load(plan.picture), "crop") if plan.picture else latent

    def _end_of(self, last: Plan, frames: int) -> tuple[Tensor, Tensor]:
        """The last ``frames`` of a shot, or up to 2 more, [F, H, W, 3] in 0..1, and their sound, [1, 1, S]."""
        start = max(0, last.clip.frames - frames) // 3 * 3  # 3 frames last a whole number of samples
        return self.store.images(last.key, start), self.store.sound(last.key)[..., samples_before(start, SAMPLE_RATE) :]

    def _corrected(self, plan: Plan, last: Plan, images: Tensor, sound: Tensor) -> tuple[Tensor, Tensor]:
        """Colours and loudness of a new shot brought to those of what it goes on from."""
        how, overlap = self.settings.correct, plan.overlap.frames
        start = self.store.images(plan.first.key, 0, drift_correction.REFERENCE * FPS)
        end = self.store.images(last.key, last.clip.frames - overlap)
        pull = drift_correction.correction(torch.cat((start, end)).to(images), images, overlap, how)
        first_sound = self.store.sound(plan.first.key)[..., : drift_correction.REFERENCE * SAMPLE_RATE]
        last_sound = self.store.sound(last.key)[..., samples_before(last.clip.frames - overlap, SAMPLE_RATE) :]
        heard = torch.cat((first_sound, last_sound), dim=-1)
        return pull.of_images(images), drift_correction.of_sound(heard, sound, first_sound.shape[-1], SAMPLE_RATE, how)


def _watched(model: Any, step: Step) -> Any:
    """The MODEL, which tells of the steps of a run; the host's own progress knows of one run only."""
    previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)

    def watch(
        executor: Any,
        noise: Tensor,
        latent: Tensor,
        sampler: Any,
        sigmas: Tensor,
        mask: Any,
        callback: Any,
        *more: Any,
        **named: Any,
    ) -> Any:
        def told(index: int, x0: Any, x: Any, steps: int) -> None:
            video = model.model.latent_format.hear(x0, model.model.latent_shapes)
            preview = previewer and previewer.decode_latent_to_preview_image("JPEG", video)
            step(index + 1, steps, preview)

        return executor(noise, latent, sampler, sigmas, mask, told, *more, **named)

    watched = model.clone()
    watched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "ovi_story", watch)
    return watched
