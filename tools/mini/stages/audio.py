"""Stages ``audio-vae`` and ``vocoder``: sound to spectrogram to latents, and back.

The spectrogram VAE is MMAudio's; its latents are trained to mean 0 and variance 1, then scaled in its outermost layers,
for ComfyUI does not scale them.
The vocoder learns to sound like the spectrogram on several time scales; no phase is asked of it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ovi_native.ovi_core.spec import SAMPLE_RATE, ClipShape
from ovi_native.ovi_core.vae.mmaudio_weights import MEL_HOP
from torch import Tensor, nn

from ..measure.sound import log_mel_distance, onsets
from ..training import networks
from ..training.config import Config
from ..training.loop import copied, generator, seed_of, start_from, trained_weights
from ..world.audio import make_sound
from ..world.casting import SHARES, draw_scene
from .preview_sheets import save_sheet, sound_row
from .video_vae import HELD_OUT_SEEDS, moment_error

VAE_NAME, VOCODER_NAME = "audio-vae", "vocoder"
CLIP = ClipShape.from_seconds(96, 96, 2)
STATISTICS = 300  # sounds over which the mean and deviation of the spectrogram are taken
RESOLUTIONS = ((64, 16), (256, 64), (1024, 256))  # window and hop of the vocoder's spectrograms, in samples
QUIET = 1e-3  # of full scale: what is softer in a band may be anything, or silence would outweigh every tone
QUIET_MEL = -3.0  # the same in the spectrogram's logarithms
SHEET_WIDTH = 900


class AudioVAEStage:
    """Spectrograms to latents and back; see :class:`~tools.mini.training.loop.Stage`."""

    name = VAE_NAME
    mixed = False  # spectrograms need all their bits

    def __init__(self, config: Config, device: str):
        self.config, self.device = config, device
        self.learning = config.audio_vae.learning
        self.network = networks.audio_autoencoder(config, device)
        self.module = self.network.vae
        _set_statistics(self.network)
        self.make_batch = partial(make_batch, config, VAE_NAME, config.audio_vae.batch, config.audio_vae.columns)

    def loss(self, step: int, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Error of the normalised spectrogram and of the latents' moments."""
        settings, vae = self.config.audio_vae, self.module
        mel = vae.normalize(self.network.mel_converter(torch.from_numpy(batch).to(self.device)))
        latents = vae.encode(mel, normalize=False).mean
        noise = torch.randn(latents.shape, generator=generator(self.config, VAE_NAME, step)).to(self.device)
        error = vae.decode(latents + settings.noise * noise, unnormalize=False).float() - mel
        spectrum = error.abs().mean() + 0.5 * error.square().mean()
        moments = moment_error(latents.float(), dim=1)
        return spectrum + settings.moments * moments, {"mel": error.abs().mean(), "moments": moments}

    def preview(self, file: Path) -> dict[str, float]:
        """Spectrograms of held-out sounds over the same after the VAE."""
        rows: list[np.ndarray] = []
        errors = []
        for sound in held_out_sounds():
            mel = self.network.mel_converter(torch.from_numpy(sound)[None].to(self.device))
            again = self.module.decode(self.module.encode(mel).mean)
            errors.append(float((again - mel).abs().mean()))
            rows += _mel_row(mel[0]), _mel_row(again[0])
        save_sheet(rows, file)
        return {"preview_mel": float(np.mean(errors))}

    def trained(self) -> dict[str, Tensor]:
        """Weights of the spectrogram VAE, and its statistics, with latents of the deviation that the twin shall see."""
        return with_deviation(copied(self.module.state_dict()), self.config.audio_vae.deviation)


