"""AUDIO values: checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import OviError

LEAST_STEPS = 2  # latent steps of the shortest sound: one column of the spectrogram


def checked_sound(audio: Any, batch: int | None, input: str = "audio") -> tuple[Tensor, int]:
    """Waveform [B or 1, C, S] and rate in Hz of ComfyUI's AUDIO; any number of sounds without ``batch``.

    Raises:
        OviError: no AUDIO, an empty one, one that is not finite, or sounds that are not one for each clip.
    """
    waveform = audio.get("waveform") if isinstance(audio, Mapping) else None
    rate = audio.get("sample_rate") if isinstance(audio, Mapping) else None
    accepted, remedy = "an AUDIO of finite samples", "Load the sound with Load Audio, or take that of a video."
    if not isinstance(waveform, Tensor):
        found = "no sound" if audio is None else f"{type(audio).__name__} without a waveform"
    elif waveform.ndim != 3 or 0 in waveform.shape:
        found = f"a waveform of shape {list(waveform.shape)}"
        accepted = "[batch, channels, samples], none of them 0"
    elif not isinstance(rate, (int, float)) or rate < 1 or not float(rate).is_integer():
        found, accepted = f"a sample rate of {rate}", "a whole number of Hz, above 0"
    elif not torch.isfinite(waveform).all():
        found, remedy = "sound with NaN or infinite samples", "Make or load the sound again."
    elif batch is not None and waveform.shape[0] not in (1, batch):
        found, accepted = f"{waveform.shape[0]} sounds for {batch} clip(s)", f"1 sound, or {batch}: one a clip"
        remedy = "Pick one sound of the batch, or set the latent's batch size to the number of sounds."
    else:
        return waveform, int(rate)
    raise OviError(input=input, found=found, accepted=accepted, remedy=remedy)


FILL = 0.1  # s, the longest silence at a sound's end that may be there only to make it as long as its frames


def check_one_sound(audio: Any, input: str) -> tuple[Tensor, int] | None:
    """Waveform [1, C, S] and rate in Hz of ComfyUI's AUDIO; None for a clip without sound.

    Raises:
        OviError: an AUDIO that is none, not finite, or of several sounds.
    """
    if audio is None:
        return None
    waveform, rate = checked_sound(audio, batch=None, input=input)
    if waveform.shape[0] != 1:
        raise OviError(
            input=input,
            found=f"{waveform.shape[0]} sounds in a batch",
            accepted="the sound of one clip",
            remedy="Make one clip at a time (batch size 1), for each goes on in its own way.",
        )
    return waveform, rate


def without_fill(waveform: Tensor, rate: int) -> Tensor:
    """A sound [..., S] without the exact zeros at its end, of which there are at most 0.1 s.

    Ovi's sound is up to 0.06 s shorter than its frames, and is filled up where it must last as long. Silence that is
    part of the sound loses nothing by being cut too: it is filled again.
    """
    last = waveform[..., -round(FILL * rate) :]
    silent = (last == 0).flatten(0, -2).all(dim=0).flip(0)
    count = int(silent.long().cumprod(0).sum())
    return waveform[..., : waveform.shape[-1] - count]
