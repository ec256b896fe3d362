"""A person whose face and voice a clip is to have: references for weights that were trained on them.

What the references are and how the network reads them: ``network/references.py``. Face and voice are prepared as the
engine of DreamID-Omni (arXiv 2602.12160) prepares them, to the pixel and to the sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import OviError
from ..media import resampling
from ..media.audio import checked_audio, is_inaudible
from ..media.images import checked_images
from ..network.references import KEY, check_people
from ..spec import MOST_PEOPLE, SAMPLE_RATE, SAMPLES_PER_LATENT, SPATIAL, Variant
from ..vae.checks import check_audio_vae, check_video_vae
from .latent_input import parts_of

VOICE_SECONDS = 1.0  # of speech, which is what the weights were trained on
WHITE = 255
REMEDY = "Leave this Ovi Person out: the weights were trained on one or two."

Conditioning = list[list[Any]]


def with_person(
    positive: Conditioning,
    negative: Conditioning,
    vae: Any,
    audio_vae: Any,
    latent: dict,
    face: Any = None,
    voice: Any = None,
    voice_start: float = 1.0,
) -> tuple[Conditioning, Conditioning, list[str]]:
    """Both conditionings with one person more.

    Args:
        latent: the LATENT that is to be sampled; its size decides how the face is fitted.
        face: IMAGE [1, H, W, 3 or 4], or one for each clip of the batch; transparency is left out, not blended.
        voice: AUDIO of any rate and number of channels; one, or one for each clip of the batch.
        voice_start: second of the voice at which the second that is taken begins.

    Returns:
        Positive and negative, and notes for the user.

    Raises:
        OviError: neither face nor voice, a third person, a face that is too small, a voice that is too short or
            silent, another VAE or latent.
    """
    before = [_people(conditioning, name) for conditioning, name in ((positive, "positive"), (negative, "negative"))]
    if face is None and voice is None:
        raise OviError(
            input="face and voice",
            found="neither",
            accepted="a face, a voice, or both",
            remedy="Connect Load Image to face and Load Audio to voice.",
        )
    video, audio = parts_of(latent, lead=True)
    batch = (video if video is not None else audio).shape[0]  # type: ignore[union-attr]
    person: dict[str, Tensor | None] = {"face": None, "voice": None}
    if face is not None:
        if video is None:
            raise OviError(
                input="face",
                found="a face for a latent of audio alone",
                accepted="a voice alone, or a latent with video",
                remedy="Set towers of Empty Ovi Latent to video + audio, or disconnect the face.",
            )
        person["face"] = _encoded_face(vae, face, video.shape[-1] * SPATIAL, video.shape[-2] * SPATIAL, batch)
    if voice is not None:
        person["voice"] = _encoded_voice(audio_vae, voice, voice_start, batch)
    people = [*before[0], person]
    check_people(people, "latent", "Connect the latent that is sampled to every Ovi Person.")
    return _with_people(positive, people), _with_people(negative, people), _notes(people)


def _people(conditioning: Conditioning, input: str) -> list[dict]:
    """The people that a conditioning has: those of its first part, which all parts will have with one more."""
    if not isinstance(conditioning, (list, tuple)) or not conditioning:
        raise OviError(
            input=input,
            found="no conditioning",
            accepted="a CONDITIONING",
            remedy="Connect Ovi Text Encode, or another Ovi Person.",
        )
    people = conditioning[0][1].get(KEY) or []
    check_people(people, input, REMEDY)
    if len(people) == MOST_PEOPLE:
        raise OviError(
            input=input,
            found=f"a conditioning with {len(people)} people",
            accepted=f"up to {MOST_PEOPLE} people",
            remedy=REMEDY,
        )
    return list(people)


def _with_people(conditioning: Conditioning, people: list[dict]) -> Conditioning:
    return [[text, {**options, KEY: people}] for text, options in conditioning]


def fitted_face(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """A face [h, w, 3] uint8 inside ``width`` x ``height`` px, enlarged too, centred on white: [H, W, 3] uint8."""
    own_height, own_width = image.shape[:2]
    shape = own_width / own_height
    size = (width, max(1, int(width / shape))) if shape > width / height else (max(1, int(height * shape)), height)
    scaled = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
    canvas = np.full((height, width, 3), WHITE, dtype=np.uint8)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    canvas[top : top + size[1], left : left + size[0]] = scaled
    return canvas


def _encoded_face(vae: Any, face: Any, width: int, height: int, batch: int) -> Tensor:
    """Latent [1 or B, 48, 1, H, W] of a face, each encoded alone as a single frame."""
    check_video_vae(vae)
    if isinstance(face, Tensor) and face.layout == torch.strided and face.ndim == 4 and face.shape[-1] == 4:
        face = face[..., :3]
    face = checked_images(face, "face")
    if face.shape[0] not in (1, batch):
        raise OviError(
            input="face",
            found=f"{face.shape[0]} images",
            accepted="one image" if batch == 1 else f"one image, or {batch}: one for each clip of the batch",
            remedy="Connect Load Image; best is a face that is cropped closely.",
        )
    in_8_bit = (face.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    fitted = [fitted_face(one, width, height) for one in in_8_bit]
    # ComfyUI's VAE takes 0..1; frames of one call would be one clip, so each goes alone
    return torch.cat([vae.encode(torch.from_numpy(one).float()[None] / 255) for one in fitted])


def _encoded_voice(audio_vae: Any, voice: Any, start: float, batch: int) -> Tensor:
    """Latent [1 or B, 20, n] of a second of a voice, 31 audio frames where all of it is there."""
    check_audio_vae(audio_vae)
    return audio_vae.encode(voice_second(voice, start, batch).unsqueeze(-1))


def voice_second(voice: Any, start: float, batch: int = 1, skipped: float = 0.0) -> Tensor:
    """The second [1 or B, S] of a voice that is taken of it, one channel at 16 kHz; shorter where the voice ends.

    Args:
        voice: AUDIO.
        start: second of it at which the second begins.
        skipped: seconds of the recording that were left out before ``voice``, for errors.

    Raises:
        OviError: a start that is no time, or a voice that is too short or silent from there on.
    """
    waveform, rate = checked_audio(voice, batch, input="voice")
    lasts, from_second = skipped + waveform.shape[-1] / rate, skipped + start
    if not (math.isfinite(start) and start >= 0):
        raise OviError(
            input="voice_start",
            found=f"{start:g} s",
            accepted="0 s or more",
            remedy="Set it to where a second of clear speech begins.",
        )
    mono = resampling.resampled(waveform.float().mean(dim=1), rate, SAMPLE_RATE)
    begin = round(start * SAMPLE_RATE)
    second = mono[..., begin : begin + round(VOICE_SECONDS * SAMPLE_RATE)]
    frames = second.shape[-1] // SAMPLES_PER_LATENT
    found = None
    if not frames:
        found = f"a voice of {lasts:.2f} s, of which nothing is left after {from_second:g} s"
    elif is_inaudible(second):
        found = f"silence from {from_second:g} s to {from_second + second.shape[-1] / SAMPLE_RATE:g} s"
    if found is not None:
        raise OviError(
            input="voice",
            found=found,
            accepted=f"{VOICE_SECONDS:g} s of clear speech from voice_start on",
            remedy="Set voice_start to where somebody speaks; 0 for a recording that is shorter than two seconds.",
        )
    return second


def slot_notes(faces: Sequence[int], voices: Sequence[int]) -> list[str]:
    """Which voice the weights bind to the face of another person.

    Args:
        faces, voices: numbers, from 0, of the people who have one.
    """
    return [
        f"Voice {slot + 1} is that of person {voice + 1} but stands with the face of person {face + 1}: faces and "
        "voices are counted apart. Put the person who has a voice first."
        for slot, (face, voice) in enumerate(zip(faces, voices, strict=False))
        if face != voice
    ]


def _notes(people: Sequence[dict]) -> list[str]:
    """What the user should know: which voice the weights bind to which face, and what is still missing."""
    faces, voices = ([k for k, one in enumerate(people) if one[part] is not None] for part in ("face", "voice"))
    notes = slot_notes(faces, voices)
    if people[-1]["voice"] is not None:
        short = people[-1]["voice"].shape[-1] * SAMPLES_PER_LATENT / SAMPLE_RATE
        if short < 0.9 * VOICE_SECONDS:
            notes.append(f"The voice gives {short:.2f} s; the weights were trained on {VOICE_SECONDS:g} s.")
    return notes


def without_people(variant: Variant) -> str:
    """What the sampler and the storyboard say of weights that were not trained on references and are given some."""
    return f"The weights {variant.name} were not trained on reference faces and voices."


def with_people(variant: Variant) -> str:
    """What they say of weights that were trained on references and are given none."""
    return f"The weights {variant.name} were trained with the face or the voice of one or two people."
