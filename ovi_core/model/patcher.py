"""ComfyUI's patchers, taking patches for modulations under Wan's names too.

Wan keeps a block's modulation as a bare parameter ``blocks.0.modulation``; here it is a module with a ``weight``, since
ComfyUI patches, merges and offloads only those. LoRAs find it under both names by ComfyUI's own table of keys. But a
merge hands over the other model's names as they are, and what ComfyUI does not find it leaves out without a word.

A quantized model may be merged into another one, too: see :class:`GivesWeights`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import comfy.model_management
import comfy.model_patcher
import torch

from ..weights import quantization
from ..weights.gguf_tensors import PatchesAtUse

WAN_NAME = ".modulation"


class TakesWanNames:
    """Mixed into a patcher class of ComfyUI; see :func:`patcher_class`."""

    def add_patches(self, patches: Mapping, *args: Any, **kwargs: Any) -> list:
        return _given(super().add_patches(_translated(patches), *args, **kwargs), patches)  # type: ignore[misc]

    def add_hook_patches(self, hook: Any, patches: Mapping, *args: Any, **kwargs: Any) -> list:
        return _given(super().add_hook_patches(hook, _translated(patches), *args, **kwargs), patches)  # type: ignore[misc]

    def clone(self, *args: Any, **kwargs: Any) -> comfy.model_patcher.ModelPatcher:
        clone: Any = super().clone(*args, **kwargs)  # type: ignore[misc]
        # Asked for a patcher without dynamic memory, ComfyUI makes one of its own class.
        if not isinstance(clone, TakesWanNames):
            clone.__class__ = _with_wan_names(clone.__class__)
        return clone


class GivesWeights:
    """Mixed into a patcher class of ComfyUI: a merge takes weights from it, whatever else its layers save.

    ComfyUI looks up every saved name as an attribute, but scales and marks of quantized layers are none. Nor are
    they weights to be merged: a weight is handed over as the values it stands for.
    """

    def get_key_patches(self: Any, filter_prefix: str | None = None) -> dict:
        saved = self.model_state_dict

        def weights(filter_prefix: str | None = None) -> dict:
            state = saved(filter_prefix)
            return {key: value for key, value in state.items() if not quantization.is_beside_weight(key)}

        self.model_state_dict = weights  # which ComfyUI asks for the names
        try:
            return super().get_key_patches(filter_prefix)  # type: ignore[misc]
        finally:
            del self.model_state_dict


def patcher_class(
    load_device: torch.device, disable_dynamic: bool, packed: bool = False
) -> type[comfy.model_patcher.ModelPatcher]:
    """The patcher ComfyUI would use for a model on ``load_device``, taking Wan's names too.

    Args:
        disable_dynamic: ComfyUI's plain patcher, which holds all weights itself, even where ComfyUI pages them in.
        packed: for a model with weights of GGUF; always on ComfyUI's plain patcher, for the other would pack patched
            weights again.
    """
    if packed:
        return _with_wan_names(_PackedModelPatcher)
    # ComfyUI's dynamic patcher turns into the plain one on the CPU, which a subclass of it could not.
    plain = disable_dynamic or comfy.model_management.is_device_cpu(load_device)
    return _with_wan_names(comfy.model_patcher.ModelPatcher if plain else comfy.model_patcher.CoreModelPatcher)


class _PackedModelPatcher(PatchesAtUse, comfy.model_patcher.ModelPatcher):
    pass


@cache
def _with_wan_names(base: Any) -> Any:
    return type(f"Ovi{base.__name__}", (TakesWanNames, GivesWeights, base), {})


def _our_name(key: Any) -> Any:
    """A patch's key with the name of the weight it is for; a key is a name, or a tuple that begins with one."""
    if isinstance(key, str):
        return key + ".weight" if key.endswith(WAN_NAME) else key
    return (_our_name(key[0]), *key[1:])


def _translated(patches: Mapping) -> dict:
    return {_our_name(key): patch for key, patch in patches.items()}


def _given(taken: list, patches: Mapping) -> list:
    """The keys of ``patches`` that were taken, spelled as they were given."""
    names = set(taken)
    return [key for key in patches if _our_name(key) in names]
