"""A preview of the audio while a run goes on.

ComfyUI calls back after every step with the clip that the step predicts. The audio VAE, which is small beside a step of
the model, decodes the audio of some of them. It is loaded together with the model, as one of the patcher's additional
models. Its own ``decode`` is not called, for that may ask ComfyUI for room, and ComfyUI would offload the model in the
middle of its run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..spec import SAMPLE_RATE
from ..vae.checks import check_audio_vae
from .comfyui import (
    WrappersMP,
    on_device,
    raise_unless_out_of_memory,
    stop_if_interrupted,
    unpack_latents,
)

KEY = "ovi_sound_preview"
"""Of the wrapper and of the additional model."""

NO_AUDIO = "The latent is video only: there is no audio to preview."

Play = Callable[[Tensor, int], None]
"""Takes audio [1, 1, S] in -1..1 and its rate in Hz."""
Warn = Callable[[str], None]


def with_audio_preview(patcher: Any, audio_vae: Any, every: int, play: Play, warn: Warn) -> Any:
    """A copy of a MODEL whose runs play the audio of every ``every``-th step and of the last one.

    Of a batch the first clip is played. Where memory or disk lacks room to decode or play, ``warn`` gets a note once
    and the run goes on without.

    Raises:
        OviError: ``audio_vae`` is no audio VAE of Ovi's.
    """
    check_audio_vae(audio_vae)
    patcher = patcher.clone()
    patcher.set_additional_models(KEY, [audio_vae.patcher])
    patcher.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, KEY)
    around = partial(_around_run, partial(AudioPreview, audio_vae, every, play, warn))
    patcher.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, around)
    return patcher


class AudioPreview:
    """Plays steps of one run, until something goes wrong.

    Args:
        shapes: of the parts of the latent, which ComfyUI samples packed as one.
    """

    def __init__(self, vae: Any, every: int, play: Play, warn: Warn, shapes: Sequence[Sequence[int]]):
        self.vae, self.every, self.play, self.warn, self.shapes = vae, every, play, warn, shapes
        self.on = len(shapes) > 1
        if not self.on:
            warn(NO_AUDIO)

    def step_done(self, step: int, x0: Tensor, steps: int) -> None:
        """Play the packed prediction ``x0`` of a step, counted from 0, if it is one of those to be played."""
        done = step + 1
        if not self.on or (done % self.every and done < steps):
            return
        stop_if_interrupted()
        try:
            self.play(_decoded(self.vae, _audio_of(x0, self.shapes)), SAMPLE_RATE)
        except Exception as error:
            if not isinstance(error, OSError):
                raise_unless_out_of_memory(error)
            self.on = False
            self.warn(f"The audio cannot be previewed; the run goes on. {error}")


def _around_run(
    preview: Callable[[Sequence[Sequence[int]]], AudioPreview],
    executor: Any,
    noise: Tensor,
    latent_image: Tensor,
    sampler: Any,
    sigmas: Tensor,
    denoise_mask: Tensor | None = None,
    callback: Any = None,
    *more: Any,
    latent_shapes: Any = (),
    **named: Any,
) -> Tensor:
    """Around one sampling run (ComfyUI's OUTER_SAMPLE): an :class:`AudioPreview` after the callback of each step."""
    playing = preview(latent_shapes or ())

    def step_done(step: int, x0: Tensor, x: Tensor, steps: int, *more: Any, **named: Any) -> Any:
        result = callback(step, x0, x, steps, *more, **named) if callback else None
        playing.step_done(step, x0, steps)
        return result

    settings = (sampler, sigmas, denoise_mask, step_done, *more)
    return executor(noise, latent_image, *settings, latent_shapes=latent_shapes, **named)


def _audio_of(x0: Tensor, shapes: Sequence[Sequence[int]]) -> Tensor:
    """The audio latent [1, 20, L] of the first clip in a packed prediction [B, 1, N]."""
    return unpack_latents(x0[:1], [[1, *shape[1:]] for shape in shapes])[1]


@torch.inference_mode()
def _decoded(vae: Any, audio: Tensor) -> Tensor:
    """Audio latent [1, 20, L] to audio [1, 1, 512 L] at 16 kHz, on the device of the VAE's results."""
    with on_device(vae.device):
        wave = vae.first_stage_model.decode(audio.to(device=vae.device, dtype=vae.vae_dtype))
        return wave.to(device=vae.output_device, dtype=torch.float32).clamp(-1, 1)
