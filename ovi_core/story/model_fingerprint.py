"""What a loaded model is, whatever it was loaded from: the same hash after a restart, another one after any change.

Reading all of 23 GB for every film takes too long, and file names and dates say nothing of LoRAs and merges. So some
values of every weight are read, as they are before patches; patches are read in the same way; and what else nodes have
put on the model (wrappers, block patches, options of the sampler) is described by the names of its functions and
classes and the values they hold.

Stored shots are found by this hash. It outlives moves and new names of our code (:mod:`ovi_core.stable_names`) and what
updates of ComfyUI add to its objects (:data:`.comfyui.ATTRIBUTES`).
"""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Iterator
from enum import Enum
from typing import Any

import comfy.model_base
import comfy.model_patcher
import torch
from comfy.quant_ops import QuantizedTensor
from torch import Tensor

from ..sampling import audio_preview
from ..stable_names import fields_of, stable_name_of
from .comfyui import attributes_of

SAMPLES = 16  # values read of each tensor, evenly spread
DEEPEST = 8  # levels to which objects of other nodes are described
REPLACED = ("manual_cast_dtype", "model_sampling")  # what nodes replace, while a model is loaded
BY_CLASS = (types.ModuleType, comfy.model_patcher.ModelPatcher, comfy.model_base.BaseModel)
"""Described by their class alone."""


def identity(patcher: comfy.model_patcher.ModelPatcher) -> str:
    """A hash of what decides the results of ComfyUI's MODEL, or of the patcher inside a CLIP or VAE."""
    found = hashlib.sha256()

    def add(*texts: str) -> None:
        found.update("\n".join(texts).encode() + b"\0")

    add(_name(type(patcher.model)))
    for name in REPLACED:
        there = name in patcher.object_patches or hasattr(patcher.model, name)
        add(name, *describe(patcher.get_model_object(name) if there else None))
    for key, weight in sorted(_below_patches(patcher).items()):
        if key.split(".")[0] not in REPLACED:
            add(key, _of_tensor(weight))
    for key, patches in sorted(patcher.patches.items(), key=lambda item: str(item[0])):
        add(str(key), *describe(patches))
    wrappers = {kind: _deciding(by_key) for kind, by_key in patcher.wrappers.items()}
    added = (patcher.model_options, patcher.object_patches, wrappers, patcher.callbacks, patcher.injections)
    for part in added:
        add(*describe(part))
    return found.hexdigest()


def _below_patches(patcher: comfy.model_patcher.ModelPatcher) -> dict[str, Tensor]:
    """What the model saves, as it is without the patches that ComfyUI may have written into it.

    A quantized weight is patched with its scales, and stored as one tensor that has them.
    """
    state = dict(patcher.model_state_dict())
    for key in state.keys() & patcher.backup.keys():
        weight = patcher.backup[key].weight
        state.update(weight.state_dict(key) if isinstance(weight, QuantizedTensor) else {key: weight})
    return state


def _deciding(wrappers: dict[str, Any]) -> dict[str, Any]:
    """Wrappers of one kind by their keys, without the one that only plays a run's audio."""
    return {key: calls for key, calls in wrappers.items() if key != audio_preview.KEY}


def describe(value: Any, above: tuple[int, ...] = ()) -> Iterator[str]:
    """Words that are the same for values that do the same, in this process and in the next.

    Args:
        above: ids of what ``value`` is a part of.
    """
    yield _name(type(value))
    if isinstance(value, Tensor):
        yield _of_tensor(value)
    elif isinstance(value, (str, bytes, int, float, complex, torch.dtype, Enum)):
        yield str(value)
    elif isinstance(value, type):
        yield _name(value)
    elif id(value) not in above and len(above) < DEEPEST and not isinstance(value, BY_CLASS):
        for part in _parts(value):
            yield from part if isinstance(part, str) else describe(part, (*above, id(value)))


def _parts(value: Any) -> Iterator[Any]:
    """What a value that is no plain one consists of."""
    if isinstance(value, dict):
        yield from (part for key in sorted(value, key=str) if not _is_empty(value[key]) for part in (key, value[key]))
    elif isinstance(value, (set, frozenset)):
        yield from sorted(value, key=str)
    elif isinstance(value, (list, tuple)):
        yield from value
    elif isinstance(value, functools.partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, types.MethodType):
        yield from (value.__func__, value.__self__)
    elif isinstance(value, types.FunctionType):
        yield from _parts_of_function(value)
    elif isinstance(value, torch.nn.Module):
        yield from _parts_of_module(value)
    elif hasattr(value, "stable_values"):
        yield value.stable_values()
    elif (known := fields_of(value) or attributes_of(value)) is not None:
        yield known
    else:
        yield from (getattr(value, "__qualname__", ""), getattr(value, "__dict__", None))


def _is_empty(value: Any) -> bool:
    return isinstance(value, (dict, list)) and not value


def _parts_of_function(function: types.FunctionType) -> Iterator[Any]:
    """Its name, the values of its closure, and its defaults."""
    yield _name(function)
    if stable := stable_name_of(function):
        yield from (*stable.holds, stable.defaults)
    else:
        yield from (cell.cell_contents for cell in function.__closure__ or ())
        yield function.__defaults__


def _parts_of_module(module: torch.nn.Module) -> Iterator[dict]:
    """Its parameters, its buffers, and its other attributes."""
    held = {key: value for key, value in vars(module).items() if not key.startswith("_")}
    parts = (module._parameters, module._buffers, held)
    known = attributes_of(module)
    if known is None:
        yield from parts
    else:  # the attributes that this version lacks are among the others
        yield from ({key: part[key] for key in part if key in known} for part in parts[:2])
        yield {key: value for key, value in known.items() if not any(key in part for part in parts[:2])}


def _name(thing: Any) -> str:
    stable = stable_name_of(thing)
    return stable.name if stable else f"{thing.__module__}.{thing.__qualname__}"


def _of_tensor(tensor: Tensor) -> str:
    """Shape, type and some values of a tensor; of a quantized one as it is stored."""
    stored = getattr(tensor, "_qdata", tensor).detach()
    flat = stored.reshape(-1)
    some = flat[:: max(1, flat.numel() // SAMPLES)].cpu()
    return f"{list(tensor.shape)} {tensor.dtype} {some.double().tolist()}"