class VocoderStage:
    """Spectrograms, true ones and those of the trained audio VAE, to sound."""

    name = VOCODER_NAME
    mixed = False

    def __init__(self, config: Config, device: str, folder: Path):
        self.config, self.device = config, device
        self.learning = config.vocoder.learning
        self.network = networks.audio_autoencoder(config, device)
        self.network.vae.load_state_dict(trained_weights(folder, VAE_NAME))
        self.network.vae.requires_grad_(False)
        self.module = self.network.vocoder
        start_from(self.module, folder, VOCODER_NAME, device)
        # The VAE hears more than the vocoder makes, so that it is as sure at the edges as it is in whole clips.
        margin = 2 * MARGIN_COLUMNS
        self.make_batch = partial(
            make_batch, config, VOCODER_NAME, config.vocoder.batch, config.vocoder.columns + margin
        )

    def loss(self, step: int, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Distance of spectrograms on several scales."""
        sound = torch.from_numpy(batch).to(self.device)
        with torch.no_grad():
            mel = self.network.mel_converter(sound)
            half = len(mel) // 2
            mel[:half] = self.network.vae.decode(self.network.vae.encode(mel[:half]).mean).to(mel.dtype)
        inner = slice(MARGIN_COLUMNS, MARGIN_COLUMNS + self.config.vocoder.columns)
        made = self.module(mel[..., inner]).squeeze(1).float()
        sound = sound[:, inner.start * MEL_HOP : inner.stop * MEL_HOP]
        parts = [spectral_distance(made, sound, *resolution) for resolution in RESOLUTIONS]
        one, other = (self.network.mel_converter(heard).clamp(min=QUIET_MEL) for heard in (made, sound))
        heard = one - other
        loss = sum(parts) / len(parts) + heard.abs().mean()
        return loss, {"mel": heard.abs().mean()}

    def preview(self, file: Path) -> dict[str, float]:
        """Held-out sounds over the same after VAE and vocoder."""
        rows: list[np.ndarray] = []
        distances, misses, count = [], 0, 0
        for sound in held_out_sounds():
            again = self.hear(sound)
            distances.append(log_mel_distance(sound, again))
            wanted, found = onsets(sound), onsets(again)
            count += len(wanted)
            misses += sum(not len(found) or np.abs(found - time).min() > 0.032 for time in wanted)
            rows += sound_row(sound, SHEET_WIDTH, list(wanted)), sound_row(again, SHEET_WIDTH, list(found))
        save_sheet(rows, file)
        return {"preview_decibels": float(np.mean(distances)), "preview_onsets_kept": 1 - misses / max(count, 1)}

    def hear(self, sound: np.ndarray) -> np.ndarray:
        """A sound [S] after spectrogram, VAE and vocoder."""
        network = self.network
        mel = network.mel_converter(torch.from_numpy(sound)[None].to(self.device))
        return self.module(network.vae.decode(network.vae.encode(mel).mean))[0, 0].float().cpu().numpy()

    def trained(self) -> dict[str, Tensor]:
        """Weights of the vocoder."""
        return copied(self.module.state_dict())


MARGIN_COLUMNS = 8


def with_deviation(weights: dict[str, Tensor], deviation: float) -> dict[str, Tensor]:
    """The VAE's weights after its latents are multiplied by ``deviation``; it sounds as before."""
    into, out = weights["encoder.conv_out.weight"], weights["decoder.conv_in.weight"]
    means = torch.ones(len(into), 1, 1)
    means[: out.shape[1]] = deviation  # the other half says how sure it is
    return weights | {"encoder.conv_out.weight": into * means, "decoder.conv_in.weight": out / deviation}


def make_batch(config: Config, stage: str, batch: int, columns: int, step: int) -> np.ndarray:
    """Pieces of sound [B, S] as long as ``columns`` of the spectrogram, of all kinds of scene alike."""
    rng = np.random.default_rng([seed_of(config, stage, step)])
    length, kinds = columns * MEL_HOP, list(SHARES)
    sounds: list[np.ndarray] = []
    while len(sounds) < batch:
        clip = CLIP if length <= CLIP.samples else ClipShape.from_seconds(96, 96, length / SAMPLE_RATE + 0.2)
        sound = make_sound(draw_scene(int(rng.integers(1 << 31)), clip, kind=kinds[rng.integers(len(kinds))]))
        start = rng.integers(0, len(sound) - length + 1)
        sounds.append(sound[start : start + length] * rng.uniform(0.7, 1.1))
    return np.clip(np.stack(sounds), -1, 1).astype(np.float32)


def held_out_sounds() -> list[np.ndarray]:
    return [make_sound(draw_scene(seed, CLIP, "held_out")) for seed in HELD_OUT_SEEDS]


def spectral_distance(one: Tensor, other: Tensor, window: int, hop: int) -> Tensor:
    """Distance of two sounds' [B, S] magnitudes: relative, and of their logarithms (Yamamoto et al. 2020).

    Relative to each sound by itself: soft tones count as much as loud knocks.
    """
    shape = torch.hann_window(window, device=one.device)
    full_scale = shape.sum() / 2
    a, b = (
        torch.stft(sound, window, hop, window=shape, return_complex=True).abs() / full_scale for sound in (one, other)
    )
    audible_a, audible_b = a.clamp(min=QUIET), b.clamp(min=QUIET)
    convergence = ((a - b).norm(dim=(1, 2)) / audible_b.norm(dim=(1, 2))).mean()
    return convergence + (audible_a.log() - audible_b.log()).abs().mean()


@torch.no_grad()
def _set_statistics(network: nn.Module) -> None:
    """Give the VAE the mean and deviation of this world's spectrograms in place of MMAudio's."""
    sounds = np.stack([make_sound(draw_scene(seed, CLIP)) for seed in range(STATISTICS)])
    device = network.vae.data_mean.device
    mel = network.mel_converter(torch.from_numpy(sounds).to(device))
    network.vae.data_mean.copy_(mel.mean(dim=(0, 2)).view(1, -1, 1))
    network.vae.data_std.copy_(mel.std(dim=(0, 2)).clamp(min=0.3).view(1, -1, 1))


def _mel_row(mel: Tensor) -> np.ndarray:
    """A spectrogram [80, T] of logarithms as a picture."""
    level = ((mel.flip(0).cpu().numpy() + 5) / 6 * 255).clip(0, 255).astype(np.uint8)
    wide = np.repeat(level, max(1, SHEET_WIDTH // level.shape[1]), axis=1)
    return np.repeat(wide[..., None], 3, axis=2)
