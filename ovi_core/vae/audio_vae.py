"""MMAudio's 16 kHz audio VAE at the sizes of its files: [B, 20, L] to and from 512 L samples, one channel, 16 kHz.

ComfyUI knows this autoencoder too, but resamples its sound to 44.1 kHz and back (a tenth of the signal is lost on the
way). Here the same layers run at their own rate. How the published weights become those layers': ``mmaudio_weights``.
"""

from __future__ import annotations

from collections.abc import Mapping

import comfy.ldm.mmaudio.vae.autoencoder as mmaudio
import comfy.model_patcher
import torch
from comfy.ldm.mmaudio.vae.bigvgan import BigVGANVocoder
from comfy.ldm.mmaudio.vae.vae import VAE as SpectrogramVAE

from ..errors import OviError
from ..spec import AUDIO_CHANNELS, SAMPLE_RATE, SAMPLES_PER_STEP
from ..weights.files import check_weights, read_weights, without_prefix
from .mmaudio_weights import INPUT, KIND, MEL_BANDS, MEL_HOP, VOCODER_INPUT, AudioSizes, audio_weights
from .sized_vae import SizedVAE

WINDOW = 1024  # samples of one spectrogram column
MEL = {"sampling_rate": SAMPLE_RATE, "n_fft": WINDOW, "num_mels": MEL_BANDS, "hop_size": MEL_HOP, "win_size": WINDOW}
MEL_RANGE = {"fmin": 0, "fmax": 8_000}  # Hz


