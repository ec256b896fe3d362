"""AUDIO values: checks, one type and scale for all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ..errors import OviError
from .resampling import resampled

ADDED_SILENCE = 0.1  # s, the most at an audio's end that may be there only to make it as long as its frames
HIGHEST_RATE = 10_000_000  # Hz
REMEDY = "Load the audio with Load Audio, or take that of a video."
SCALES = {torch.int8: 2**7, torch.int16: 2**15, torch.int32: 2**31}
FORMATS = {"unchanged": (0, 0), "48 kHz": (48_000, 0), "48 kHz stereo": (48_000, 2)}
"""Names of formats that video editors expect: Hz and channels, 0 for those that the audio has."""
INAUDIBLE = 1e-3  # rms, 60 dB below full scale


def checked_audio(audio: Any, batch: int | None = None, input: str = "audio") -> tuple[Tensor, int]:
    """Waveform [B or 1, C, S] as float32 and rate in Hz of ComfyUI's AUDIO; float32 comes back as it is.

    Integers are scaled to -1..1 by their full scale. A tensor of another device is brought to where ComfyUI keeps
    AUDIOs. The rate may be a whole number of any type.

    Args:
        batch: how many clips want audio; None takes any number.

    Raises:
        OviError: no AUDIO, an empty one, a type that is none of samples, values that are not finite, or not one for
            each clip.
    """
    waveform = audio.get("waveform") if isinstance(audio, Mapping) else None
    accepted, remedy = "an AUDIO of finite samples", REMEDY
    if not isinstance(waveform, Tensor):
        found = "no audio" if audio is None else f"{type(audio).__name__} without a waveform"
    elif waveform.ndim != 3 or 0 in waveform.shape:
        found = f"a waveform of shape {list(waveform.shape)}"
        accepted = "[batch, channels, samples], none of them 0"
    elif batch is not None and waveform.shape[0] not in (1, batch):
        found, accepted = f"{waveform.shape[0]} audio(s) for {batch} clip(s)", f"1 audio, or {batch}: one per clip"
        remedy = "Pick one audio of the batch, or set the latent's batch size to their number."
    else:
        rate = _checked_rate(audio.get("sample_rate"), input)
        samples = _scaled(waveform, input)
        if bool(torch.isfinite(samples).all()):
            return samples, rate
        found, remedy = "audio with NaN or infinite samples", "Generate or load the audio again."
    raise OviError(input=input, found=found, accepted=accepted, remedy=remedy)


def optional_audio(audio: Any, input: str) -> tuple[Tensor, int] | None:
    """As :func:`checked_audio` for one clip, [1, C, S]; None for a clip without audio (None, or 0 samples).

    Raises:
        OviError: as :func:`checked_audio`, or the audio of several clips.
    """
    if audio is None or is_silent(audio):
        return None
    waveform, rate = checked_audio(audio, input=input)
    if waveform.shape[0] != 1:
        raise OviError(
            input=input,
            found=f"{waveform.shape[0]} audios in a batch",
            accepted="the audio of one clip",
            remedy="Generate one clip at a time (batch size 1), for each continues in its own way.",
        )
    return waveform, rate


def in_format(waveform: Tensor, rate: int, format: str) -> tuple[Tensor, int]:
    """Audio [B, C, S] at ``rate`` Hz in one of :data:`FORMATS`, and its rate. Mono becomes two equal channels, more
    than two are mixed to one first."""
    new_rate, channels = FORMATS[format]
    if channels and waveform.shape[1] != channels:
        waveform = waveform.mean(dim=1, keepdim=True).expand(-1, channels, -1)
    return resampled(waveform, rate, new_rate or rate), new_rate or rate


def is_silent(audio: Any) -> bool:
    """Whether an AUDIO has 0 samples or channels: ComfyUI's nodes give that for a clip without audio."""
    waveform = audio.get("waveform") if isinstance(audio, Mapping) else None
    return isinstance(waveform, Tensor) and waveform.ndim > 0 and 0 in waveform.shape


def is_inaudible(mono: Tensor) -> bool:
    """Whether any of several sounds [B, S] is, as a whole, 60 dB or more below full scale."""
    return bool((mono.square().mean(dim=-1).sqrt() < INAUDIBLE).any())


def _checked_rate(rate: Any, input: str) -> int:
    """A whole number of Hz, from Python's, NumPy's and PyTorch's numbers and from digits."""
    try:
        number = float(rate.item() if hasattr(rate, "item") else rate)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        number = math.nan
    if isinstance(rate, bool) or not 1 <= number <= HIGHEST_RATE or not number.is_integer():
        raise OviError(
            input=input,
            found=f"a sample rate of {rate}",
            accepted=f"a whole number of Hz, from 1 to {HIGHEST_RATE}",
            remedy=REMEDY,
        )
    return int(number)


def _scaled(waveform: Tensor, input: str) -> Tensor:
    """Samples as float32; 8 bit without sign lie around 128, as in WAV files."""
    plain = waveform.layout == torch.strided and not waveform.is_quantized and not waveform.is_meta
    moved = waveform.to(comfy.model_management.intermediate_device()) if plain else waveform
    if plain and waveform.is_floating_point():
        return moved.to(torch.float32)
    if plain and waveform.dtype in SCALES:
        return moved.to(torch.float32) / SCALES[waveform.dtype]
    if plain and waveform.dtype == torch.uint8:
        return (moved.to(torch.float32) - 128) / 128
    raise OviError(
        input=input,
        found=f"samples of type {waveform.dtype} ({waveform.layout}, on {waveform.device})",
        accepted="floats in -1..1, or integers of 8, 16 or 32 bit",
        remedy="Look at the node that made the audio; ComfyUI's own give float32.",
    )


def without_added_silence(waveform: Tensor, rate: int) -> Tensor:
    """Audio [..., S] without the exact zeros at its end, of which at most 0.1 s are cut.

    Ovi's audio is up to 0.06 s shorter than its frames, and is padded where it must last as long. Silence that is part
    of the audio loses nothing by being cut too: it is padded again.
    """
    last = waveform[..., -max(1, round(ADDED_SILENCE * rate)) :]
    silent = (last == 0).flatten(0, -2).all(dim=0).flip(0)
    count = int(silent.long().cumprod(0).sum())
    return waveform[..., : waveform.shape[-1] - count]
