"""One whole sampling run of the twin transformer: what the all-in-one sampler node does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.utils
from torch import Tensor

from ..errors import OviError
from ..latents import joint, source_media
from . import solvers
from .comfyui import prepare_noise, step_callback
from .guidance import Guidance
from .guider import OviGuider
from .time_left import TimeLeft
from .variant_settings import parts_given

MOST_STEPS = 10_000
MOST_SHIFT = 10_000
LEAST_DENOISE = 0.001  # the schedule is computed for steps / denoise


def sigmas_for(solver: str, steps: int, shift: float, denoise: float) -> Tensor:
    """Noise levels [steps + 1] of a run over the last ``denoise`` share of the solver's schedule.

    With ``denoise`` < 1 the schedule is made for more steps and its end is taken, as ComfyUI's schedulers do; with 0
    there is nothing to do and the result is empty.

    Raises:
        OviError: less than one step or too many, or a shift or ``denoise`` that gives no schedule.
    """
    if not 1 <= steps <= MOST_STEPS:
        raise OviError(
            input="steps",
            found=f"{steps:,}" if abs(steps) < 10**12 else "a number of more than 12 digits",
            accepted=f"1 step or more, up to {MOST_STEPS:,}",
            remedy="Set steps to 50, the reference's choice.",
        )
    if not 0 < shift <= MOST_SHIFT:
        raise OviError(
            input="shift",
            found=f"{shift:g}",
            accepted=f"a number above 0, up to {MOST_SHIFT:,}",
            remedy="Set shift to 5, the reference's choice.",
        )
    if not denoise <= 1 or 0 < denoise < LEAST_DENOISE:
        raise OviError(
            input="denoise",
            found=f"{denoise:g}",
            accepted=f"0 to do nothing, or {LEAST_DENOISE:g} to 1",
            remedy="Set denoise to 1 for a new clip.",
        )
    if denoise <= 0:
        return solvers.schedule(solver, steps, shift)[0][:0]
    whole, _ = solvers.schedule(solver, max(steps, int(steps / denoise)), shift)
    return whole[-(steps + 1) :]


def sample(
    patcher: comfy.model_patcher.ModelPatcher,
    positive: Any,
    negative: Any,
    guidance: Guidance,
    latent: dict,
    solver: str,
    sigmas: Tensor,
    seed: int,
    show: Callable[[str], None] | None = None,
) -> dict:
    """Sample a LATENT; returns a copy with new ``samples``, which says whether people were given.

    Args:
        positive, negative: CONDITIONING of ComfyUI, plain or dual.
        latent: joint latent with, optionally, ``noise_mask`` and ``batch_index``.
        sigmas: noise levels, from :func:`sigmas_for` with the same ``solver``.
        show: shows a line on how far the run is.
        seed: of the noise, drawn on the CPU as ComfyUI draws it: the videos of a batch first, then the audio.

    Raises:
        OviError: a latent that is not Ovi's, or text of the wrong encoder.
    """
    samples = joint.samples_of(latent, "latent")
    guider = OviGuider(patcher, guidance, latent_input="latent")
    guider.set_conds(positive, negative)
    noise = prepare_noise(samples, seed, _batch_index(latent, samples))
    callback = step_callback(patcher, len(sigmas) - 1)
    result = guider.sample(
        noise,
        samples,
        solvers.sampler(solver),
        sigmas,
        denoise_mask=latent.get("noise_mask"),
        callback=TimeLeft(show, callback) if show else callback,
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    sampled = {**latent, "samples": result.to(comfy.model_management.intermediate_device())}
    given = parts_given(options for _, options in positive)
    return source_media.with_likeness(sampled, [part for part in source_media.PARTS if part in given])


def _batch_index(latent: dict, samples: Any) -> Any:
    """Which noise of a larger batch each clip of a LATENT gets; raises OviError unless there is one for each."""
    index = latent.get("batch_index")
    clips = len(samples.unbind()[0] if getattr(samples, "is_nested", False) else samples)
    if index is None or (isinstance(index, (list, tuple)) and len(index) == clips):
        return index
    raise OviError(
        input="latent",
        found=f"batch_index with {len(index)} numbers" if isinstance(index, (list, tuple)) else type(index).__name__,
        accepted=f"one for each of its {clips} clip(s)",
        remedy="Look at the node that cut the batch, or connect Empty Ovi Latent.",
    )
