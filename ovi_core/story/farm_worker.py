"""Shots made in another process, perhaps on another machine, by models that it loads itself."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import OviError
from ..loading.loader import load_model
from ..text.umt5 import read_text_encoder
from ..vae.audio_vae import read_audio_vae
from ..vae.video_vae import read_video_vae
from .models import Models
from .plan import Plan, Settings
from .shot_maker import Maker
from .shot_store import Store


@dataclass(frozen=True)
class Loaded:
    """How models were loaded, and what they then were.

    Attributes:
        model, clip, vae, audio_vae: what their loaders were given: paths of files, and the type of the model's weights.
        patches: of the model's weights, LoRAs for instance, as ComfyUI keeps them.
        identity: :meth:`.shots.Models.identity` of all four.
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
        known = [getattr(patcher, "cached_patcher_init", None) for patcher in patchers]
        if None in known:
            input = ("model", "clip", "vae", "audio_vae")[known.index(None)]
            raise OviError(
                input=input,
                found="one that no file is known of",
                accepted="models that other machines can load from the same files",
                remedy="Load it with Load Ovi (all in one) or the loaders of its own, or leave farm empty.",
            )
        model, clip, vae, audio_vae = (made[1] for made in known if made)
        clip_path = clip[0] if isinstance(clip[0], str) else clip[0][0]
        return cls(tuple(model), (clip_path,), (vae[0],), tuple(audio_vae[:2]), models.model.patches, identity)

    def load(self) -> Models:
        """The models, from files at the same paths.

        Raises:
            OviError: a file that is missing or another, or a model that had been changed in other ways than by patches.
        """
        with torch.inference_mode():  # as shots are made: of quantised weights ComfyUI cannot move others within it
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


class Workshop:
    """Makes shots that come and go as the bytes of their files."""

    def __init__(self, loaded: Loaded, settings: Settings):
        self.folder = tempfile.TemporaryDirectory(prefix="ovi_story_")
        self.store = Store(Path(self.folder.name))
        self.picture: Tensor | None = None
        self.maker = Maker(loaded.load(), settings, self.store, lambda name: self.picture)

    def make(self, plan: Plan, before: dict[str, bytes], picture: Any) -> bytes:
        """A shot's file, made from the files of those ``before`` that it needs, by their keys, and its picture."""
        self.picture = None if picture is None else torch.from_numpy(picture)
        with torch.inference_mode():
            for key, shot in before.items():
                self.store.put(key, shot)
            self.maker.make(plan, lambda step, steps, preview: None)
        made = self.store.shot(plan.key).read_bytes()
        for key in (*before, plan.key):
            self.store.shot(key).unlink()
        return made