class AudioAutoencoder(torch.nn.Module):
    """Mel converter, spectrogram VAE and vocoder of ComfyUI, without its resampling."""

    def __init__(self, sizes: AudioSizes):
        super().__init__()
        self.mel_converter = mmaudio.MelConverter(**MEL, **MEL_RANGE, norm_fn=torch.log10)
        self.vae = SpectrogramVAE(data_dim=MEL_BANDS, embed_dim=AUDIO_CHANNELS, hidden_dim=sizes.hidden)
        self.vocoder = BigVGANVocoder(sizes.vocoder_config())

    @torch.no_grad()
    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Latents [B, 20, L] to sound [B, 1, 512 L] at 16 kHz, in -1..1."""
        return self.vocoder(self.vae.decode(latent))

    @torch.no_grad()
    def encode(self, sound: torch.Tensor) -> torch.Tensor:
        """Sound [B, channels, samples] at 16 kHz to the mean latents [B, 20, samples // 512]."""
        return self.vae.encode(self.mel_converter(sound.mean(dim=1))).mean


class AudioVAE(SizedVAE):
    """The ``comfy.sd.VAE`` of :class:`AudioAutoencoder`.

    ``decode``: [B, 20, L] to [B, 512 L, 1]. ``encode``: [B, samples, channels] at 16 kHz to [B, 20, samples // 512];
    several channels are mixed to one. Raises OviError for sound that is too short or holds NaN.
    """

    def __init__(self, network: AudioAutoencoder, weights: Mapping[str, torch.Tensor], disable_dynamic: bool = False):
        super().__init__(lambda: mmaudio.AudioAutoencoder(mode="16k"), network, weights, disable_dynamic)
        self.audio_sample_rate = SAMPLE_RATE
        self.upscale_ratio = self.downscale_ratio = SAMPLES_PER_STEP
        self.output_channels = 1

    def vae_encode_crop_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """What ComfyUI calls on [B, samples, channels] before encoding: check, and mix to [B, samples, 1].

        ComfyUI itself would keep the first channel and drop the others.
        """
        samples = pixels.shape[1]
        if samples < WINDOW or not torch.isfinite(pixels).all():
            short = samples < WINDOW
            raise OviError(
                input="audio",
                found=f"sound of {samples} samples at 16 kHz" if short else "sound with NaN or infinite samples",
                accepted=f"at least {MEL['win_size']} samples (0.064 s), each a finite number",
                remedy="Give a longer piece of sound." if short else "Make or load the sound again.",
            )
        return pixels.mean(dim=-1, keepdim=True)

    def encode_tiled_1d(self, samples: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        """As ComfyUI's, on whole latent steps: it allots round(samples / 512) of them, the encoder gives the floor."""
        whole = samples.shape[-1] // SAMPLES_PER_STEP * SAMPLES_PER_STEP
        return super().encode_tiled_1d(samples[..., :whole], *args, **kwargs)


def load_audio_vae(
    vae_weights: Mapping[str, torch.Tensor],
    vocoder_weights: Mapping[str, torch.Tensor] | None = None,
    disable_dynamic: bool = False,
) -> AudioVAE:
    """The audio VAE from its two published state dicts, or from one with prefixes ``vae.`` and ``vocoder.``.

    Widths are read from the weights; the rest is MMAudio's 16 kHz design. Raises OviError for another kind of file and
    for missing, surplus or misshapen weights.
    """
    sizes, weights = audio_weights(vae_weights, vocoder_weights)
    network = AudioAutoencoder(sizes)
    mel = network.mel_converter
    weights["mel_converter.mel_basis"] = mel_filters(
        bands=mel.num_mels, bins=mel.n_fft // 2 + 1, rate=mel.sampling_rate, fmin=mel.fmin, fmax=mel.fmax
    )
    weights["mel_converter.hann_window"] = mel.hann_window
    expected = network.state_dict()
    for half, input in (("vae.", INPUT), ("vocoder.", VOCODER_INPUT)):
        check_weights(without_prefix(expected, half), without_prefix(weights, half), input=input, what=KIND)
    return AudioVAE(network, weights, disable_dynamic)


def read_audio_vae(vae_path: str, vocoder_path: str | None = None, disable_dynamic: bool = False) -> AudioVAE:
    """:func:`load_audio_vae` from files; without ``vocoder_path`` the first file holds both halves."""
    vae_weights = read_weights(vae_path, input=INPUT, accepted="MMAudio's 16 kHz VAE (v1-16.pth)")
    vocoder_weights = None
    if vocoder_path:
        vocoder_weights = read_weights(vocoder_path, input=VOCODER_INPUT, accepted="its vocoder (best_netG.pt)")
    vae = load_audio_vae(vae_weights, vocoder_weights, disable_dynamic)
    vae.patcher.cached_patcher_init = (_reload, (vae_path, vocoder_path))
    return vae


def _reload(vae_path: str, vocoder_path: str | None, disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    """What ComfyUI calls for a second, untouched copy (another device, no dynamic VRAM)."""
    return read_audio_vae(vae_path, vocoder_path, disable_dynamic).patcher


def mel_filters(*, bands: int, bins: int, rate: int, fmin: float, fmax: float) -> torch.Tensor:
    """Slaney's mel filter bank [bands, bins], float32: what MMAudio takes from librosa and no file holds.

    Slaney's mel scale (Auditory Toolbox, 1998) is linear below 1 kHz, 3 mel per 200 Hz, and logarithmic above, 27 mel
    per factor 6.4. Band m is a triangle over the bins' frequencies (0..rate / 2) from mel point m over m + 1 to m + 2,
    of area 1 Hz.
    """
    knee, mel_per_hz, mel_per_log = 1000.0, 3.0 / 200.0, 27.0 / torch.tensor(6.4, dtype=torch.float64).log()

    def to_mel(hz: torch.Tensor) -> torch.Tensor:
        above = knee * mel_per_hz + (hz.clamp(min=knee) / knee).log() * mel_per_log
        return torch.where(hz < knee, hz * mel_per_hz, above)

    def to_hz(mel: torch.Tensor) -> torch.Tensor:
        above = knee * ((mel - knee * mel_per_hz) / mel_per_log).exp()
        return torch.where(mel < knee * mel_per_hz, mel / mel_per_hz, above)

    ends = to_mel(torch.tensor([fmin, fmax], dtype=torch.float64))
    points = to_hz(torch.linspace(ends[0].item(), ends[1].item(), bands + 2, dtype=torch.float64))
    bin_hz = torch.linspace(0, rate / 2, bins, dtype=torch.float64)
    low, peak, high = points[:-2, None], points[1:-1, None], points[2:, None]
    triangles = torch.minimum((bin_hz - low) / (peak - low), (high - bin_hz) / (high - peak)).clamp(min=0)
    return (triangles * 2 / (high - low)).float()
