"""Going on from a clip: a joint latent that begins with the clip's end."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ..errors import OviError
from ..latents import denoise_mask, joint
from ..media import resampling
from ..media.audio import LEAST_STEPS, check_one_sound, without_fill
from ..media.images import check_frames, fit
from ..media.overlap import Overlap, samples_before
from ..spec import AUDIO_CHANNELS, FPS, SAMPLE_RATE, SAMPLES_PER_LATENT, ClipShape, snap_size
from ..vae.checks import check_audio_vae, check_video_vae


def extend(
    vae: Any, audio_vae: Any, images: Any, audio: Any, overlap_seconds: float, seconds: float
) -> tuple[dict, list[str]]:
    """A LATENT of ``seconds`` whose start is the end of a clip, kept clean in both towers; the rest is to be made.

    The overlap is whole latent steps of the video, 1, 5, 9, 13 ... frames (:class:`~.joins.Overlap`). Of its sound as
    many latent steps are kept as end within it and within the clip's own sound.

    Args:
        images: [F, H, W, 3] in 0..1 at 24 a second; stretched to the nearest size on the grid of 32 px.
        audio: ComfyUI's AUDIO of one clip, of any rate and channels, or None: the sound begins anew.
        overlap_seconds: rounded; one frame at least.
        seconds: of the new clip in all, with the overlap.

    Returns:
        The LATENT, and notes for the artist.

    Raises:
        OviError: a clip, VAE or length that does not fit.
    """
    check_video_vae(vae)
    check_audio_vae(audio_vae)
    check_frames(images, "images")
    sound = check_one_sound(audio, "audio")
    overlap = Overlap.from_seconds(overlap_seconds, least=1)
    overlap.check_within(images.shape[0], "images")
    old_height, old_width = images.shape[1:3]
    height, width = snap_size(old_height, old_width, old_height * old_width)
    clip = ClipShape.from_seconds(width, height, seconds)
    if clip.latent_frames <= overlap.latent_frames:
        raise OviError(
            input="seconds",
            found=f"{seconds:g} s with an overlap of {overlap.frames / FPS:.2f} s",
            accepted="a length above the overlap's, which is part of it",
            remedy="Set seconds to 5 or 10, or shorten the overlap.",
        )
    notes = []
    if (old_width, old_height) != (width, height):
        notes.append(
            f"The new clip is made at {width}x{height} px, the nearest size to {old_width}x{old_height} that Ovi can "
            "make; Ovi Join Clips brings it back."
        )
    device = comfy.model_management.intermediate_device()
    tail = fit(images[-overlap.frames :], width, height, "stretch")
    pictures = vae.encode(tail).to(device, torch.float32)
    heard = _tail_of_sound(audio_vae, sound, images.shape[0], overlap).to(device, torch.float32)
    if sound is not None and not heard.shape[-1]:
        notes.append("The clip's sound ends before the overlap: the new clip's sound does not go on from it.")
    return _beginning_with(clip, pictures, heard), notes


def _beginning_with(clip: ClipShape, pictures: Tensor, heard: Tensor) -> dict:
    """A LATENT of ``clip`` whose first steps are ``pictures`` [1, 48, k, h, w] and ``heard`` [1, 20, n], kept clean."""
    video = joint.free_video(torch.zeros(clip.video_shape(), device=pictures.device))
    audio = torch.zeros(clip.audio_shape(), device=heard.device)
    video_mask, audio_mask = torch.ones_like(video[:, :1]), torch.ones_like(audio[:, :1])
    for part, mask, kept in ((video, video_mask, pictures), (audio, audio_mask, heard)):
        part[:, :, : kept.shape[2]] = kept
        mask[:, :, : kept.shape[2]] = 0
    return denoise_mask.with_parts({}, video, audio, video_mask, audio_mask)


def _tail_of_sound(audio_vae: Any, sound: tuple[Tensor, int] | None, frames: int, overlap: Overlap) -> Tensor:
    """Latent [1, 20, n] of the sound from the overlap's beginning on; n is 0 where there is none."""
    nothing = torch.zeros(1, AUDIO_CHANNELS, 0)
    if sound is None:
        return nothing
    waveform, rate = sound
    begin, end = samples_before(frames - overlap.frames, rate), samples_before(frames, rate)
    waveform = without_fill(waveform[..., :end], rate)
    if waveform.shape[-1] <= begin:
        return nothing
    heard = resampling.as_ovi_hears(waveform[..., begin:], rate, overlap.audio_frames * SAMPLES_PER_LATENT)
    steps = heard.shape[-1] // SAMPLES_PER_LATENT
    if not steps:
        return nothing
    heard = heard[..., : steps * SAMPLES_PER_LATENT]
    if steps < LEAST_STEPS:  # the encoder reads two steps at least: let it hear what was before
        more = (LEAST_STEPS - steps) * SAMPLES_PER_LATENT
        before = resampling.resampled(waveform[..., :begin].float().mean(dim=1), rate, SAMPLE_RATE)[..., -more:]
        heard = torch.nn.functional.pad(torch.cat((before, heard), dim=-1), (more - before.shape[-1], 0))
    return audio_vae.encode(heard.unsqueeze(-1))[..., -steps:]
