"""Clips made with the exported weights as a workflow makes them: the pack's own functions on ComfyUI's samplers.

What was made is kept in a folder, so that a report that was stopped goes on, and another measure needs no new clips.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from comfy.nested_tensor import NestedTensor
from ovi_native.ovi_core.conditioning import encode, inpaint, keyframes, locked_media
from ovi_native.ovi_core.decoding import decode
from ovi_native.ovi_core.latents.joint import empty
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.model.base_model import AUDIO_TEXT
from ovi_native.ovi_core.sampling import context_windows, sample, solvers
from ovi_native.ovi_core.sampling.guidance import Guidance, GuidanceOptions, TowerOptions
from ovi_native.ovi_core.spec import FPS, SAMPLE_RATE, VARIANTS, ClipShape, nearest_latent_frames
from ovi_native.ovi_core.text.encode import encode as encode_text
from ovi_native.ovi_core.text.umt5 import read_text_encoder
from ovi_native.ovi_core.vae.audio_vae import read_audio_vae
from ovi_native.ovi_core.vae.video_vae import read_video_vae

from ..paths import AUDIO_VAE, MODEL, TEXT, VIDEO_VAE
from ..training.flow import AUDIO_NEGATIVE, VIDEO_NEGATIVE
from ..world.captions import caption
from ..world.casting import draw_scene
from ..world.render import Rendered, render
from ..world.scene import Scene

VARIANT = VARIANTS["mini"]
Given = Literal["nothing", "picture", "end", "both ends", "video", "sound", "clip", "wrong sound"]
SPAN = (0.5, 1.5)  # s of a given clip that are redone
OVERLAP = 0.5  # s that two windows of a long clip share


@dataclass(frozen=True)
class Order:
    """One clip to make: a scene's prompt, and what of the scene itself is given.

    Attributes:
        scene: seed of the scene, drawn from the held-out split.
        kind: of the scene, as in ``casting.SHARES``; "" for any.
        given: what the model is shown of the scene: its first or last picture or both, its frames, its sound; or all
            but :data:`SPAN`, in both towers (``clip``) or in the sound alone, where it is another scene's
            (``wrong sound``).
        mode: how what is given is shown, one of ``locks.MODES``.
        coupled: False leaves out the attention between the towers.
        noise: seed of the noise.
        against_itself: the prompt stands for both towers' negative ones, too.
        modality: guidance of the video and the audio tower along their coupling.
        window: seconds of the windows in which a longer clip is made; 0 for all of it at once.
    """

    scene: int
    kind: str = ""
    given: Given = "nothing"
    mode: str = "clean"
    coupled: bool = True
    noise: int = 0
    window: float = 0.0
    width: int = 96
    height: int = 96
    seconds: float = 2.0
    steps: int = 20
    solver: str = "unipc"
    video_cfg: float = 2.0  # the small model overdraws colours at the 4 of the published weights
    audio_cfg: float = 3.0
    modality: tuple[float, float] = (0.0, 0.0)
    skip_layers: tuple[int, ...] = (2,)  # of six block pairs; the reference leaves out pair 11 of 30
    against_itself: bool = False

    @property
    def clip(self) -> ClipShape:
        return ClipShape.from_seconds(self.width, self.height, self.seconds)

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
    @torch.inference_mode()  # as it is sampled: ComfyUI cannot move quantised weights within it that come from without
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
        return self.kept(asdict(order), lambda: self.decoded(self.sampled(order, self.latent(order))))

    def kept(self, name: dict, make: Callable[[], Made]) -> Made:
        """What ``make`` makes, from the shelf where it was put under the same ``name`` before."""
        if self.shelf is None:
            return make()
        key = hashlib.sha256((self.fingerprint + json.dumps(name)).encode()).hexdigest()[:24]
        file = self.shelf / f"{key}.npz"
        if not file.exists():
            made = make()
            self.shelf.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(".partial")
            with open(partial, "wb") as out:
                np.savez_compressed(out, frames=(made.frames * 255).round().astype(np.uint8), sound=made.sound)
            os.replace(partial, file)
        with np.load(file) as arrays:
            return Made(arrays["frames"].astype(np.float32) / 255, arrays["sound"])

    @torch.inference_mode()
    def latent(self, order: Order) -> dict:
        """The LATENT to start from, with what is given in it."""
        latent = {"samples": empty(order.clip, 1, "video + audio")}
        if order.given == "nothing":
            return latent
        scene: Rendered = render(order.drawn())
        frames = torch.from_numpy(scene.frames)
        if order.given in ("picture", "both ends"):
            latent = keyframes.with_start_image(self.vae, latent, frames[:1], "crop")
        if order.given in ("end", "both ends"):
            latent = keyframes.with_end_image(self.vae, latent, frames[-1:], "crop")
        if order.given == "video":
            latent = locked_media.lock_video(self.vae, latent, frames, FPS, order.mode)[0]
        if order.given == "sound":
            latent = locked_media.lock_audio(self.audio_vae, latent, as_audio(scene.sound), 0.0, order.mode)[0]
        if order.given in ("clip", "wrong sound"):
            sound = as_audio(scene.sound if order.given == "clip" else spliced(order))
            latent = encode.encode_clip(self.vae, self.audio_vae, latent, frames, sound, FPS)[0]
            span = "{}-{}".format(*SPAN)
            in_video = span if order.given == "clip" else ""
            latent = inpaint.with_spans(latent, "redo", in_video, span, None, locked_media.MODES[order.mode], True)[0]
        return latent

    @torch.inference_mode()
    def sampled(self, order: Order, latent: dict, model: Any = None) -> dict:
        """The LATENT after sampling, by a changed ``model`` if one is given."""
        model = model or (self.model if order.coupled else apart(self.model))
        if order.window:
            model = context_windows.with_context_windows(model, nearest_latent_frames(order.window), OVERLAP, False)
        texts, guidance = self._texts(order), guidance_of(order)
        return sample.sample(model, *texts, guidance, latent, order.solver, sigmas_of(order), order.noise)

    @torch.inference_mode()
    def from_noise(self, order: Order, noise: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Both towers' latents made of this noise [B, ...] of theirs, nothing given."""
        guider = sample.OviGuider(self.model, guidance_of(order))
        guider.set_conds(*self._texts(order))
        samples, solver = empty(order.clip, len(noise[0]), "video + audio"), solvers.sampler(order.solver)
        return guider.sample(NestedTensor(list(noise)), samples, solver, sigmas_of(order)).unbind()

    def _texts(self, order: Order) -> tuple[Any, Any]:
        """ComfyUI's CONDITIONING of the order's prompt and of both towers' negative ones."""
        if order.against_itself:
            return self._encoded(order.prompt), self._encoded(order.prompt)
        negative = self._encoded(VIDEO_NEGATIVE)
        negative[0][1][AUDIO_TEXT] = self._encoded(AUDIO_NEGATIVE)[0][0]
        return self._encoded(order.prompt), negative

    @torch.inference_mode()
    def decoded(self, latent: dict) -> Made:
        out = decode.decode(self.vae, self.audio_vae, latent, "off")
        return Made(out.images.float().cpu().numpy(), out.clip_audio[0].mean(dim=0).float().cpu().numpy())

    def _encoded(self, prompt: str) -> list[list[Any]]:
        return encode_text(self.clip, prompt, VARIANT)[0]


