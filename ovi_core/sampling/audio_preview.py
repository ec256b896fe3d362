"""The sound of a step, to be heard while the run goes on.

ComfyUI calls back after every step with the clip that the step predicts. From some of them the sound is decoded by the
audio VAE, which is small beside a step of the model. It is loaded together with the model, as one of the patcher's
additional models. It is not called by its own ``decode``, for that may ask ComfyUI for room, and ComfyUI would make
room by putting away the model in the middle of its run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..spec import SAMPLE_RATE
from ..vae.checks import check_audio_vae

KEY = "ovi_sound_preview"
"""Of the wrapper and of the additional model."""

NO_SOUND = "The latent is pictures alone: there is no sound to hear while it is made."

Play = Callable[[Tensor, int], None]
"""Takes sound [1, 1, S] in -1..1 and its rate in Hz."""
Warn = Callable[[str], None]


def with_sound_preview(patcher: Any, audio_vae: Any, every: int, play: Play, warn: Warn) -> Any:
    """A copy of a MODEL whose runs play the sound of every ``every``-th step and of the last one.

    The clips of a batch after the first are not played. What cannot be decoded or played for want of memory or disk is
    told to ``warn`` once, and the run goes on without.

    Raises:
        OviError: ``audio_vae`` is no audio VAE of Ovi's.
    """
    check_audio_vae(audio_vae)
    patcher = patcher.clone()
    patcher.set_additional_models(KEY, [audio_vae.patcher])
    patcher.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, KEY)
    listen = partial(_listening, partial(Listener, audio_vae, every, play, warn))
    patcher.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, listen)
    return patcher


class Listener:
    """Plays steps of one run, until something goes wrong.

    Args:
        shapes: of video and audio latent, which ComfyUI samples packed as one.
    """

    def __init__(self, vae: Any, every: int, play: Play, warn: Warn, shapes: list):
        self.vae, self.every, self.play, self.warn, self.shapes = vae, every, play, warn, shapes
        self.on = len(shapes) > 1
        if not self.on:
            warn(NO_SOUND)

    def heard(self, step: int, x0: Tensor, steps: int) -> None:
        """Play the packed prediction ``x0`` of a step, counted from 0, if it is one of those to be played."""
        done = step + 1
        if not self.on or (done % self.every and done < steps):
            return
        comfy.model_management.throw_exception_if_processing_interrupted()
        try:
            self.play(_decoded(self.vae, _audio_of(x0, self.shapes)), SAMPLE_RATE)
        except Exception as error:
            if not isinstance(error, OSError):
                comfy.model_management.raise_non_oom(error)
            self.on = False
            self.warn(f"The sound cannot be heard while it is made; the run goes on. {error}")


def _listening(
    listener: Callable[[list], Listener],
    executor: Any,
    noise: Tensor,
    latent_image: Tensor,
    sampler: Any,
    sigmas: Tensor,
    denoise_mask: Tensor | None = None,
    callback: Any = None,
    *more: Any,
    latent_shapes: Any = (),
) -> Tensor:
    """Around one sampling run (host's OUTER_SAMPLE): a :class:`Listener` after ComfyUI's own callback of a step."""
    ear = listener(latent_shapes)

    def called(step: int, x0: Tensor, x: Tensor, steps: int) -> Any:
        result = callback(step, x0, x, steps) if callback else None
        ear.heard(step, x0, steps)
        return result

    return executor(noise, latent_image, sampler, sigmas, denoise_mask, called, *more, latent_shapes=latent_shapes)


def _audio_of(x0: Tensor, shapes: list) -> Tensor:
    """The audio latent [1, 20, L] of the first clip in a packed prediction [B, 1, N]."""
    return comfy.utils.unpack_latents(x0[:1], [[1, *shape[1:]] for shape in shapes])[1]


@torch.inference_mode()
def _decoded(vae: Any, audio: Tensor) -> Tensor:
    """Audio latent [1, 20, L] to sound [1, 1, 512 L] at 16 kHz, on the device of the VAE's results."""
    with comfy.model_management.cuda_device_context(vae.device):
        sound = vae.first_stage_model.decode(audio.to(device=vae.device, dtype=vae.vae_dtype))
        return sound.to(device=vae.output_device, dtype=torch.float32).clamp(-1, 1)
