"""MMAudio's 16 kHz audio VAE at the sizes of its files: [B, 20, L] to and from 512 L samples, one channel, 16 kHz.

ComfyUI knows this autoencoder too, but resamples its sound to 44.1 kHz and back (a tenth of the signal is lost on the
way). Here the same layers run at their own rate. How the published weights become those layers': ``mmaudio_weights``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import comfy.ldm.mmaudio.vae.autoencoder as mmaudio
import comfy.model_patcher
import torch
import torchaudio.functional
from comfy.ldm.mmaudio.vae.bigvgan import BigVGANVocoder
from comfy.ldm.mmaudio.vae.vae import VAE as SpectrogramVAE

from ..errors import OviError
from ..spec import AUDIO_CHANNELS, SAMPLE_RATE, SAMPLES_PER_LATENT
from ..stable_names import stable_name
from ..weights.checks import check_weights, without_prefix
from ..weights.files import read_weights
from .mmaudio_weights import INPUT, KIND, MEL_BANDS, MEL_HOP, VOCODER_INPUT, AudioSizes, audio_weights
from .sized_vae import SizedVAE

WINDOW = 1024  # samples of one spectrogram column
HIGHEST = 8_000  # Hz
MEL = {"sampling_rate": SAMPLE_RATE, "n_fft": WINDOW, "num_mels": MEL_BANDS, "hop_size": MEL_HOP, "win_size": WINDOW}


class Float32Mel(mmaudio.MelConverter):
    """ComfyUI's mel converter whose filters and window stay float32 when the network is cast to another type.

    A Fourier transform needs it: of bfloat16 there is none, and in half precision the quiet bands drown.
    """

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Float32Mel:
        def moved(tensor: torch.Tensor) -> torch.Tensor:
            result = fn(tensor)
            return result if result.dtype == tensor.dtype else tensor.to(result.device)

        return super()._apply(moved, recurse)


@stable_name("audio_vae.AudioAutoencoder")
class AudioAutoencoder(torch.nn.Module):
    """Mel converter, spectrogram VAE and vocoder of ComfyUI, without its resampling.

    Attributes:
        dtype: in which VAE and vocoder compute; waveforms and spectrograms are float32.
    """

    def __init__(self, sizes: AudioSizes):
        super().__init__()
        self.dtype = torch.float32
        self.mel_converter = Float32Mel(**MEL, fmin=0, fmax=HIGHEST, norm_fn=torch.log10)
        self.vae = SpectrogramVAE(data_dim=MEL_BANDS, embed_dim=AUDIO_CHANNELS, hidden_dim=sizes.hidden)
        self.vocoder = BigVGANVocoder(sizes.vocoder_config())

    @torch.no_grad()
    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Latents [B, 20, L] to audio [B, 1, 512 L] at 16 kHz, in -1..1."""
        return self.vocoder(self.vae.decode(latent.to(self.dtype)))

    @torch.no_grad()
    def encode(self, audio: torch.Tensor) -> torch.Tensor:
        """Audio [B, channels, samples] at 16 kHz to the mean latents [B, 20, samples // 512]."""
        mel = self.mel_converter(audio.float().mean(dim=1))
        return self.vae.encode(mel.to(self.dtype)).mean


class AudioVAE(SizedVAE):
    """The ``comfy.sd.VAE`` of :class:`AudioAutoencoder`.

    ``decode``: [B, 20, L] to [B, 512 L, 1]. ``encode``: [B, samples, channels] at 16 kHz to [B, 20, samples // 512];
    several channels are mixed to one. Raises OviError for audio that is too short or holds NaN.

    ComfyUI casts what it hands over to ``vae_dtype``, which is float32 here: in fewer bits a waveform would be full of
    noise. The type that ComfyUI chose (``--bf16-vae``, ``--fp16-vae``) is the network's.
    """

    def __init__(self, network: AudioAutoencoder, weights: Mapping[str, torch.Tensor], disable_dynamic: bool = False):
        super().__init__(lambda: mmaudio.AudioAutoencoder(mode="16k"), network, weights, disable_dynamic)
        network.dtype, self.vae_dtype = self.vae_dtype, torch.float32
        self.audio_sample_rate = SAMPLE_RATE
        self.upscale_ratio = self.downscale_ratio = SAMPLES_PER_LATENT
        self.output_channels = 1

    def vae_encode_crop_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """What ComfyUI calls on [B, samples, channels] before encoding: check, and mix to [B, samples, 1].

        ComfyUI itself would keep the first channel and drop the others.
        """
        samples = pixels.shape[1]
        if samples < SAMPLES_PER_LATENT or not torch.isfinite(pixels).all():
            short = samples < SAMPLES_PER_LATENT
            raise OviError(
                input="audio",
                found=f"audio of {samples} samples at 16 kHz" if short else "audio with NaN or infinite samples",
                accepted=f"{SAMPLES_PER_LATENT} samples or more (one audio frame), each a finite number",
                remedy="Give a longer piece of audio." if short else "Generate or load the audio again.",
            )
        return pixels.float().mean(dim=-1, keepdim=True)

    def encode_tiled_1d(self, samples: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        """As ComfyUI's, on whole latent steps: it allots round(samples / 512), the encoder gives the floor."""
        whole = samples.shape[-1] // SAMPLES_PER_LATENT * SAMPLES_PER_LATENT
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
    weights["mel_converter.mel_basis"] = mel_filters()
    weights["mel_converter.hann_window"] = network.mel_converter.hann_window
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


def mel_filters() -> torch.Tensor:
    """The mel filter bank [80, 513], float32: what MMAudio takes from librosa (Slaney's) and no file holds."""
    bank = torchaudio.functional.melscale_fbanks(
        WINDOW // 2 + 1, 0.0, float(HIGHEST), MEL_BANDS, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
    )
    return bank.T.abs().contiguous()  # no -0.0: stored shots know the filters by their bits
