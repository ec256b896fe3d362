"""Shots made in another process, perhaps on another machine, by models that it loads itself."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import OviError
from ..loading.loader import load_model
from ..text.umt5 import read_text_encoder
from ..vae.audio_vae import read_audio_vae
from ..vae.video_vae import read_video_vae
from .comfyui import loaded_from
from .models import Models
from .plan import Plan, Settings, Voice
from .shot_maker import ShotMaker
from .shot_store import Store

MADE, REFUSED = b"+", b"-"
"""First byte of an answer: a shot's file follows, or what was refused as JSON."""


@dataclass(frozen=True)
class Loaded:
    """How models were loaded, and what they then were.

    Attributes:
        model, clip, vae, audio_vae: what their loaders were given: paths of files, and the type of the model's weights.
        patches: of the model's weights, LoRAs for instance, as ComfyUI stores them.
        identity: :meth:`.models.Models.identity` of all four.
    """

    model: tuple
    clip: tuple
    vae: tuple
    audio_vae: tuple
    patches: dict[str, list]
    identity: str

    @classmethod
    def of(cls, models: Models, identity: str) -> Loaded:
        """Raises OviError where no file is known that the models were loaded from."""
        patchers = (models.model, models.clip.patcher, models.vae.patcher, models.audio_vae.patcher)
        known = [loaded_from(patcher) for patcher in patchers]
        if None in known:
            input = ("model", "clip", "vae", "audio_vae")[known.index(None)]
            raise OviError(
                input=input,
                found="one that no file is known of",
                accepted="models that other machines can load from the same files",
                remedy="Load it with Load Ovi (all in one) or the loaders of its own, or leave farm empty.",
            )
        model, clip, vae, audio_vae = (loaded for loaded in known if loaded)
        clip_path = clip[0] if isinstance(clip[0], str) else clip[0][0]
        return cls(tuple(model), (clip_path,), (vae[0],), tuple(audio_vae[:2]), models.model.patches, identity)

    def load(self) -> Models:
        """The models, from files at the same paths.

        Raises:
            OviError: a file that is missing or another, or a model that had been changed in other ways than by patches.
        """
        with torch.inference_mode():  # as shots are made: ComfyUI cannot move other quantized weights within it
            model = load_model(*self.model)
            model.patches = self.patches
            clip, vae = read_text_encoder(*self.clip), read_video_vae(*self.vae)
            models = Models(model, clip, vae, read_audio_vae(*self.audio_vae))
        if models.identity() != self.identity:
            raise OviError(
                input="farm",
                found="models that became others when another machine loaded them",
                accepted="models as their files have them, with LoRAs, on machines of one kind",
                remedy="Take nodes such as caches and model patches from between loader and storyboard, or leave farm "
                "empty.",
            )
        return models


@dataclass(frozen=True)
class Media:
    """What the files hold that a shot needs, for a machine that does not have them.

    Attributes:
        images: [1, H, W, 3] by the names of their files: a first frame, and faces.
        voices: by the names of their files and the seconds from which on they are taken.
    """

    images: dict[str, Tensor]
    voices: dict[tuple[str, float], Voice]

    @classmethod
    def of(cls, plan: Plan, maker: ShotMaker) -> Media:
        """Read the files of a shot."""
        names = {name for name in (plan.image, *(person.face for person in plan.people)) if name}
        voices = {(person.voice, person.voice_start) for person in plan.people if person.voice}
        return cls(
            {name: maker.load_image(name).float().cpu() for name in names},
            {voice: maker.load_voice(*voice) for voice in voices},
        )

    def as_arrays(self) -> tuple[dict, dict]:
        """As Ray sends it: arrays and numbers."""
        voices = {
            key: (audio["waveform"].float().cpu().numpy(), audio["sample_rate"], start, skipped)
            for key, (audio, start, skipped) in self.voices.items()
        }
        return {name: image.numpy() for name, image in self.images.items()}, voices

    @classmethod
    def from_arrays(cls, images: dict, voices: dict) -> Media:
        """What :meth:`as_arrays` returned."""
        return cls(
            {name: torch.from_numpy(image) for name, image in images.items()},
            {
                key: Voice({"waveform": torch.from_numpy(waveform), "sample_rate": rate}, start, skipped)
                for key, (waveform, rate, start, skipped) in voices.items()
            },
        )


class FarmWorker:
    """Makes shots that come and go as the bytes of their files."""

    def __init__(self, loaded: Loaded, settings: Settings):
        self.folder = tempfile.TemporaryDirectory(prefix="ovi_story_")
        self.store = Store(Path(self.folder.name))
        self.media = Media({}, {})
        self.maker = ShotMaker(
            loaded.load(),
            settings,
            self.store,
            lambda name: self.media.images[name],
            lambda name, start: self.media.voices[name, start],
        )

    def make(self, plan: Plan, before: dict[str, bytes], media: tuple[dict, dict]) -> bytes:
        """A shot's file.

        Args:
            plan: :meth:`.plan.Plan.shortened`.
            before: files of the shots that it needs, by their keys.
            media: :meth:`Media.as_arrays`.
        """
        self.media = Media.from_arrays(*media)
        with torch.inference_mode():
            for shot in {shot for shot in (plan.previous, plan.first) if shot and shot is not plan}:
                self.store.put(shot, before[shot.key])
            self.maker.make(plan, lambda step, steps, preview: None)
        made = self.store.shot(plan.key).read_bytes()
        for file in self.store.shot(plan.key).parent.iterdir():
            file.unlink()
        return made


def answer(work: Callable[[], bytes]) -> bytes:
    """What ``work`` returns, or the error that it raises, as bytes that say which."""
    try:
        return MADE + work()
    except OviError as error:
        problem = error
    except Exception as error:  # raised in another process, where nobody would read it
        problem = OviError(
            input="farm",
            found=f"a worker that failed ({type(error).__name__}: {error})",
            accepted="machines that can make shots",
            remedy="Look into Ray's log on the machines, or leave farm empty.",
        )
    names = ("input", "found", "accepted", "remedy")
    return REFUSED + json.dumps({name: getattr(problem, name) for name in names}).encode()


def file_in(answer: bytes) -> bytes:
    """The shot's file in an answer; no byte of an answer is run or unpickled.

    Raises:
        OviError: what the worker has refused, or no answer of a worker.
    """
    if answer[:1] == MADE:
        return answer[1:]
    try:
        parts = json.loads(answer[1:]) if answer[:1] == REFUSED else {}
        raised = OviError(**{name: str(parts[name]) for name in ("input", "found", "accepted", "remedy")})
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise strange_answer() from error
    raise raised


def strange_answer() -> OviError:
    """The error for bytes that no worker of this pack gives."""
    return OviError(
        input="farm",
        found="an answer that is neither a shot nor an error",
        accepted="workers of this pack",
        remedy="Use the same version of this pack on all machines, and look into Ray's log.",
    )
