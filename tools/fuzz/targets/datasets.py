"""Clips of a dataset as any bytes, and what is kept of them beside them."""

from __future__ import annotations

import functools
import shutil
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import av
import numpy as np
import safetensors.torch
import torch
from ovi_native.ovi_core.spec import ClipShape
from ovi_native.ovi_core.training import dataset
from ovi_native.ovi_core.vae.audio_vae import load_audio_vae
from ovi_native.ovi_core.vae.video_vae import load_video_vae

from ... import standins
from .. import files
from ..mutate import mutated

SUFFIX = ".input"
ENDINGS = ("mp4", "mkv", "mov", "avi")
SHAPE = ClipShape(32, 32, 2)
KEPT = b"kept:"


@functools.cache
def _clip(ending: str, frames: int, rate: int, audio: bool, late: int) -> bytes:
    """A clip of 32x32 pixels; ``late``: milliseconds by which it starts after 0."""
    path = files.tiny_folder() / f"clip.{ending}"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=Fraction(rate), options={"preset": "ultrafast"})
        video.width = video.height = 32
        sound = container.add_stream("aac", rate=16000, layout="mono") if audio else None
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 8 * index % 256, np.uint8), format="rgb24")
            frame.pts, frame.time_base = index * 1000 // rate + late, Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound:
            block = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
            block.sample_rate, block.pts, block.time_base = 16000, late * 16, Fraction(1, 16000)
            container.mux([*sound.encode(block), *sound.encode(None)])
    return path.read_bytes()


def make(random: Random) -> bytes:
    if random.random() < 0.3:
        shapes = {"video": (1, 48, 2, 2, 2), "audio": (1, 20, 11)}
        kept = {
            name: torch.zeros(shape, dtype=torch.float16) for name, shape in shapes.items() if random.random() < 0.9
        }
        if random.random() < 0.5:
            kept[random.choice(("video", "audio", "x"))] = files.tensor(random).contiguous()
        out = safetensors.torch.save(kept)
        return KEPT + (mutated(random, out) if random.random() < 0.6 else out)
    ending = random.choice(ENDINGS)
    size = random.choice((1, 5, 9, 24)), random.choice((1, 8, 24, 30, 60)), random.random() < 0.7
    clip = _clip(ending, *size, random.choice((0, 0, 500, 1000)))
    return ending.encode() + b":" + (mutated(random, clip) if random.random() < 0.9 else clip)


@functools.cache
def _encoder() -> Any:
    vaes = load_video_vae(standins.video_vae(0)), load_audio_vae(standins.audio_vae(0))
    return dataset.Encoder(*vaes, SHAPE)


def run(data: bytes, folder: Path) -> None:
    clips = folder / "clips"
    shutil.rmtree(clips, ignore_errors=True)
    clips.mkdir()
    (clips / "a.txt").write_text("A ball.", encoding="utf-8")
    kind, _, content = data.partition(b":")
    encoder = _encoder()
    ending = kind.decode("ascii", "replace") if kind.decode("ascii", "replace") in ENDINGS else "mp4"
    video = clips / f"a.{ending}"
    if kind == KEPT[:-1]:
        video.write_bytes(_clip("mp4", 9, 24, True, 0))
        name = _kept_name(encoder, video)
        (clips / name).write_bytes(content)
    else:
        video.write_bytes(content)
    for item in dataset.Item.all_in(clips):
        for part in encoder.latent_of(item.video)["samples"].unbind():
            if not torch.isfinite(part).all():
                raise AssertionError("a latent that is not finite was taken")


@functools.cache
def _names() -> dict[str, str]:
    return {}


def _kept_name(encoder: Any, video: Path) -> str:
    """The file's name under which the encoder keeps the clip's latent."""
    names = _names()
    if "kept" not in names:
        encoder.latent_of(video)
        (kept,) = video.parent.glob("*.safetensors")
        names["kept"] = kept.name
    return names["kept"]
