"""From files on disk to ComfyUI's MODEL."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import comfy.model_management
import comfy.model_patcher
import torch

from ..model import checkpoint
from ..model.base_model import OviModelConfig
from ..model.comfyui import patcher_options, supports_fp8
from ..model.latent_format import PREVIEW_KEY
from ..model.patcher import patcher_class
from ..sampling.run_hook import sample_hook
from ..weights import gguf_tensors, quantization
from ..weights.files import GGUF, WeightFile, Weights, read_file, read_header
from ..weights.variant_note import note_variant
from . import comfyui
from .folders import shipped_preview
from .variant_detection import variant_of

WEIGHT_DTYPES: dict[str, dict[str, Any]] = {
    "default": {},
    "fp8_e4m3fn": {"dtype": torch.float8_e4m3fn},
    "fp8_e4m3fn_fast": {"dtype": torch.float8_e4m3fn, "fp8_optimizations": True},
    "fp8_e5m2": {"dtype": torch.float8_e5m2},
}
"""The choices of ComfyUI's own diffusion model loader, as its model options."""

MULTIPLIED_OUT = 1 << 30
"""Bytes up to which scaled fp8 is multiplied out at once where a CPU computes; in each step that would take it a third
of the small model's time."""


def load_model(
    model_path: str, audio_path: str | None = None, weight_dtype: str = "default", disable_dynamic: bool = False
) -> comfy.model_patcher.ModelPatcher:
    """Load the twin transformer. Where its file shows which variant of Ovi it is, that is noted on the patcher.

    Args:
        model_path: file with both towers, or with the video tower.
        audio_path: file with the audio tower, if it is not in ``model_path``.
        weight_dtype: a key of :data:`WEIGHT_DTYPES`.
        disable_dynamic: ask for ComfyUI's plain patcher (ComfyUI does, when it needs a second copy).

    Raises:
        OviError: a file that cannot be read, is no Ovi file, or lacks, adds or misshapes weights.
    """
    weights, metadata = _read_towers(model_path, audio_path)
    device, offload_device = comfyui.devices()
    options = WEIGHT_DTYPES[weight_dtype]
    if comfy.model_management.is_device_cpu(device) and not (options or supports_fp8(device)):
        weights = quantization.fp8_in_float32(weights, MULTIPLIED_OUT)
    config = _model_config(weights, options)
    model = config.get_model(weights)
    packed = config.custom_operations is not None
    kind = patcher_class(device, disable_dynamic, packed)
    patcher = kind(model, load_device=device, offload_device=offload_device, **patcher_options(kind, weights))
    if not comfy.model_management.is_device_cpu(patcher.offload_device):
        model.to(patcher.offload_device)
    model.load_model_weights(weights, assign=patcher.is_dynamic())
    patcher.add_wrapper_with_key(comfyui.WrappersMP.OUTER_SAMPLE, "ovi", sample_hook)
    patcher.cached_patcher_init = (load_model, (model_path, audio_path, weight_dtype))
    variant = variant_of(model_path, metadata)[0]
    model.latent_format.take_preview(metadata.get(PREVIEW_KEY) or shipped_preview(variant))
    note_variant(patcher, variant)
    return patcher


def read_transformer(model_path: str, audio_path: str | None = None) -> Weights:
    """Both towers by the module's names, from one file or two, mapped; quantized layers as ComfyUI spells them.

    Raises OviError for a file that cannot be read or is no Ovi file.
    """
    return _read_towers(model_path, audio_path)[0]


def _read_towers(model_path: str, audio_path: str | None) -> tuple[Weights, dict[str, str]]:
    """:func:`read_transformer`, and the metadata of the file with the video tower."""
    audio = read_model_file(audio_path, "audio_model_name") if audio_path else None
    model = read_model_file(model_path)
    weights = checkpoint.both_towers(model.weights, audio.weights if audio else None)
    if any(file and file.kind == GGUF for file in (model, audio)):
        weights = checkpoint.fit_shapes(weights)
    return weights, model.metadata


def read_model_file(path: str, input: str = "model_name", header_only: bool = False) -> WeightFile:
    """One file, its weights without what is put around a whole model; quantized layers as ComfyUI spells them.

    Args:
        header_only: read names, shapes and types alone; the weights are on the meta device.

    Raises:
        OviError: the file cannot be read, or is quantized in a way that nothing here computes with.
    """
    if header_only:
        file = read_header(path, input=input, accepted=checkpoint.ACCEPTED)
    else:
        file = read_file(path, input=input, accepted=checkpoint.ACCEPTED, packed=True)
    checkpoint.refuse_foreign_quantization(file.weights, input)
    weights = quantization.comfyui_spelling(
        checkpoint.unwrapped(file.weights), file.metadata, checkpoint.WRAPPINGS, input=input
    )
    return replace(file, weights=weights)


def _model_config(weights: Weights, options: dict[str, Any]) -> OviModelConfig:
    """ComfyUI's description of the model, with the types it will be stored and computed in."""
    config = OviModelConfig({"image_model": "ovi", **checkpoint.read_config(weights).as_dict()})
    packed = any(map(gguf_tensors.is_packed, weights.values()))
    config.quant_config = {"mixed_ops": True} if packed or quantization.is_quantized(weights) else None
    quantized = config.quant_config is not None
    dtype, cast = comfyui.inference_types(weights, options.get("dtype"), quantized, config.supported_inference_dtypes)
    device, _ = comfyui.devices()
    config.set_inference_dtype(dtype, cast, device=device)
    config.optimizations["fp8"] = options.get("fp8_optimizations", False)
    if packed:
        config.custom_operations = gguf_tensors.operations(cast)
    return config
