"""Makes one shot of a story with models that are loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import latent_preview
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..conditioning import extend, keyframes
from ..decoding.decode import decode
from ..latents import joint
from ..media import drift_correction
from ..media.audio import without_fill
from ..media.overlap import samples_before
from ..model.base_model import AUDIO_TEXT
from ..sampling import sample
from ..spec import FPS, SAMPLE_RATE, VARIANTS
from ..text import encode
from .models import Models
from .plan import Pictures, Plan, Settings
from .shot_store import Store

BEFORE_OVERLAP = FPS  # frames that are read before an overlap: more than the audio encoder looks back


Step = Callable[[int, int, Any], None]
"""Told after every step of a run: steps done, of how many, and ComfyUI's preview or None."""


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
    """The MODEL, which tells of the steps of a run; ComfyUI's own progress knows of one run only."""
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
            video = model.model.preview_video(x0)
            preview = previewer and previewer.decode_latent_to_preview_image("JPEG", video)
            step(index + 1, steps, preview)

        return executor(noise, latent, sampler, sigmas, mask, told, *more, **named)

    watched = model.clone()
    watched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "ovi_story", watch)
    return watched
