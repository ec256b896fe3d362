"""What the storyboard uses of ComfyUI beyond its documented interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.cli_args
import comfy.model_management
import folder_paths
import latent_preview
from comfy.patcher_extension import WrappersMP
from torch import Tensor

_FLOW = {"sigmas": None, "multiplier": 1000, "noise_scale": 1.0, "shift": None, "training": True}
_LAZY_CACHE = {
    "cache_diff": None,
    "cumulative_change_rate": 0.0,
    "end_percent": 1.0,
    "end_t": 0.0,
    "initial_step": True,
    "name": "LazyCache",
    "offload_cache_diff": False,
    "output_channels": None,
    "output_prev_norm": None,
    "output_prev_subsampled": None,
    "relative_transformation_rate": None,
    "reuse_threshold": None,
    "start_percent": 0.0,
    "start_t": 0.0,
    "state_metadata": None,
    "subsample_factor": 8,
    "total_steps_skipped": 0,
    "verbose": False,
    "x_prev_subsampled": None,
}
_EASY_CACHE = {name: value for name, value in _LAZY_CACHE.items() if name != "cache_diff"} | {
    "allow_mismatch": True,
    "cut_from_start": True,
    "first_cond_uuid": None,
    "name": "EasyCache",
    "skip_current_step": False,
}
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "comfy.context_windows.ContextFuseMethod": {"name": None, "func": None},
    "comfy.context_windows.ContextSchedule": {"name": None, "func": None},
    "comfy.model_sampling.ModelSamplingDiscreteFlow": _FLOW,
    "comfy.weight_adapter.base.WeightAdapterBase": {"loaded_keys": None, "weights": None},
    "comfy_extras.nodes_easycache.EasyCacheHolder": _EASY_CACHE,
    "comfy_extras.nodes_easycache.LazyCacheHolder": _LAZY_CACHE,
}
"""By class: the attributes that decide what its objects do, and the value of one that this version lacks.

They are those of ComfyUI 0.30, whatever later versions add: hashes of models do not change with an update.
"""


def attributes_of(thing: Any) -> dict[str, Any] | None:
    """The attributes of an object that ComfyUI made, as :data:`ATTRIBUTES` has them; None for any other object."""
    for cls in type(thing).__mro__:
        known = ATTRIBUTES.get(f"{cls.__module__}.{cls.__qualname__}")
        if known:
            return {name: getattr(thing, name, absent) for name, absent in known.items()}
    return None


def with_steps_reported(model: Any, report_step: Callable[[int, int, Any], None]) -> Any:
    """A copy of a MODEL that reports every step of a run; ComfyUI's own progress knows of one run only."""
    previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)

    def outer_sample(
        executor: Any,
        noise: Tensor,
        latent: Tensor,
        sampler: Any,
        sigmas: Tensor,
        mask: Any,
        callback: Any,
        *more: Any,
        **named: Any,
    ) -> Any:
        def report(index: int, x0: Any, x: Any, steps: int) -> None:
            video = model.model.preview_video(x0)
            preview = previewer and previewer.decode_latent_to_preview_image("JPEG", video)
            report_step(index + 1, steps, preview)

        return executor(noise, latent, sampler, sigmas, mask, report, *more, **named)

    reported = model.clone()
    reported.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "ovi_story", outer_sample)
    return reported


def check_interrupted() -> None:
    """Raise ComfyUI's exception if the user has stopped the run."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def started_as() -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments that ComfyUI was started with, and its model folders, to start another process alike."""
    return vars(comfy.cli_args.args), folder_paths.folder_names_and_paths


def loaded_from(patcher: Any) -> tuple | None:
    """What the loader of a patcher was called with; None where it was not recorded."""
    recorded = getattr(patcher, "cached_patcher_init", None)
    return recorded[1] if recorded else None
