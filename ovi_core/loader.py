"""From files on disk to the host's MODEL."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.utils
import safetensors
import torch
from comfy.patcher_extension import WrappersMP

from . import checkpoint
from .model import OviModelConfig, sample_hook
from .patcher import patcher_class
from .weight_files import Weights, read_weights

WEIGHT_DTYPES: dict[str, dict[str, Any]] = {
    "default": {},
    "fp8_e4m3fn": {"dtype": torch.float8_e4m3fn},
    "fp8_e4m3fn_fast": {"dtype": torch.float8_e4m3fn, "fp8_optimizations": True},
    "fp8_e5m2": {"dtype": torch.float8_e5m2},
}
"""The choices of the host's own diffusion model loader, as its model options."""


def load_model(
    model_path: str, audio_path: str | None = None, weight_dtype: str = "default", disable_dynamic: bool = False
) -> comfy.model_patcher.ModelPatcher:
    """Load the twin transformer.

    Args:
        model_path: file with both towers, or with the video tower.
        audio_path: file with the audio tower, if it is not in ``model_path``.
        weight_dtype: a key of :data:`WEIGHT_DTYPES`.
        disable_dynamic: ask for the host's plain patcher (the host does, when it needs a second copy).

    Raises:
        OviError: a file that cannot be read, is no Ovi file, or lacks, adds or misshapes weights.
    """
    audio = _read(audio_path, "audio_model_name") if audio_path else None
    weights = checkpoint.both_towers(_read(model_path, "model_name"), audio)
    options = WEIGHT_DTYPES[weight_dtype]
    config = _host_config(weights, options)
    model = config.get_model(weights)
    device = comfy.model_management.get_torch_device()
    patcher = patcher_class(device, disable_dynamic)(
        model, load_device=device, offload_device=comfy.model_management.unet_offload_device()
    )
    if not comfy.model_management.is_device_cpu(patcher.offload_device):
        model.to(patcher.offload_device)
    model.load_model_weights(weights, assign=patcher.is_dynamic())
    patcher.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "ovi", sample_hook)
    patcher.cached_patcher_init = (load_model, (model_path, audio_path, weight_dtype))
    return patcher


def _read(path: str, input: str) -> Weights:
    """Weights of one file, with older spellings of quantisation turned into the host's present one."""
    weights = read_weights(path, input=input, accepted=checkpoint.ACCEPTED)
    metadata = None
    if path.lower().endswith((".safetensors", ".sft")):
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata()
    # What a file says about its quantised layers may name them with the prefix around the model or without.
    weights, metadata = comfy.utils.convert_old_quants(weights, "", metadata=metadata)
    inner = checkpoint.unwrapped(weights)
    if inner is not weights:
        inner, _ = comfy.utils.convert_old_quants(inner, "", metadata=metadata)
    return {key: value for key, value in inner.items() if not key.startswith(checkpoint.WRAPPINGS)}


def _host_config(weights: Weights, options: dict[str, Any]) -> OviModelConfig:
    """The host's description of the model, with the types it will be stored and computed in."""
    config = OviModelConfig({"image_model": "ovi", **checkpoint.read_config(weights).as_dict()})
    config.quant_config = comfy.utils.detect_layer_quantization(weights, "")
    device = comfy.model_management.get_torch_device()
    supported = config.supported_inference_dtypes
    stored_as = None if config.quant_config is not None else comfy.utils.weight_dtype(weights)
    dtype = options.get("dtype") or comfy.model_management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(weights), supported_dtypes=supported, weight_dtype=stored_as
    )
    computed = None if config.quant_config is not None else dtype
    cast = comfy.model_management.unet_manual_cast(computed, device, supported)
    config.set_inference_dtype(dtype, cast, device=device)
    config.optimizations["fp8"] = options.get("fp8_optimizations", False)
    return config
