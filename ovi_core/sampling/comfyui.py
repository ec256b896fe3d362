"""What this package uses of ComfyUI beyond its documented interface; ``tests/test_comfyui_interface.py`` holds it.

Functions are looked up when they are called, for other nodes may have replaced them. Where context windows are made in
another way than the pack knows, only the node for them stops, with an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.k_diffusion.sampling as k_sampling
import comfy.model_management
import comfy.sample
import comfy.samplers
import latent_preview
from comfy.model_patcher import create_model_options_clone, set_model_options_patch_replace
from comfy.patcher_extension import WrappersMP
from comfy.samplers import KSAMPLER, CFGGuider
from comfy.utils import pack_latents, unpack_latents
from torch import Tensor

from ..errors import OviError
from ..network.comfyui import OVERRIDE, takes
from ..stable_names import stable_name

try:
    from comfy.context_windows import (
        ContextFuseMethod,
        ContextSchedule,
        IndexListContextHandler,
        IndexListContextWindow,
        WindowingState,
    )
except ImportError:
    ContextFuseMethod = ContextSchedule = IndexListContextHandler = IndexListContextWindow = WindowingState = object

__all__ = [
    "KSAMPLER",
    "CFGGuider",
    "ContextFuseMethod",
    "ContextSchedule",
    "IndexListContextHandler",
    "IndexListContextWindow",
    "WindowingState",
    "WrappersMP",
    "asks_at_steps",
    "attention_function",
    "attention_override",
    "calc_cond_batch",
    "check_context_windows",
    "create_model_options_clone",
    "has_easy_cache",
    "on_device",
    "pack_latents",
    "prepare_noise",
    "raise_unless_out_of_memory",
    "sampling_function",
    "set_model_options_patch_replace",
    "step_callback",
    "stop_if_interrupted",
    "unpack_latents",
]

STATE = ("latents", "latent_shapes", "dim", "is_multimodal")  # that our windows read


def check_context_windows() -> None:
    """Raise OviError unless ComfyUI's context windows are those that ours extend."""
    known = (
        takes(IndexListContextHandler, "context_schedule", "fuse_method", "latent_retain_index_list")
        and takes(IndexListContextHandler, "causal_window_fix", "context_length", "context_overlap", "dim")
        and takes(IndexListContextWindow, "index_list", "dim", "total_frames", "modality_windows", "context_overlap")
        and takes(WindowingState, *STATE)
        and hasattr(WindowingState, "prepare_window")
        and hasattr(IndexListContextHandler, "_build_window_state")
    )
    if not known:
        raise OviError(
            input="model",
            found="a version of ComfyUI whose context windows are made in another way than this pack knows",
            accepted="the version of ComfyUI that the pack was tested with",
            remedy="Update Ovi native; until then, sample clips of the trained length, without Ovi Context Windows.",
        )


def has_easy_cache(transformer_options: dict) -> bool:
    """Whether ComfyUI's EasyCache is on, which keeps one result for each prompt."""
    try:
        from comfy_extras.nodes_easycache import EasyCacheHolder
    except ImportError:
        return False
    return isinstance(transformer_options.get("easycache"), EasyCacheHolder)


def attention_function(name: str) -> Callable | None:
    """ComfyUI's attention of this name; None where what it needs is not installed."""
    try:
        from comfy.ldm.modules.attention import get_attention_function
    except ImportError:
        return None
    return get_attention_function(name, default=None)


def attention_override(model_options: dict, name: str) -> bool:
    """Have a MODEL's runs take ComfyUI's attention of this name; False, and no change, where a node chose another."""
    options = model_options.setdefault("transformer_options", {})
    if OVERRIDE in options:
        return False

    @stable_name("speed.attention", holds=(name,))
    def attend(other: Callable, *args: Any, **named: Any) -> Tensor:
        return (attention_function(name) or other)(*args, **named)

    options[OVERRIDE] = attend
    return True


AT_STEPS = frozenset(
    (
        *("sample_euler", "sample_euler_cfg_pp", "sample_euler_ancestral", "sample_euler_ancestral_cfg_pp"),
        *("sample_heun", "sample_lms", "sample_ddpm", "sample_lcm", "sample_dpmpp_2m", "sample_dpmpp_2m_cfg_pp"),
        *("sample_dpmpp_2m_sde", "sample_dpmpp_2m_sde_gpu", "sample_dpmpp_2m_sde_heun"),
        *("sample_dpmpp_2m_sde_heun_gpu", "sample_dpmpp_3m_sde", "sample_dpmpp_3m_sde_gpu", "sample_ipndm"),
        *("sample_ipndm_v", "sample_deis", "sample_res_multistep", "sample_res_multistep_cfg_pp"),
        *("sample_res_multistep_ancestral", "sample_res_multistep_ancestral_cfg_pp"),
        *("sample_gradient_estimation", "sample_gradient_estimation_cfg_pp", "sample_er_sde", "sample_sa_solver"),
        *("sample_unipc", "sample_unipc_bh2"),
    )
)
"""Functions of ComfyUI's samplers that ask at the noise levels of the steps alone, as far as they called back: heun's
second prediction of a step comes after the callback, at the level of the next one. The others (dpm_2, seeds_2, …) ask
at levels that they compute on the device."""


def asks_at_steps(sampler: Any) -> bool:
    """Whether a sampler of ComfyUI is one of :data:`AT_STEPS`, and its options leave the noise levels as they are."""
    function = getattr(sampler, "sampler_function", None)
    name = getattr(function, "__name__", None)
    modules = (k_sampling, getattr(comfy.samplers, "uni_pc", None))
    own = name in AT_STEPS and function in [getattr(module, name, None) for module in modules]
    return own and not getattr(sampler, "extra_options", {}).get("s_churn", 0)


def prepare_noise(samples: Any, seed: int, batch_index: Any = None) -> Any:
    """The noise that ComfyUI draws for a latent, in its form."""
    return comfy.sample.prepare_noise(samples, seed, batch_index)


def sampling_function(*args: Any, **named: Any) -> Tensor:
    """ComfyUI's prediction of the clean latent, with the hooks of all nodes."""
    return comfy.samplers.sampling_function(*args, **named)


def calc_cond_batch(*args: Any) -> list[Tensor]:
    """ComfyUI's predictions for a list of conditionings, as one batch where memory allows."""
    return comfy.samplers.calc_cond_batch(*args)


def stop_if_interrupted() -> None:
    """Raise ComfyUI's exception if the user has interrupted the run."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def raise_unless_out_of_memory(error: Exception) -> None:
    """Raise ``error`` again unless it says that memory is full."""
    comfy.model_management.raise_non_oom(error)


def on_device(device: Any) -> Any:
    """Context in which kernels run on ``device``."""
    return comfy.model_management.cuda_device_context(device)


def step_callback(patcher: Any, steps: int) -> Any:
    """ComfyUI's callback of a step, which moves the progress bar and shows the preview."""
    return latent_preview.prepare_callback(patcher, max(1, steps))
