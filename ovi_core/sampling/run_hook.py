"""What happens around one sampling run, whichever guider and sampler it has."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from comfy.nested_tensor import NestedTensor
from torch import Tensor

from ..errors import OviError
from ..latents import denoise_mask as masks
from ..latents import joint
from ..model.base_model import Ovi
from ..network.layers import CHUNK_TOKENS
from ..network.run_cache import RunCache, SamplingRun
from ..stable_names import stable_name
from .comfyui import CFGGuider, asks_at_steps, pack_latents, prepare_noise, unpack_latents
from .guider import OviGuider
from .schedules import ROUNDING
from .solvers import ONE_PREDICTION, check_levels
from .variant_settings import note_people, note_speech

KNOWN_ORDER = (CFGGuider.predict_noise, OviGuider.predict_noise)
"""Ways to predict that ask for the positive conditioning first."""


@stable_name("model.sample_hook", defaults=(None, None, False, None, ()))
def sample_hook(
    executor: Any,
    noise: Tensor,
    latent_image: Tensor,
    sampler: Any,
    sigmas: Tensor,
    denoise_mask: Tensor | None = None,
    callback: Any = None,
    disable_pbar: bool = False,
    seed: int | None = None,
    *more: Any,
    latent_shapes: Any = None,
    **named: Any,
) -> Tensor:
    """Around one sampling run (ComfyUI's OUTER_SAMPLE), with latents packed as [B, 1, N] or one part as it is.

    What is masked comes back bit for bit, whichever sampler ran and wherever it stopped; so does the cell that stands
    for no video.

    Raises:
        OviError: a latent that is not Ovi's, a conditioning of a part of the frame, or noise levels of no run.
    """
    guider, shapes = executor.class_obj, latent_shapes or [latent_image.shape]
    if sigmas is not None:
        check_levels(sigmas)
    _check_whole_frame(getattr(guider, "conds", None))
    if not isinstance(guider, OviGuider):  # which has looked at it, before ComfyUI packed it
        joint.check_shapes(shapes, "latent_image")
        note_people(guider.model_patcher, getattr(guider, "conds", None))
    note_speech(getattr(guider, "conds", None), shapes)
    model = guider.model_patcher.model
    run = _run_of(guider, denoise_mask, shapes, sampler, sigmas)
    noise = _whole_noise(noise, latent_image, run, seed)
    _add_options(guider.model_options, run, denoise_mask, model.model_sampling)
    settings = (sampler, sigmas, denoise_mask, _with_preview(callback, model, run), disable_pbar, seed, *more)
    with model.sampling(run):
        result = executor(noise, latent_image, *settings, latent_shapes=latent_shapes, **named)
    return _with_masked(result, latent_image, denoise_mask, shapes)


def _check_whole_frame(conds: Any) -> None:
    """Raise OviError where a conditioning is for an area or behind a mask: ComfyUI cuts these out of latents of one
    part alone.

    Args:
        conds: the guider's conditionings by name, as ComfyUI holds them.
    """
    for name, entries in (conds or {}).items():
        for entry in entries:
            given = [key for key in ("area", "mask") if isinstance(entry, dict) and entry.get(key) is not None]
            if given:
                raise OviError(
                    input=name,
                    found=f"a conditioning with {'an area' if given[0] == 'area' else 'a mask'}",
                    accepted="conditionings for all of the frame",
                    remedy="Take Conditioning (Set Area) and Conditioning (Set Mask) out. To change a region of a "
                    "clip, give its mask to Ovi Keep Span.",
                )


def _run_of(
    guider: Any, denoise_mask: Tensor | None, shapes: Sequence[Sequence[int]], sampler: Any, sigmas: Tensor | None
) -> SamplingRun:
    """The run of a guider by a sampler over ``sigmas``."""
    model_options = guider.model_options
    follows = None if denoise_mask is None else masks.follows(denoise_mask)
    return SamplingRun(
        latent_shapes=shapes,
        follows=follows if follows is not None and follows.any() else None,
        retained_frames=getattr(model_options.get("context_handler"), "latent_retain_index_list", ()),
        chunk_tokens=model_options.get("transformer_options", {}).get(CHUNK_TOKENS, 0),
        sigmas=() if sigmas is None else tuple(sigmas.tolist()),
        by_step=asks_at_steps(sampler) or getattr(sampler, "sampler_function", None) in ONE_PREDICTION,
        conditionings=_conditionings(guider),
        negatives=guider.negatives if isinstance(guider, OviGuider) else 1,
        positive_first=getattr(type(guider), "predict_noise", None) in KNOWN_ORDER,
        masked=None if denoise_mask is None else masks.is_masked(denoise_mask),
    )


def _conditionings(guider: Any) -> int:
    """How many conditionings run in a step."""
    if isinstance(guider, OviGuider):
        return guider.conditionings
    return max(1, sum(len(conds) for conds in (getattr(guider, "conds", None) or {}).values()))


def _whole_noise(noise: Tensor, latent_image: Tensor, run: SamplingRun, seed: int | None) -> Tensor:
    """The noise of the whole latent where "add noise: disable" gives zeros.

    These have the first part's shape only. And what follows the noise needs some, which ``seed`` gives.
    """
    if noise.shape != latent_image.shape and not noise.any():
        noise = torch.zeros_like(latent_image)
    if run.follows is None or noise.any():
        return noise
    drawn = _noise_of(seed, latent_image, run.latent_shapes)
    return torch.where(run.follows.to(noise.device), drawn.to(noise), noise)


def _noise_of(seed: int | None, latent_image: Tensor, shapes: Sequence[Sequence[int]]) -> Tensor:
    """The noise that ComfyUI draws for ``seed``, in the form of the latent."""
    if len(shapes) == 1:
        return prepare_noise(latent_image, seed or 0)
    both = NestedTensor(unpack_latents(latent_image, shapes))
    return pack_latents(prepare_noise(both, seed or 0).unbind())[0]


def _add_options(model_options: dict, run: SamplingRun, denoise_mask: Tensor | None, model_sampling: Any) -> None:
    """Put into the options of this run alone: its cache, and what frees a part of the mask in the middle of it."""
    model_options.setdefault("transformer_options", {})[RunCache.KEY] = run
    if denoise_mask is None or run.follows is None:
        return
    free = _freeing(denoise_mask, model_sampling, model_options.get("denoise_mask_function"))
    if free is not None:
        model_options["denoise_mask_function"] = free


def _freeing(mask: Tensor, model_sampling: Any, other: Callable[..., Tensor] | None) -> Callable[..., Tensor] | None:
    """ComfyUI's ``denoise_mask_function`` for a mask of which something is held until later in the run, else None.

    Args:
        mask: as ComfyUI fits it to the latent, [B, 1, N] or [B, C, T, H, W].
        other: another node's function, called with what this one gives.
    """
    held = masks.is_held(mask)
    if not held.any():
        return None
    level = torch.zeros_like(mask)
    for value in mask[held].unique().tolist():
        level[mask == value] = ROUNDING * model_sampling.percent_to_sigma(2 - value / masks.HELD)

    def free(sigma: Tensor, mask: Tensor, extra_options: dict, **named: Any) -> Tensor:
        now = sigma.reshape(-1, *[1] * (mask.ndim - 1))
        mask = torch.where(held, torch.where(now > level, masks.FOLLOW, 1.0), mask)
        return mask if other is None else other(sigma, mask, extra_options=extra_options, **named)

    return free


def _with_preview(callback: Any, model: Ovi, run: SamplingRun) -> Any:
    """ComfyUI's callback of a step, before which the preview gets the step's audio; it counts the run's steps."""

    def preview(step: int, x0: Tensor, *more: Any, **named: Any) -> Any:
        model.preview_video(x0)
        run.step = step + 1
        return None if callback is None else callback(step, x0, *more, **named)

    return preview


def _with_masked(
    result: Tensor, latent_image: Tensor, denoise_mask: Tensor | None, shapes: Sequence[Sequence[int]]
) -> Tensor:
    """``result`` with what is masked, and the cell that stands for no video, from ``latent_image``."""
    if denoise_mask is not None:
        result = torch.where(masks.is_masked(denoise_mask).to(result.device), latent_image.to(result), result)
    if joint.is_absent(shapes[0]):
        cell = math.prod(shapes[0][1:])
        result = torch.cat((latent_image[..., :cell].to(result), result[..., cell:]), dim=-1)
    return result
