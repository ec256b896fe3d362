"""What this package uses of ComfyUI beyond its documented interface; ``tests/test_comfyui_interface.py`` holds it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import comfy.cli_args
import comfy.model_management
import comfy.utils
import folder_paths
import torch
from comfy.patcher_extension import WrappersMP
from comfyui_version import __version__ as VERSION

__all__ = ["VERSION", "WrappersMP", "devices", "flags", "folder_of_kind", "inference_types", "memory"]


def devices() -> tuple[torch.device, torch.device]:
    """Where ComfyUI computes with a diffusion model, and where it keeps one that is not in use."""
    return comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()


def memory(device: torch.device) -> tuple[int, int]:
    """Bytes of a device's memory, and those that are free; of the CPU the computer's."""
    manager = comfy.model_management
    return int(manager.get_total_memory(device)), int(manager.get_free_memory(device))


def flags(names: Iterable[str]) -> list[str]:
    """Those of these flags that ComfyUI was started with, as they are typed; flags with a number include it."""
    found = ((name, getattr(comfy.cli_args.args, name.replace("-", "_"), None)) for name in names)
    given = [(name, value) for name, value in found if isinstance(value, (bool, int, float)) and value is not False]
    return [f"--{name}" if value is True else f"--{name} {value:g}" for name, value in given]


def inference_types(
    weights: dict[str, torch.Tensor], chosen: torch.dtype | None, quantized: bool, supported: Sequence[torch.dtype]
) -> tuple[torch.dtype, torch.dtype | None]:
    """The type in which ComfyUI stores a diffusion model's weights, and the one it casts them to (None: the same).

    Args:
        chosen: the type to store them in; None for ComfyUI's choice.
        quantized: whether layers have types of their own.
        supported: the types that the model computes with, the best first.
    """
    manager = comfy.model_management
    stored_as = None if quantized else comfy.utils.weight_dtype(weights)
    parameters = comfy.utils.calculate_parameters(weights)
    dtype = chosen or manager.unet_dtype(model_params=parameters, supported_dtypes=supported, weight_dtype=stored_as)
    return dtype, manager.unet_manual_cast(None if quantized else dtype, manager.get_torch_device(), supported)


def folder_of_kind(folder: str, kind: str, endings: set[str]) -> str:
    """``kind``, which lists the files with these endings in the places of ``folder``."""
    places, _ = folder_paths.folder_names_and_paths[folder]
    folder_paths.folder_names_and_paths[kind] = (places, endings)
    return kind
