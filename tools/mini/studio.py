"""Clips made with the exported weights as a workflow makes them: the pack's own functions on ComfyUI's samplers.

What was made is kept in a folder, so that a report that was stopped goes on, and another measure needs no new clips.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from ovi_native.ovi_core import decode, locks, pictures, sampling, text
from ovi_native.ovi_core.audio_vae import read_audio_vae
from ovi_native.ovi_core.guidance import Guidance
from ovi_native.ovi_core.latents import empty
from ovi_native.ovi_core.loader import load_model
from ovi_native.ovi_core.model import AUDIO_TEXT
from ovi_native.ovi_core.spec import FPS, SAMPLE_RATE, VARIANTS, Clip
from ovi_native.ovi_core.text_encoder import read_text_encoder
from ovi_native.ovi_core.video_vae import read_video_vae

from .captions import caption
from .casting import draw_scene
from .export import AUDIO_VAE, MODEL, TEXT, VIDEO_VAE
from .flow import AUDIO_NEGATIVE, VIDEO_NEGATIVE
from .things import Scene
from .world import Rendered, render

VARIANT = VARIANTS["mini"]
Given = Literal["nothing", "picture", "video", "sound"]


@dataclass(frozen=True)
class Order:
    """One clip to make: a scene's prompt, and what of the scene itself is given.

    Attributes:
        scene: seed of the scene, drawn from the held-out split.
        kind: of the scene, as in ``casting.SHARES``; "" for any.
        given: what the model is shown of the scene: its first picture, its frames or its sound.
        coupled: False leaves out the attention between the towers.
        noise: seed of the noise.
    """

    scene: int
    kind: str = ""
    given: Given = "nothing"
    coupled: bool = True
    noise: int = 0
    width: int = 96
    height: int = 96
    seconds: float = 2.0
    steps: int = 20
    solver: str = "unipc"
    video_cfg: float = 4.0
    audio_cfg: float = 3.0
    skip_layers: tuple[int, ...] = ()

    @property
    def clip(self) -> Clip:
        return Clip.from_seconds(self.width, self.height, self.seconds)

    def drawn(self) -> Scene:
        return draw_scene(self.scene, self.clip, "held_out", self.kind or None)

    @property
    def prompt(self) -> str:
        return caption(self.drawn(), self.scene)


@dataclass(frozen=True)
class Made:
    """A clip that the model made: ``frames`` [F, H, W, 3] in 0..1, ``sound`` [S] in -1..1 at 16 kHz."""

    frames: np.ndarray
    sound: np.ndarray


class Studio:
    """The model with all its parts.

    Args:
        models: folder laid out like ComfyUI's models folder, with the exported files.
        shelf: folder that keeps what was made; None to keep nothing.
    """

    def __init__(self, models: Path, shelf: Path | None = None):
        self.models, self.shelf = models, shelf
        self.clip = read_text_encoder(str(models / TEXT))
        self.vae, self.audio_vae = read_video_vae(str(models / VIDEO_VAE)), read_audio_vae(str(models / AUDIO_VAE))

    @cached_property
    def model(self) -> Any:
        return load_model(str(self.models / MODEL))

    @cached_property
    def fingerprint(self) -> str:
        """Of all files."""
        digest = hashlib.sha256()
        for name in (MODEL, TEXT, VIDEO_VAE, AUDIO_VAE):
            digest.update((self.models / name).read_bytes())
        return digest.hexdigest()

    def make(self, order: Order) -> Made:
        """The clip of an order, from the shelf where it was made before."""
        if self.shelf is None:
            return self._made(order)
        key = hashlib.sha256((self.fingerprint + json.dumps(asdict(order))).encode()).hexdigest()[:24]
        file = self.shelf / f"{key}.npz"
        if not file.exists():
            made = self._made(order)
            self.shelf.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(".partial")
            with open(partial, "wb") as out:
                np.savez_compressed(out, frames=(made.frames * 255).round().astype(np.uint8), sound=made.sound)
            os.replace(partial, file)
        with np.load(file) as arrays:
            return Made(arrays["frames"].astype(np.float32) / 255, arrays["sound"])

    def _made(self, order: Order) -> Made:
        return self.decoded(self.sampled(order, self.latent(order)))

    @torch.inference_mode()
    def latent(self, order: Order) -> dict:
        """The LATENT to start from, with what is given in it."""
        latent = {"samples": empty(order.clip, 1, "video + audio")}
        if order.given == "nothing":
            return latent
        scene: Rendered = render(order.drawn())
        frames = torch.from_numpy(scene.frames)
        if order.given == "picture":
            return pictures.keep_start(self.vae, latent, frames[:1], "crop")
        if order.given == "video":
            return locks.lock_video(self.vae, latent, frames, FPS, "clean")[0]
        audio = {"waveform": torch.from_numpy(scene.sound)[None, None], "sample_rate": SAMPLE_RATE}
        return locks.lock_audio(self.audio_vae, latent, audio, 0.0, "clean")[0]

    @torch.inference_mode()
    def sampled(self, order: Order, latent: dict) -> dict:
        """The LATENT after sampling."""
        negative = self._encoded(VIDEO_NEGATIVE)
        negative[0][1][AUDIO_TEXT] = self._encoded(AUDIO_NEGATIVE)[0][0]
        model = self.model if order.coupled else apart(self.model)
        guidance = Guidance(order.video_cfg, order.audio_cfg, order.skip_layers)
        sigmas = sampling.sigmas_for(order.solver, order.steps, 5.0, 1.0)
        positive = self._encoded(order.prompt)
        return sampling.sample(model, positive, negative, guidance, latent, order.solver, sigmas, order.noise)

    @torch.inference_mode()
    def decoded(self, latent: dict) -> Made:
        out = decode.decode(self.vae, self.audio_vae, latent, "off")
        return Made(out.images.float().cpu().numpy(), out.clip_sound[0].mean(dim=0).float().cpu().numpy())

    def _encoded(self, prompt: str) -> list[list[Any]]:
        return text.encode(self.clip, prompt, VARIANT)[0]


def apart(model: Any) -> Any:
    """The model without attention between its towers, by the host's own options for it."""
    patched = model.clone()
    patched.model_options["transformer_options"] |= {"a2v_cross_attn": False, "v2a_cross_attn": False}
    return patched
