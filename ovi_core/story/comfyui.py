"""What the storyboard uses of ComfyUI beyond its documented interface."""

from __future__ import annotations

from typing import Any

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
