"""Stage ``twin``: the twin transformer and the text encoder learn, together, what the encoded clips show and say.

Stage ``finish`` goes on from it with what is still drawn worst.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from ovi_native.ovi_core.spec import ClipShape
from torch import Tensor, nn
from torch.nn.functional import pad

from ..measure.checks import Sync, judge, measure, sync
from ..training import data_parallel, networks
from ..training.config import Config
from ..training.flow import Model, Question, ask, flow_errors, sample, text_room, texts_of
from ..training.gradients import learn_compiled, learn_quickly
from ..training.loop import copied, generator, seed_of, start_from, trained_weights
from ..training.tokenizer import Tokenizer, learn_pieces
from ..world.captions import caption
from ..world.casting import draw_scene
from ..world.render import render
from .autoencoders import Autoencoders
from .latent_cache import Pool, draw_clips, scene_of
from .preview_sheets import picture_rows, save_sheet, sound_row

NAME, FINISH_NAME = "twin", "finish"
PIECES = "pieces.model"  # the tokenizer
PREVIEW_SEEDS = range(8_000_000, 8_000_008)


@dataclass(frozen=True)
class Batch:
    """What a step sees, as arrays, which go quickly from one process to another.

    Attributes:
        clips: which of the bucket's [B].
        ids, mask: of their prompts [2 B, S], the video tower's first.
        asked: what a :class:`~tools.mini.training.flow.Question` holds.
    """

    bucket: int
    clips: np.ndarray
    ids: np.ndarray
    mask: np.ndarray
    asked: tuple[np.ndarray, ...]


class TwinStage:
    """See :class:`~tools.mini.training.loop.Stage`.

    Args:
        patience: seconds to wait for clips that another process is still encoding.
        compiled: whether the twin's blocks are compiled.
        name: ``twin``, or ``finish`` to go on from what that has learned, by the settings of its own.
    """

    def __init__(
        self,
        config: Config,
        device: str,
        folder: Path,
        patience: float = 0.0,
        compiled: bool = False,
        name: str = NAME,
    ):
        if name == FINISH_NAME:
            config = config.finishing()
        self.name = name
        self.config, self.device, self.folder = config, device, folder
        self.learning, self.mixed = config.twin.learning, device == "cpu"
        twin, text = networks.twin(config, device), networks.text_encoder(config, device)
        if compiled:
            learn_compiled()
        else:
            learn_quickly(twin)
        self.module = nn.ModuleDict({"twin": twin, "text": text})
        if name == FINISH_NAME:
            self.module.load_state_dict(trained_weights(folder, NAME))
        else:
            start_from(self.module, folder, name, device)
        vocabulary = pieces(config, folder)
        self.model = Model(twin, text, Tokenizer(vocabulary), rounded=device != "cpu", eight_bit=config.twin.eight_bit)
        self.pools = [Pool(config, folder, bucket, device, patience) for bucket in range(len(config.twin.buckets))]
        for bucket, pool in zip(config.twin.buckets, self.pools, strict=True):
            pool.reach(bucket.known(0))
        self.make_batch = partial(make_batch, config, name, vocabulary)
        self._autoencoders: Autoencoders | None = None

    def loss(self, step: int, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error of both velocities."""
        return self.errors(*self.inputs(step, batch))

    def inputs(self, step: int, batch: Batch) -> tuple[Tensor, ...]:
        """This process' share of a batch on the device: latents, noise, texts, and what is asked."""
        process, processes = data_parallel.share()
        pool, share = self.pools[batch.bucket], slice(process, None, processes)
        pool.reach(self.config.twin.buckets[batch.bucket].known(step))
        clips = self._moved(batch.clips[share])
        latents = pool.video[clips].float(), pool.audio[clips].float()
        source = generator(self.config, self.name, step, process, self.device)
        noises = (torch.randn(part.shape, generator=source, device=self.device) for part in latents)
        texts = (part.reshape(2, len(part) // 2, -1)[:, share] for part in (batch.ids, batch.mask))
        texts = (self._moved(part.reshape(-1, part.shape[-1])) for part in texts)
        return *latents, *noises, *texts, *(self._moved(part[share]) for part in batch.asked)

    def errors(self, *inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and its parts, of what :meth:`inputs` gives."""
        video, audio, video_noise, audio_noise, ids, mask, *asked = inputs
        contexts = self.model.encoded(ids, mask)
        # The compiler takes a minute for each shape: only that of nearly all batches is worth it.
        usual = self.pools[0].video.shape[2:] == video.shape[2:]
        with torch.compiler.set_stance("default" if usual else "force_eager"):
            of_video, of_audio = flow_errors(
                self.model, Question(*asked), (video, audio), (video_noise, audio_noise), contexts
            )
        loss = of_video + self.config.twin.audio_weight * of_audio
        return loss, {"video": of_video, "audio": of_audio}

    def _moved(self, array: np.ndarray) -> Tensor:
        """On the device, without waiting for what it is doing."""
        part = torch.from_numpy(np.ascontiguousarray(array))
        return part if self.device == "cpu" else part.pin_memory().to(self.device, non_blocking=True)

    def preview(self, file: Path) -> dict[str, float]:
        """Clips for held-out prompts, with sound and marks; and for given videos, their sound.

        Events of the picture are marked on the upper spectrogram's edge, onsets of the sound below it.
        """
        if self._autoencoders is None:
            self._autoencoders = Autoencoders(self.config, self.device, self.folder)
        bucket = self.config.twin.buckets[0]
        clip = ClipShape.from_seconds(bucket.width, bucket.height, bucket.seconds)
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


def make_batch(config: Config, name: str, vocabulary: bytes, step: int) -> Batch:
    """Clips of one bucket, a wording for each, and what is asked, in a step of the stage ``name``."""
    rng = np.random.default_rng([seed_of(config, name, step)])
    buckets = config.twin.buckets
    shares = np.array([bucket.share for bucket in buckets])
    bucket = int(rng.choice(len(buckets), p=shares / shares.sum()))
    clips = draw_clips(config, bucket, step, rng)
    prompts = [caption(scene_of(config, bucket, int(clip)), int(rng.integers(1 << 31))) for clip in clips]
    source = generator(config, f"{name} questions", step)
    video, audio = texts_of(config.twin, prompts, source)
    settings = buckets[bucket]
    clip = ClipShape.from_seconds(settings.width, settings.height, settings.seconds)
    question = ask(config.twin, len(clips), clip.video_shape(1)[2], clip.audio_shape(1)[2], source)
    ids, mask = _tokenizer(vocabulary)([*video, *audio])
    ids, mask = (pad(part, (0, text_room(part.shape[1]) - 1 - part.shape[1])).numpy() for part in (ids, mask))
    return Batch(bucket, clips, ids, mask, tuple(part.numpy() for part in vars(question).values()))


@cache
def _tokenizer(vocabulary: bytes) -> Tokenizer:
    return Tokenizer(vocabulary)


def pieces(config: Config, folder: Path) -> bytes:
    """The tokenizer's model, learned once."""
    file = folder / NAME / PIECES
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(learn_pieces(config))
    return file.read_bytes()
