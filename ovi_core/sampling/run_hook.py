"""What happens around one sampling run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import comfy.sample
import comfy.utils
import torch
from comfy.nested_tensor import NestedTensor
from torch import Tensor

from ..latents import joint
from ..latents.denoise_mask import FOLLOW, HELD, is_held, is_kept
from ..latents.denoise_mask import follows as where_following
from ..model.base_model import Ovi
from ..network.layers import CHUNK_TOKENS
from ..network.run_cache import Run
from .schedules import ROUNDING


def freeing(mask: Tensor, model_sampling: Any, other: Callable[..., Tensor] | None) -> Callable[..., Tensor] | None:
    """ComfyUI's ``denoise_mask_function`` for a mask of which something is held until later in the run, else None.

    Args:
        mask: as ComfyUI fits it to the latent, [B, 1, N] or [B, C, T, H, W].
        other: another node's function, called with what this one gives.
    """
    held = is_held(mask)
    if not held.any():
        return None
    level = torch.zeros_like(mask)
    for value in mask[held].unique().tolist():
        level[mask == value] = ROUNDING * model_sampling.percent_to_sigma(2 - value / HELD)

    def free(sigma: Tensor, mask: Tensor, extra_options: dict) -> Tensor:
        now = sigma.reshape(-1, *[1] * (mask.ndim - 1))
        mask = torch.where(held, torch.where(now > level, FOLLOW, 1.0), mask)
        return mask if other is None else other(sigma, mask, extra_options=extra_options)

    return free


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
    latent_shapes: Any = (),
) -> Tensor:
    """Around one sampling run (host's OUTER_SAMPLE): keep the latent's shapes, open and close the :class:`Run`.

    What the mask keeps comes back bit for bit, whichever sampler ran and wherever it stopped; so does the cell that
    stands for no video.
    """
    joint.check_shapes(latent_shapes, "latent_image")
    if noise.shape != latent_image.shape and not noise.any():
        # "add noise: disable" makes zeros of the first part's shape only
        noise = torch.zeros_like(latent_image)
    follows = None if denoise_mask is None else where_following(denoise_mask)
    if follows is None or not follows.any():
        follows = None
    elif not noise.any():
        drawn = _noise_of(seed, latent_image, latent_shapes)
        noise = torch.where(follows.to(noise.device), drawn.to(noise), noise)
    guider = executor.class_obj
    model, run = guider.model_patcher.model, Run(follows)
    model.latent_shapes, model.current_run = latent_shapes, run
    windows = guider.model_options.get("context_handler")
    model.retained_frames = getattr(windows, "latent_retain_index_list", [])
    options = guider.model_options.setdefault("transformer_options", {})
    options[Run.KEY] = run
    model.chunk_tokens = options.get(CHUNK_TOKENS, 0)
    if follows is not None:
        other = guider.model_options.get("denoise_mask_function")
        free = freeing(denoise_mask, model.model_sampling, other)
        if free is not None:
            guider.model_options["denoise_mask_function"] = free
    settings = (sampler, sigmas, denoise_mask, _hearing(callback, model, latent_shapes), disable_pbar, seed)
    try:
        result = executor(noise, latent_image, *settings, latent_shapes=latent_shapes)
    finally:
        model.current_run = model.latent_format.sound = None
    if denoise_mask is not None:
        result = torch.where(is_kept(denoise_mask).to(result.device), latent_image.to(result), result)
    if joint.is_absent(latent_shapes[0]):
        cell = math.prod(latent_shapes[0][1:])
        result = torch.cat((latent_image[..., :cell].to(result), result[..., cell:]), dim=-1)
    return result


def _hearing(callback: Any, model: Ovi, shapes: list) -> Any:
    """ComfyUI's callback of a step, before which the preview gets to know the step's sound."""

    def heard(step: int, x0: Tensor, x: Tensor, steps: int) -> Any:
        model.latent_format.hear(x0, shapes)
        return callback(step, x0, x, steps)

    return callback and heard


def _noise_of(seed: int | None, latent_image: Tensor, shapes: list) -> Tensor:
    """The noise ComfyUI draws for ``seed``, in the form of the latent: a second stage adds none, but what follows the
    noise needs it.
    """
    if len(shapes) == 1:
        return comfy.sample.prepare_noise(latent_image, seed or 0)
    both = NestedTensor(comfy.utils.unpack_latents(latent_image, shapes))
    return comfy.utils.pack_latents(comfy.sample.prepare_noise(both, seed or 0).unbind())[0]
