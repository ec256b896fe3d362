"""A joint latent to frames and sound."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import comfy.model_management
import torch
from einops import rearrange
from torch import Tensor

from ..latents import joint, source_media
from ..media import crossfade, resampling
from ..spec import FPS, FRAMES_PER_LATENT, SAMPLE_RATE, SAMPLES_PER_LATENT
from ..vae.checks import check_audio_vae, check_video_vae

TILED = ("auto", "on", "off")
# ComfyUI's own defaults for tiled decoding: 512 px and 64 frames with 64 px and 8 frames of overlap, in latent cells.
TILES = {"tile_x": 32, "tile_y": 32, "overlap": 4, "tile_t": 16, "overlap_t": 2}
AAC_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000)  # Hz
AAC_CHANNELS = (1, 2, 6)  # of the layouts that ComfyUI saves
RISE = 0.005  # s, from silence to a sound that is cut out of a longer one
CROSSFADE = 0.02  # s, the last of a given sound that the model goes on from


def decode_video(vae: Any, video: Tensor, tiled: str) -> Tensor:
    """Video latent [B, 48, T, H, W] to frames [B, F, 16 H, 16 W, 3] in 0..1.

    Args:
        tiled: ``on`` decodes in overlapping tiles, ``off`` at once, ``auto`` at once where memory allows.
    """
    if tiled == "auto":
        needed = vae.memory_used_decode(video.shape, vae.vae_dtype)
        tiled = "on" if needed > _memory_once_free(vae) else "off"
    frames = vae.decode_tiled(video, **TILES) if tiled == "on" else vae.decode(video)
    return frames if frames.ndim == 5 else rearrange(frames, "(b f) h w c -> b f h w c", b=video.shape[0])


def _memory_once_free(vae: Any) -> float:
    """Memory of the VAE's device when ComfyUI has put everything else away: in all, less the VAE's own weights."""
    return comfy.model_management.get_total_memory(vae.device) * 0.9 - vae.model_size()


def decode_audio(vae: Any, audio: Tensor) -> Tensor:
    """Audio latent [B, 20, L] to sound [B, 1, 512 L] at 16 kHz, as the vocoder gives it."""
    return rearrange(vae.decode(audio), "b s c -> b c s")


@dataclass(frozen=True)
class Decoded:
    """A decoded LATENT.

    Attributes:
        images: [B F, H, W, 3] in 0..1, the clips of a batch one after the other.
        frame_rate: of the images, frames a second.
        sound: [B, C, S], one for each clip.
        clip_sound: [1, C, S'], one after the other, lasting exactly as long as the images.
        sample_rate: of both, Hz.
    """

    images: Tensor
    frame_rate: Fraction
    sound: Tensor
    clip_sound: Tensor
    sample_rate: int


def decode(vae: Any, audio_vae: Any, latent: dict, tiled: str) -> Decoded:
    """A joint LATENT to frames and sound.

    A clip or a sound that was given (``locks``) is returned as it was given, bit for bit: at its own size, frame rate,
    sample rate and channels, as far as the latent goes. Sound that the model made to a given clip lasts as long as the
    clip. What leads to a clip (``voice``) is cut away.

    Raises:
        OviError: a latent of one part, or a VAE in the other's place.
    """
    video, audio = joint.split(latent["samples"], "samples")
    check_video_vae(vae)
    check_audio_vae(audio_vae)
    clip, given, lead = source_media.video_of(latent), source_media.audio_of(latent), latent.get(source_media.LEAD)
    length = audio.shape[-1]
    if lead is not None:
        video = video[:, :, lead.latent_frames :] if lead.clip_begins else video
        length, audio = length - lead.audio_frames, audio[..., lead.unheard :]
    if clip is None:
        frames, frame_rate = decode_video(vae, video, tiled), Fraction(FPS)
        if lead is not None and not lead.clip_begins:
            frames = frames[:, lead.frames :]
    else:
        frame_rate = clip.rate
        count = resampling.frames_within(Fraction(FRAMES_PER_LATENT * (video.shape[2] - 1) + 1, FPS), frame_rate)
        frames = clip.images[:count].expand(video.shape[0], -1, -1, -1, -1)
    sound, sample_rate = _sound(audio_vae, audio, given)
    if lead is not None:
        sound = _without_lead(sound, lead, length * SAMPLES_PER_LATENT)
    if clip is not None or given is not None:
        lasting = resampling.samples_within(frames.shape[1] / frame_rate, sample_rate)
        missing = 0 if clip is None else max(0, lasting - sound.shape[-1])
        sound = torch.nn.functional.pad(sound[..., :lasting], (0, missing))
    images, clip_sound = as_one_clip(frames, sound, frame_rate, sample_rate)
    return Decoded(images, frame_rate, sound, clip_sound, sample_rate)


def _sound(audio_vae: Any, audio: Tensor, given: source_media.KeptAudio | None) -> tuple[Tensor, int]:
    """Sound [B, C, S] and its rate in Hz: what was given, decoded, or the one and then the other."""
    if given is None:
        return decode_audio(audio_vae, audio), SAMPLE_RATE
    whole = given.waveform.expand(audio.shape[0], -1, -1)
    if given.latent.shape[-1] >= audio.shape[-1]:
        return whole, given.rate
    end = given.latent.shape[-1] * SAMPLES_PER_LATENT * given.rate // SAMPLE_RATE
    made = resampling.resampled(decode_audio(audio_vae, audio), SAMPLE_RATE, given.rate)
    return crossfade.joined(whole[..., :end], made.expand(-1, whole.shape[1], -1), CROSSFADE, given.rate), given.rate


def _without_lead(sound: Tensor, lead: source_media.Lead, samples: int) -> Tensor:
    """The ``samples`` of a decoded sound [B, C, S] that come after ``lead``, rising from nothing."""
    shown = sound[..., lead.samples : lead.samples + samples].clone()
    count = min(round(RISE * SAMPLE_RATE), shown.shape[-1])
    shown[..., :count] *= (torch.arange(count, device=shown.device) + 0.5) / count
    return shown


def as_one_clip(
    frames: Tensor, sound: Tensor, frame_rate: Fraction | int = FPS, sample_rate: int = SAMPLE_RATE
) -> tuple[Tensor, Tensor]:
    """Clips of a batch one after the other, sound cut or filled with silence to last exactly as long as its frames.

    The model's sound is 18 ms shorter than 5 s of its video and 6 ms longer than 10 s, which would add up.

    Returns:
        frames [B F, H, W, 3] and sound [1, C, S] with S = frames / frame_rate at sample_rate, rounded up.
    """
    batch, count = frames.shape[:2]
    ends = [resampling.samples_within(i * count / Fraction(frame_rate), sample_rate) for i in range(batch + 1)]
    parts = [
        torch.nn.functional.pad(wave[:, : end - start], (0, max(0, end - start - wave.shape[-1])))
        for wave, start, end in zip(sound, ends, ends[1:], strict=False)
    ]
    return rearrange(frames, "b f h w c -> (b f) h w c"), torch.cat(parts, dim=-1).unsqueeze(0)


def playable(clip: Decoded) -> Decoded:
    """``clip`` as H.264 and AAC can hold it; the same where they can.

    An odd side loses its last line of pixels, an odd sample rate becomes 48 kHz, channels that are no usual layout are
    mixed to one.
    """
    height, width = (side // 2 * 2 for side in clip.images.shape[1:3])
    sound, rate = clip.clip_sound, clip.sample_rate
    if sound.shape[1] not in AAC_CHANNELS:
        sound = sound.mean(dim=1, keepdim=True)
    if rate not in AAC_RATES:
        sound, rate = resampling.resampled(sound, rate, 48_000), 48_000
    return replace(clip, images=clip.images[:, :height, :width], clip_sound=sound, sample_rate=rate)
