"""Stage ``twin``: the twin transformer and the text encoder learn, together, what the encoded clips show and say."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from ovi_native.ovi_core.spec import Clip
from torch import Tensor, nn

from . import networks, together
from .autoencoders import Autoencoders
from .captions import caption
from .casting import draw_scene
from .config import Config
from .flow import Model, ask, flow_errors, sample, texts_of
from .gradients import learn_quickly
from .latents import frequencies, load_bucket, scene_of
from .measure import Sync, judge, measure, sync
from .sheets import picture_rows, save_sheet, sound_row
from .tokenizer import Tokenizer, learn_pieces
from .training import copied, generator, seed_of, start_from
from .world import render

NAME = "twin"
PIECES = "pieces.model"  # the tokenizer
PREVIEW_SEEDS = range(8_000_000, 8_000_008)


@dataclass(frozen=True)
class Batch:
    """Which clips a step sees, and their prompts."""

    bucket: int
    clips: np.ndarray
    prompts: list[str]


class TwinStage:
    """See :class:`~tools.mini.training.Stage`."""

    name = NAME
    mixed = True

    def __init__(self, config: Config, device: str, folder: Path):
        self.config, self.device, self.folder = config, device, folder
        self.learning = config.twin.learning
        twin, text = networks.twin(config, device), networks.text_encoder(config, device)
        learn_quickly(twin)
        self.module = nn.ModuleDict({"twin": twin, "text": text})
        start_from(self.module, folder, NAME, device)
        self.model = Model(twin, text, Tokenizer(pieces(config, folder)))
        self.latents = [load_bucket(config, folder, bucket) for bucket in range(len(config.twin.buckets))]
        self.make_batch = partial(make_batch, config)
        self._autoencoders: Autoencoders | None = None

    def loss(self, step: int, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error of both velocities."""
        process, processes = together.share()
        settings, source = self.config.twin, generator(self.config, NAME, step, process)
        clips, prompts = batch.clips[process::processes], batch.prompts[process::processes]
        latents = tuple(part[clips].float().to(self.device) for part in self.latents[batch.bucket])
        question = ask(settings, len(clips), latents[0].shape[2], source)
        question = type(question)(*(part.to(self.device) for part in vars(question).values()))
        noises = tuple(torch.randn(part.shape, generator=source).to(self.device) for part in latents)
        contexts = self.model.contexts(*texts_of(settings, prompts, source))
        video, audio = flow_errors(self.model, question, latents, noises, contexts)
        return video + settings.audio_weight * audio, {"video": video, "audio": audio}

    def preview(self, file: Path) -> dict[str, float]:
        """Clips for held-out prompts, with sound and marks; and for given videos, their sound.

        Events of the picture are marked on the upper spectrogram's edge, onsets of the sound below it.
        """
        if self._autoencoders is None:
            self._autoencoders = Autoencoders(self.config, self.device, self.folder)
        bucket = self.config.twin.buckets[0]
        clip = Clip.from_seconds(bucket.width, bucket.height, bucket.seconds)
        scenes = [draw_scene(seed, clip, "held_out") for seed in PREVIEW_SEEDS]
        prompts = [caption(scene, 0) for scene in scenes]
        clips = [render(scene) for scene in scenes]
        frames, sounds = np.stack([made.frames for made in clips]), np.stack([made.sound for made in clips])
        given = self._autoencoders.encode(frames, sounds)[0]
        shapes = clip.video_shape(len(scenes)), clip.audio_shape(len(scenes))
        rows: list[np.ndarray] = []
        figures: dict[str, float] = {}
        for name, video in (("joint", None), ("to_sound", given)):
            source = generator(self.config, "preview", 0)
            made = sample(self.model, prompts, shapes, source, self.config.twin, clean_video=video)
            right, total = [], Sync()
            for i, latents in enumerate(zip(*made, strict=True)):
                frames, sound = self._autoencoders.decode(*latents)
                found = measure(frames, sound)
                right.append(judge(found, clips[i].truth).right)
                total += sync(found)
                if name == "joint" or i < 2:
                    row = picture_rows(frames)
                    rows += row, sound_row(sound, row.shape[1], list(found.events), found.seconds)
            figures |= {
                f"{name}_right": float(np.mean(right)),
                f"{name}_heard": total.heard_share,
                f"{name}_seen": total.seen_share,
                f"{name}_events": total.events,
            }
        save_sheet(rows, file)
        return figures

    def trained(self) -> dict[str, Tensor]:
        """Weights of both, under ``twin.`` and ``text.``."""
        return copied(self.module.state_dict())


def make_batch(config: Config, step: int) -> Batch:
    """Clips of one bucket and a wording for each."""
    rng = np.random.default_rng([seed_of(config, NAME, step)])
    buckets = config.twin.buckets
    shares = np.array([bucket.share for bucket in buckets])
    bucket = int(rng.choice(len(buckets), p=shares / shares.sum()))
    clips = rng.choice(buckets[bucket].clips, size=buckets[bucket].batch, p=frequencies(config, bucket))
    prompts = [caption(scene_of(config, bucket, int(clip)), int(rng.integers(1 << 31))) for clip in clips]
    return Batch(bucket, clips, prompts)


def pieces(config: Config, folder: Path) -> bytes:
    """The tokenizer's model, learned once."""
    file = folder / NAME / PIECES
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(learn_pieces(config))
    return file.read_bytes()
