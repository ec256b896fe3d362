"""Stage ``latents``: encodes the twin's training clips once, into files that the twin's stage reads.

A file holds a few clips of one bucket; files that are there are not made again. They lie in a folder named after the
VAEs' weights, so that latents of other VAEs are never mixed in.
"""

from __future__ import annotations

import os
import time
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from ovi_native.ovi_core.spec import Clip
from torch import Tensor
from tqdm.auto import tqdm

from .autoencoders import Autoencoders, fingerprint
from .casting import draw_scene, drawn_kind
from .config import Bucket, Config
from .things import Scene
from .training import Options
from .workers import made_ahead

NAME = "latents"
PER_FILE = 64  # clips
AT_ONCE = 8  # clips; small convolutions are faster on several


def encode_all(config: Config, options: Options) -> bool:
    """Make every file that is missing, within ``options.minutes``; True if all are there."""
    folder = options.folder / NAME / fingerprint(options.folder)
    missing = [
        (bucket, part)
        for bucket in range(len(config.twin.buckets))
        for part in range(_parts(config.twin.buckets[bucket]))
        if not _file(folder, config.twin.buckets[bucket], part).exists()
    ]
    start = time.monotonic()
    make = partial(encode_part, config, options.folder, options.device)
    with made_ahead(make, missing, options.workers) as made, tqdm(total=len(missing), desc=NAME) as bar:
        for done, _ in enumerate(made, start=1):
            bar.update()
            if time.monotonic() - start > 60 * options.minutes:
                return done == len(missing)
    return True


def scene_of(config: Config, bucket: int, index: int) -> Scene:
    """The scene of clip ``index`` of a bucket."""
    settings = config.twin.buckets[bucket]
    clip = Clip.from_seconds(settings.width, settings.height, settings.seconds)
    return draw_scene(_seed(config, bucket, index), clip)


@cache
def frequencies(config: Config, bucket: int) -> np.ndarray:
    """Share of each clip of a bucket in its batches [N]: those of ``Twin.often`` are seen more often."""
    often, clips = dict(config.twin.often), range(config.twin.buckets[bucket].clips)
    weights = np.array([often.get(drawn_kind(_seed(config, bucket, index)), 1.0) for index in clips])
    return weights / weights.sum()


def _seed(config: Config, bucket: int, index: int) -> int:
    return 100_000_000 * (config.seed + 1) + 1_000_000 * bucket + index


def encode_part(config: Config, folder: Path, device: str, key: tuple[int, int]) -> None:
    """Render and encode the clips of one file, (bucket, part)."""
    from .world import render

    bucket, part = key
    settings = config.twin.buckets[bucket]
    autoencoders = _autoencoders(config, folder, device)
    first, last = part * PER_FILE, min((part + 1) * PER_FILE, settings.clips)
    latents = []
    for start in range(first, last, AT_ONCE):
        clips = [render(scene_of(config, bucket, index)) for index in range(start, min(start + AT_ONCE, last))]
        frames, sounds = np.stack([clip.frames for clip in clips]), np.stack([clip.sound for clip in clips])
        latents.append(autoencoders.encode(frames, sounds))
    file = _file(folder / NAME / fingerprint(folder), settings, part)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial_file = file.with_suffix(f".{os.getpid()}.partial")
    with open(partial_file, "wb") as out:
        video, audio = (torch.cat([clips[tower] for clips in latents]).half().numpy() for tower in (0, 1))
        np.savez(out, video=video, audio=audio)
    os.replace(partial_file, file)


@cache
def _autoencoders(config: Config, folder: Path, device: str) -> Autoencoders:
    return Autoencoders(config, device, folder)


def load_bucket(config: Config, folder: Path, bucket: int) -> tuple[Tensor, Tensor]:
    """All latents of a bucket: [N, 48, T, h, w] and [N, 20, L], float16.

    Raises:
        FileNotFoundError: some are not encoded yet; the message says so.
    """
    settings = config.twin.buckets[bucket]
    place = folder / NAME / fingerprint(folder)
    videos, audios = [], []
    for part in range(_parts(settings)):
        file = _file(place, settings, part)
        if not file.exists():
            raise FileNotFoundError(f"There is no {file}: train the stage '{NAME}' first.")
        with np.load(file) as arrays:
            videos.append(torch.from_numpy(arrays["video"]))
            audios.append(torch.from_numpy(arrays["audio"]))
    return torch.cat(videos), torch.cat(audios)


def _parts(bucket: Bucket) -> int:
    return -(-bucket.clips // PER_FILE)


def _file(folder: Path, bucket: Bucket, part: int) -> Path:
    return folder / f"{bucket.width}x{bucket.height}_{bucket.seconds:g}s" / f"{part:05d}.npz"