def guidance_of(order: Order) -> Guidance:
    options = GuidanceOptions(*(TowerOptions(modality=strength) for strength in order.modality))
    return Guidance(order.video_cfg, order.audio_cfg, order.skip_layers, options=options)


def sigmas_of(order: Order) -> torch.Tensor:
    return sample.sigmas_for(order.solver, order.steps, 5.0, 1.0)


def as_audio(sound: np.ndarray) -> dict:
    """ComfyUI's AUDIO of a sound [S] at 16 kHz."""
    return {"waveform": torch.from_numpy(sound)[None, None], "sample_rate": SAMPLE_RATE}


def spliced(order: Order) -> np.ndarray:
    """The sound of the order's scene, in the span that of the next scene of its kind, [S]."""
    other = draw_scene(order.scene + 1, order.clip, "held_out", order.kind or None)
    sound = render(order.drawn()).sound.copy()
    first, end = (round(seconds * SAMPLE_RATE) for seconds in SPAN)
    sound[first:end] = render(other).sound[first:end]
    return sound


def apart(model: Any) -> Any:
    """The model without attention between its towers, by ComfyUI's own options for it."""
    patched = model.clone()
    patched.model_options["transformer_options"] |= {"a2v_cross_attn": False, "v2a_cross_attn": False}
    return patched
