"""A joint latent that continues a clip: it starts with the clip's end."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ..errors import OviError
from ..latents import denoise_mask, joint, layout
from ..media import resampling
from ..media.audio import optional_audio, without_added_silence
from ..media.frame_rate import checked_frame_rate, notes_of_rate, shown_at
from ..media.images import checked_images, fit
from ..media.overlap import check_overlap
from ..media.resampling import samples_before
from ..spec import AUDIO_CHANNELS, FPS, SAMPLE_RATE, ClipShape, Overlap, audio_frames_within, samples_of, snap_size
from ..vae.checks import check_audio_vae, check_video_vae
from ..vae.encode_audio import MIN_AUDIO_FRAMES, as_vae_input, encode_mono


def extend(
    vae: Any,
    audio_vae: Any,
    images: Any,
    audio: Any,
    overlap_seconds: float,
    seconds: float,
    frame_rate: float = FPS,
) -> tuple[dict, list[str]]:
    """A LATENT of ``seconds`` that starts with the end of a clip, masked clean in both towers.

    The overlap is whole latent frames, 1, 5, 9, 13 ... images (:class:`.Overlap`). Of the clip's audio those whole
    audio frames are masked that end within the overlap and within the audio itself.

    Args:
        images: [F, H, W, 3] in 0..1; stretched to the nearest size on the grid of 32 px.
        audio: ComfyUI's AUDIO of one clip, of any rate and channels, or None: all audio is generated.
        overlap_seconds: rounded; one image at least.
        seconds: of the new clip in all, with the overlap.
        frame_rate: of the images, frames a second. Of another rate than 24 the nearest ones in time are taken, and the
            clip ends with the last whole frame at 24 a second.

    Returns:
        The LATENT, and notes for the user.

    Raises:
        OviError: a clip, VAE or length that does not fit.
    """
    check_video_vae(vae)
    check_audio_vae(audio_vae)
    images = checked_images(images, "images")
    sound = optional_audio(audio, "audio")
    overlap = Overlap.from_seconds(overlap_seconds, least=1)
    shown = shown_at(images.shape[0], checked_frame_rate(frame_rate), FPS)
    check_overlap(overlap.frames, len(shown), FPS, "images")
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
    notes = notes_of_rate(images, sound, frame_rate)
    if (old_width, old_height) != (width, height):
        notes.append(
            f"The new clip has {width}x{height} px, the size nearest to {old_width}x{old_height} that Ovi can "
            "generate; Ovi Join Clips converts it back."
        )
    device = comfy.model_management.intermediate_device()
    tail = fit(images[shown[-overlap.frames :]], width, height, "stretch")
    video = vae.encode(tail).to(device, torch.float32)
    encoded = _tail_of_audio(audio_vae, sound, len(shown), overlap).to(device, torch.float32)
    if sound is not None and not encoded.shape[-1]:
        notes.append("The clip's sound ends before the overlap: the new clip's sound does not continue it.")
    return _starting_with(clip, video, encoded), notes


def _starting_with(clip: ClipShape, video_start: Tensor, audio_start: Tensor) -> dict:
    """A LATENT of ``clip`` that starts with [1, 48, k, h, w] and [1, 20, n], masked clean."""
    video = joint.free_video(torch.zeros(clip.video_shape(), device=video_start.device))
    audio = torch.zeros(clip.audio_shape(), device=audio_start.device)
    masks = []
    for part, start in ((video, video_start), (audio, audio_start)):
        part[:, :, : start.shape[2]] = start
        masks.append(denoise_mask.with_span(denoise_mask.mask_of(part), 0, start.shape[2], denoise_mask.CLEAN))
    return denoise_mask.with_parts({}, video, audio, *masks)


def _tail_of_audio(audio_vae: Any, sound: tuple[Tensor, int] | None, frames: int, overlap: Overlap) -> Tensor:
    """Latent [1, 20, n] of the audio from the overlap's start on; n is 0 where there is none.

    Args:
        sound: waveform [1, C, S] and rate in Hz.
        frames: of the clip, at 24 a second; audio after them is left out.
    """
    nothing = torch.zeros(1, AUDIO_CHANNELS, 0)
    if sound is None:
        return nothing
    waveform, rate = sound
    begin, end = (samples_before(frame, FPS, rate) for frame in (frames - overlap.frames, frames))
    waveform = without_added_silence(waveform[..., :end], rate)
    if waveform.shape[-1] <= begin:
        return nothing
    mono = as_vae_input(waveform[..., begin:], rate, overlap.audio_frames)
    audio_frames = audio_frames_within(mono.shape[-1])
    if not audio_frames:
        return nothing
    mono = mono[..., : samples_of(audio_frames)]
    if audio_frames < MIN_AUDIO_FRAMES:  # the encoder reads two at least: let it read what is before, too
        more = samples_of(MIN_AUDIO_FRAMES - audio_frames)
        before = resampling.resampled(waveform[..., :begin].float().mean(dim=1), rate, SAMPLE_RATE)[..., -more:]
        mono = torch.nn.functional.pad(torch.cat((before, mono), dim=-1), (more - before.shape[-1], 0))
    encoded = encode_mono(audio_vae, mono, audio_frames_within(mono.shape[-1]))
    return layout.span(encoded, layout.length(encoded) - audio_frames, layout.length(encoded))
