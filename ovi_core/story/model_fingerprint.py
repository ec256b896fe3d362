"""What a loaded model is, whatever it was loaded from: the same text after a restart, another one after any change.

Reading all of 23 GB for every story would take too long, and file names and dates say nothing of LoRAs and merges. So
some values of every weight are read, as they are before patches; patches are read in the same way; and what else other
nodes have put on the model (wrappers, block patches, options of the sampler) is described by the names of its
functions and classes and the values they hold.
"""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Iterator
from enum import Enum
from typing import Any

import comfy.model_patcher
import torch
from comfy.quant_ops import QuantizedTensor
from torch import Tensor

from ..sampling import audio_preview

SAMPLES = 16  # values read of each tensor, evenly spread
DEEPEST = 8  # levels to which objects of other nodes are described
REPLACED = ("manual_cast_dtype", "model_sampling")  # what nodes put other ones in the place of, while a model is loaded
UNTOLD = (types.ModuleType, comfy.model_patcher.ModelPatcher)  # known by their class alone


def identity(patcher: comfy.model_patcher.ModelPatcher) -> str:
    """A hash of what decides the results of ComfyUI's MODEL, or of the patcher inside a CLIP or VAE."""
    told = hashlib.sha256()

    def tell(*texts: str) -> None:
        told.update("\n".join(texts).encode() + b"\0")

    tell(_name(type(patcher.model)))
    for name in REPLACED:
        there = name in patcher.object_patches or hasattr(patcher.model, name)
        tell(name, *describe(patcher.get_model_object(name) if there else None))
    for key, weight in sorted(_below_patches(patcher).items()):
        if key.split(".")[0] not in REPLACED:
            tell(key, _of_tensor(weight))
    for key, patches in sorted(patcher.patches.items(), key=lambda item: str(item[0])):
        tell(str(key), *describe(patches))
    wrappers = {kind: _telling(by_key) for kind, by_key in patcher.wrappers.items()}
    added = (patcher.model_options, patcher.object_patches, wrappers, patcher.callbacks, patcher.injections)
    for part in added:
        tell(*describe(part))
    return told.hexdigest()


def _below_patches(patcher: comfy.model_patcher.ModelPatcher) -> dict[str, Tensor]:
    """What the model saves, as it is without the patches that ComfyUI may have written into it.

    A quantised weight is patched with its scales, and kept as one tensor that has them.
    """
    state = dict(patcher.model_state_dict())
    for key in state.keys() & patcher.backup.keys():
        weight = patcher.backup[key].weight
        state.update(weight.state_dict(key) if isinstance(weight, QuantizedTensor) else {key: weight})
    return state


def _telling(wrappers: dict[str, Any]) -> dict[str, Any]:
    """Wrappers of one kind by their keys, without the one that only lets a run be heard."""
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
    elif id(value) not in above and len(above) < DEEPEST and not isinstance(value, UNTOLD):
        for part in _parts(value):
            yield from part if isinstance(part, str) else describe(part, (*above, id(value)))


def _parts(value: Any) -> Iterator[Any]:
    """What a value that is no plain one consists of."""
    if isinstance(value, dict):
        yield from (part for key in sorted(value, key=str) for part in (key, value[key]) if value[key] not in ({}, []))
    elif isinstance(value, (set, frozenset)):
        yield from sorted(value, key=str)
    elif isinstance(value, (list, tuple)):
        yield from value
    elif isinstance(value, functools.partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, types.MethodType):
        yield from (value.__func__, value.__self__)
    elif isinstance(value, types.FunctionType):
        yield _name(value)
        yield from (cell.cell_contents for cell in value.__closure__ or ())
        yield value.__defaults__
    elif isinstance(value, torch.nn.Module):
        yield from (value._parameters, value._buffers)
        yield {key: held for key, held in vars(value).items() if not key.startswith("_")}
    else:
        yield from (getattr(value, "__qualname__", ""), getattr(value, "__dict__", None))


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


def _of_tensor(tensor: Tensor) -> str:
    """Shape, type and some values of a tensor; of a quantised one as it is stored."""
    stored = getattr(tensor, "_qdata", tensor).detach()
    flat = stored.reshape(-1)
    some = flat[:: max(1, flat.numel() // SAMPLES)].cpu()
    return f"{list(tensor.shape)} {tensor.dtype} {some.double().tolist()}"
