"""Makes one shot of a storyboard with loaded models."""

from __future__ import annotations

import torch
from torch import Tensor

from ..conditioning import extend, keyframes, person
from ..decoding.decode import decode
from ..latents import joint
from ..media import drift_correction
from ..media.audio import without_added_silence
from ..media.resampling import samples_before
from ..model.base_model import AUDIO_TEXT
from ..sampling import sample
from ..sampling.guidance import Guidance, GuidanceOptions, TowerOptions
from ..spec import FPS, SAMPLE_RATE, VARIANTS
from ..text import encode
from .comfyui import with_steps_reported
from .maker import ReportStep
from .models import Models
from .plan import LoadImage, LoadVoice, Plan, Settings, no_voices
from .shot_store import Store

BEFORE_OVERLAP = FPS  # frames that are read before an overlap: more than the audio encoder looks back


class ShotMaker:
    """Makes shots with one set of models: the :class:`.maker.Maker` of Ovi.

    Args:
        load_image: called for shots that start with an image, and for faces.
        load_voice: called for voices.
    """

    def __init__(
        self,
        models: Models,
        settings: Settings,
        store: Store,
        load_image: LoadImage,
        load_voice: LoadVoice = no_voices,
    ):
        self.models, self.settings, self.store = models, settings, store
        self.load_image, self.load_voice = load_image, load_voice
        self._negative: list | None = None

    def check(self) -> None:
        """Raise OviError unless all models are Ovi's."""
        self.models.check()

    def identity(self) -> str:
        """A hash of what decides the results of all models."""
        return self.models.identity()

    def make(self, plan: Plan, report_step: ReportStep) -> None:
        """Make a shot and put it into the store, where those that it goes on from are already.

        Raises:
            OviError: models or images that do not fit, or a disk that cannot be written to.
        """
        settings, models = self.settings, self.models
        positive, _ = encode.encode(models.clip, plan.prompt, VARIANTS[settings.variant])
        start = self._start_latent(plan)
        positive, negative = self._with_people(plan, positive, self._negatives() if plan.guided else positive, start)
        towers = (TowerOptions(reference=strength) for strength in plan.reference)
        latent = sample.sample(
            with_steps_reported(models.model, report_step),
            positive,
            negative,
            Guidance(*plan.guidance, settings.skip_layers, options=GuidanceOptions(*towers)),
            start,
            settings.solver,
            sample.sigmas_for(settings.solver, settings.steps, settings.shift, 1.0),
            plan.seed,
        )
        made = decode(models.vae, models.audio_vae, latent, settings.tiled)
        images, audio = made.images, made.audio.cpu()
        if plan.previous and settings.correct != drift_correction.OFF:
            images, audio = self._corrected(plan, plan.previous, images, audio)
        self.store.write(plan, images, without_added_silence(audio, SAMPLE_RATE))

    def _with_people(self, plan: Plan, positive: list, negative: list, latent: dict) -> tuple[list, list]:
        """Both conditionings with the faces and voices of the shot's people."""
        vaes = (self.models.vae, self.models.audio_vae)
        for one in plan.people:
            face = self.load_image(one.face) if one.face else None
            voice = self.load_voice(one.voice, one.voice_start) if one.voice else None
            audio, begin = (voice.audio, voice.start) if voice else (None, 0.0)
            positive, negative, _ = person.with_person(positive, negative, *vaes, latent, face, audio, begin)
        return positive, negative

    def _negatives(self) -> list:
        """What both towers avoid, encoded once."""
        if self._negative is None:
            variant = VARIANTS[self.settings.variant]
            (video, audio) = (
                encode.encode(self.models.clip, words, variant)[0][0]
                for words in (self.settings.video_negative, self.settings.audio_negative)
            )
            self._negative = [[video[0], {**video[1], AUDIO_TEXT: audio[0]}]]
        return self._negative

    def _start_latent(self, plan: Plan) -> dict:
        """The LATENT that the run starts with: empty, with a first frame, or with the end of the shot before."""
        vae, clip = self.models.vae, plan.clip
        if plan.previous:
            images, waveform = self._end_of(plan.previous, plan.overlap.frames + BEFORE_OVERLAP)
            audio = {"waveform": waveform, "sample_rate": SAMPLE_RATE} if waveform.numel() else None
            seconds = plan.overlap.frames / FPS
            return extend.extend(vae, self.models.audio_vae, images, audio, seconds, clip.seconds)[0]
        latent = {"samples": joint.empty(clip, 1, joint.TOWERS[0])}
        return keyframes.with_start_image(vae, latent, self.load_image(plan.image), "crop") if plan.image else latent

    def _end_of(self, shot: Plan, frames: int) -> tuple[Tensor, Tensor]:
        """The last ``frames`` of a shot, or up to 2 more, [F, H, W, 3] in 0..1, and their audio, [1, 1, S]."""
        start = max(0, shot.clip.frames - frames) // 3 * 3  # 3 frames last a whole number of samples
        return self.store.images(shot, start), self.store.audio(shot)[..., samples_before(start, FPS, SAMPLE_RATE) :]

    def _corrected(self, plan: Plan, previous: Plan, images: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Colours and loudness of a new shot brought to those of what it goes on from."""
        how, overlap, store = self.settings.correct, plan.overlap.frames, self.store
        start = store.images(plan.first, 0, drift_correction.REFERENCE * FPS)
        end = store.images(previous, previous.clip.frames - overlap)
        change = drift_correction.correction(torch.cat((start, end)).to(images), images, overlap, how, FPS)
        first_audio = store.audio(plan.first)[..., : drift_correction.REFERENCE * SAMPLE_RATE]
        begin = samples_before(previous.clip.frames - overlap, FPS, SAMPLE_RATE)
        heard = torch.cat((first_audio, store.audio(previous)[..., begin:]), dim=-1)
        corrected = drift_correction.of_audio(heard, audio, first_audio.shape[-1], SAMPLE_RATE, how)
        return change.of_images(images), corrected
