"""Stages ``latents`` and ``finish-latents``: encode the twin's training clips once, into files that its stages read.

A file holds a few clips of one bucket; files that are there are not made again. They lie in a folder named after the
VAEs' weights, so that latents of other VAEs are never mixed in.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from ovi_native.ovi_core.spec import ClipShape
from tqdm.auto import tqdm

from ..training.config import PER_FILE, Bucket, Config
from ..training.loop import Options
from ..training.workers import made_ahead
from ..world.casting import draw_scene, drawn_kind
from ..world.scene import Scene
from .autoencoders import Autoencoders, fingerprint

NAME = "latents"
Key = tuple[int, int]  # of a file: its bucket, and which part of it
Rendered = tuple[np.ndarray, np.ndarray]  # frames and sounds of its clips
AT_ONCE = 8  # clips; small convolutions are faster on several, and a card takes a whole file


def encode_all(config: Config, options: Options) -> bool:
    """Make every file that is missing, within ``options.minutes``; True if all are there."""
    folder = options.folder / NAME / fingerprint(options.folder)
    missing = [
        (bucket, part)
        for bucket in range(len(config.twin.buckets))
        for part in range(_parts(config.twin.buckets[bucket]))
        if not _file(folder, config.twin.buckets[bucket], part).exists()
    ]
    missing.sort(key=lambda key: key[1] / _parts(config.twin.buckets[key[0]]))  # of all buckets the same share is there
    start = time.monotonic()
    make: Callable[[Key], Rendered | None] = partial(encode_part, config, options.folder, options.device)
    if options.device != "cpu":  # a card, which one process feeds better than many that share it
        make = partial(render_part, config)
    with made_ahead(make, missing, options.workers) as made, tqdm(total=len(missing), desc=NAME) as bar:
        for done, (key, rendered) in enumerate(made, start=1):
            if rendered is not None:
                encode_rendered(config, options.folder, options.device, key, rendered)
            bar.update()
            if time.monotonic() - start > 60 * options.minutes:
                return done == len(missing)
    return True


def scene_of(config: Config, bucket: int, index: int) -> Scene:
    """The scene of clip ``index`` of a bucket."""
    settings = config.twin.buckets[bucket]
    clip = ClipShape.from_seconds(settings.width, settings.height, settings.seconds)
    return draw_scene(_seed(config, bucket, index), clip, kind=settings.kind or None)


@cache
def frequencies(config: Config, bucket: int) -> np.ndarray:
    """How often each clip of a bucket is seen [N], 1 for most: those of ``Twin.often`` are seen more often."""
    often, settings = dict(config.twin.often), config.twin.buckets[bucket]
    kinds = (settings.kind or drawn_kind(_seed(config, bucket, index)) for index in range(settings.clips))
    return np.array([often.get(kind, 1.0) for kind in kinds])


@cache
def _sums(config: Config, bucket: int) -> np.ndarray:
    return frequencies(config, bucket).cumsum()


def draw_clips(config: Config, bucket: int, step: int, rng: np.random.Generator) -> np.ndarray:
    """A batch of clips, by their frequencies among those that the step may draw from."""
    settings, sums = config.twin.buckets[bucket], _sums(config, bucket)
    batch = max(1, round(config.twin.batch_share * settings.batch))
    return np.searchsorted(sums, rng.random(batch) * sums[settings.known(step) - 1], side="right")


def _seed(config: Config, bucket: int, index: int) -> int:
    return 100_000_000 * (config.seed + 1) + 1_000_000 * bucket + config.twin.buckets[bucket].first + index


def encode_part(config: Config, folder: Path, device: str, key: Key) -> None:
    """Render and encode the clips of one file, (bucket, part)."""
    encode_rendered(config, folder, device, key, render_part(config, key))


def render_part(config: Config, key: Key) -> Rendered:
    """Frames [N, F, H, W, 3] in 0..255, as video files hold them, and sounds [N, S] of one file's clips."""
    from ..world.render import render

    bucket, part = key
    indices = range(part * PER_FILE, min((part + 1) * PER_FILE, config.twin.buckets[bucket].clips))
    clips = [render(scene_of(config, bucket, index)) for index in indices]
    frames = [(255 * clip.frames).round().astype(np.uint8) for clip in clips]
    return np.stack(frames), np.stack([clip.sound for clip in clips])


def encode_rendered(config: Config, folder: Path, device: str, key: Key, rendered: Rendered) -> None:
    """Encode what :func:`render_part` made, and write its file."""
    autoencoders = _autoencoders(config, folder, device)
    frames, sounds = rendered
    at_once = AT_ONCE if device == "cpu" else PER_FILE
    parts = [slice(start, start + at_once) for start in range(0, len(frames), at_once)]
    latents = [autoencoders.encode(frames[part] / np.float32(255), sounds[part]) for part in parts]
    file = _file(folder / NAME / fingerprint(folder), config.twin.buckets[key[0]], key[1])
    file.parent.mkdir(parents=True, exist_ok=True)
    partial_file = file.with_suffix(f".{os.getpid()}.partial")
    with open(partial_file, "wb") as out:
        video, audio = (torch.cat([clips[tower] for clips in latents]).half().numpy() for tower in (0, 1))
        np.savez(out, video=video, audio=audio)
    os.replace(partial_file, file)


@cache
def _autoencoders(config: Config, folder: Path, device: str) -> Autoencoders:
    return Autoencoders(config, device, folder)


class Pool:
    """The encoded clips of a bucket in memory, read as far as they are asked for.

    Attributes:
        video: [N, 48, T, h, w], float16.
        audio: [N, 20, L], float16.
    """

    def __init__(self, config: Config, folder: Path, bucket: int, device: str, patience: float = 0.0):
        self.settings, self.patience, self.parts = config.twin.buckets[bucket], patience, 0
        self.place = folder / NAME / fingerprint(folder)
        clip = ClipShape.from_seconds(self.settings.width, self.settings.height, self.settings.seconds)
        shapes = clip.video_shape(self.settings.clips), clip.audio_shape(self.settings.clips)
        self.video, self.audio = (torch.empty(shape, dtype=torch.float16, device=device) for shape in shapes)

    def reach(self, clips: int) -> None:
        """Read files until so many clips are there; wait ``patience`` seconds for one that is still made.

        Raises:
            FileNotFoundError: one is not encoded yet; the message says so.
        """
        while self.parts * PER_FILE < clips:
            file, start = _file(self.place, self.settings, self.parts), time.monotonic()
            while not file.exists():
                if time.monotonic() - start >= self.patience:
                    raise FileNotFoundError(
                        f"There is no {file}: train the stage '{NAME}' first ('finish-latents' for 'finish')."
                    )
                time.sleep(0.1)
            first = self.parts * PER_FILE
            with np.load(file) as arrays:
                for name in ("video", "audio"):
                    getattr(self, name)[first : first + PER_FILE] = torch.from_numpy(arrays[name])
            self.parts += 1


def _parts(bucket: Bucket) -> int:
    return -(-bucket.clips // PER_FILE)


def _file(folder: Path, bucket: Bucket, part: int) -> Path:
    kind = f"_{bucket.kind.replace(' ', '_')}" if bucket.kind else ""
    size = f"{bucket.width}x{bucket.height}_{bucket.seconds:g}s{kind}"
    return folder / size / f"{bucket.first // PER_FILE + part:05d}.npz"
