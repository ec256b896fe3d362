"""A LoRA on the twin transformer, with a strength for each tower.

:mod:`.lora_keys` finds the layers, :mod:`.lora_checks` checks the adapters; ComfyUI computes with them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import comfy.model_patcher
import torch

from ..errors import OviError
from ..network.transformer import OviConfig
from ..weights.files import Weights, read_file
from ..weights.identify import describe_weights
from .base_model import require_ovi
from .checkpoint import expected_weights
from .comfyui import lora_patches
from .lora_checks import (
    ACCEPTED,
    BIAS,
    KINDS,
    LORA,
    WHOLE,
    Parts,
    Shape,
    check_parts,
    check_values,
    dora_scale,
    kind_of,
    matrix_of,
    said,
)
from .lora_keys import ROOT, Part, parts_of

AUDIO_TOWER = ROOT + "audio_model."


class Adapter(NamedTuple):
    """What a LoRA changes of one layer: tensors by part, checked, and the kind by ComfyUI's name (None: no adapter)."""

    kind: str | None
    tensors: Weights


class Placed(NamedTuple):
    """A LoRA on a transformer.

    Attributes:
        patches: ComfyUI's patches, by the names of weights and biases.
        adapters: what the patches were made of, by layer.
        used: how many of the file's tensors they take up; ``total``: how many there are.
        unused: why some are not used, in words; "" where all are.
        misfit: the first adapter for a weight of another shape, in words; "" where there is none.
    """

    patches: dict[str, Any]
    adapters: dict[str, Adapter]
    used: int
    total: int
    unused: str
    misfit: str


def read_lora(path: str, input: str = "lora_name") -> tuple[Weights, dict[str, str] | None]:
    """Tensors and metadata of a LoRA's file.

    The file is read, not mapped: of a mapped one that somebody shortens while it is in use, the process would die.

    Raises:
        OviError: a file that is not there, damaged or no weight file.
    """
    file = read_file(path, input=input, accepted=ACCEPTED, mapped=False)
    return file.weights, file.metadata


def with_lora(
    patcher: comfy.model_patcher.ModelPatcher, path: str, video_strength: float, audio_strength: float
) -> tuple[comfy.model_patcher.ModelPatcher, list[str]]:
    """The MODEL with a LoRA on it, and notes for the user.

    Args:
        path: of the LoRA's file.
        video_strength, audio_strength: factors for what it changes in each tower. The weights by which one tower
            attends to the other belong to the one that attends. A tower of strength 0 keeps its weights bit for bit.

    Raises:
        OviError: a MODEL of another family, or a file that is no LoRA for it.
    """
    model = require_ovi(patcher)
    if video_strength == 0 and audio_strength == 0:
        return patcher, []
    weights, metadata = read_lora(path)
    name = os.path.basename(path)
    placed = place(weights, model.diffusion_model.config, name)
    if not placed.patches:
        raise refusal(name, weights, placed.misfit)
    patched = patcher.clone()
    for is_audio, strength in ((False, video_strength), (True, audio_strength)):
        if strength != 0:
            of_tower = {k: patch for k, patch in placed.patches.items() if k.startswith(AUDIO_TOWER) == is_audio}
            patched.add_patches(of_tower, strength)
    if metadata:
        patched.set_attachments("lora_metadata", metadata)
    if placed.used == placed.total:
        return patched, []
    return patched, [
        f"{placed.used} of the {placed.total} weights of '{name}' fit this model and are used; {placed.unused}."
    ]


def refusal(name: str, weights: Weights, misfit: str, input: str = "lora_name") -> OviError:
    """The error for a file none of whose weights fit; ``misfit`` as in :class:`Placed`."""
    kind = describe_weights(weights)
    if misfit:
        kind = f"a LoRA for a model of another size ({misfit})"
    elif kind == "a LoRA":
        kind = f"a LoRA for another model (it begins with {', '.join(sorted(weights)[:2])})"
    return OviError(
        input=input,
        found=f"'{name}', {kind}",
        accepted=ACCEPTED,
        remedy="Pick a LoRA made for one of these; those of Wan 14B and of other models do not fit.",
    )


def place(weights: Mapping[str, torch.Tensor], config: OviConfig, file: str, input: str = "lora_name") -> Placed:
    """The patches of a LoRA for a transformer of this ``config``; those for weights of other shapes are left out.

    Args:
        weights: tensors by the names of the file, in any spelling.
        file, input: name of the LoRA's file and of the input that it comes from, for errors.

    Raises:
        OviError: an adapter of which a part is missing, or whose parts do not fit each other.
    """
    found = parts_of(weights, config)
    expected = expected_weights(config)
    adapters, misfits, used = {}, [], 0
    spelled: Weights = {}
    for layer, parts in _by_layer(weights, found, file, input).items():
        bias = expected.get(f"{layer}.bias")
        shapes = tuple(expected[f"{layer}.weight"].shape), None if bias is None else tuple(bias.shape)
        adapter, wrong = _fitted(layer, parts, *shapes)
        misfits += wrong
        if adapter.tensors:
            adapters[layer] = adapter
            used += sum(part in parts for part in (*adapter.tensors, "reshape_weight"))
        spelled |= _as_read(layer, parts, adapter)
    patches = lora_patches(spelled, {ROOT + part.layer for part in found.values()})
    fitting = {f"{ROOT}{layer}.{kind}" for layer, adapter in adapters.items() for kind in _changed(adapter)}
    unused = [*misfits[:1]]
    if len(found) < len(weights):
        unused.append("the others are for layers that Ovi does not have, such as a text encoder's")
    elif not misfits:
        unused.append("ComfyUI has no use for the others")
    return Placed(
        {key: patch for key, patch in patches.items() if key in fitting},
        adapters,
        used,
        len(weights),
        ", and ".join(unused),
        next(iter(misfits), ""),
    )


def _as_read(layer: str, parts: Parts, adapter: Adapter) -> Weights:
    """A layer's tensors as ComfyUI reads them: those of the file, in the shape that it needs."""
    reshaped = (*WHOLE, BIAS, "dora_scale", "alpha")
    spellings = parts.spellings if _are_of_one_tool(parts) else {part: part for part in parts}
    read = {
        f"{ROOT}{layer}.{spellings[part]}": adapter.tensors[part]
        if part in reshaped and part in adapter.tensors
        else value
        for part, value in parts.items()
    }
    if adapter.kind == "boft" and "alpha" not in parts:  # ComfyUI compares it with 0
        read[f"{ROOT}{layer}.alpha"] = adapter.tensors["alpha"]
    return read


def _are_of_one_tool(parts: Parts) -> bool:
    """Whether ComfyUI finds both halves of a LoRA together, as they are spelled, and what stands between them."""
    up, down = (parts.spellings.get(half, "") for half in LORA)
    if up and down and up.replace("up", "down").replace("lora_B", "lora_A") != down:
        return False
    return "lora_mid.weight" not in parts or up == LORA[0]


def _changed(adapter: Adapter) -> list[str]:
    """What of its layer an adapter changes: weight, bias or both."""
    names = ["weight"] if set(adapter.tensors) - {BIAS} else []
    return [*names, "bias"] if BIAS in adapter.tensors else names


def patches_of(adapters: Mapping[str, Adapter]) -> dict[str, Any]:
    """ComfyUI's patches for adapters that :func:`place` has checked, by layer."""
    return lora_patches(in_comfyui_spelling(adapters), [ROOT + layer for layer in adapters])


def in_comfyui_spelling(adapters: Mapping[str, Adapter]) -> Weights:
    """The tensors of adapters by the names that ComfyUI reads and writes."""
    return {f"{ROOT}{layer}.{part}": t for layer, adapter in adapters.items() for part, t in adapter.tensors.items()}


def _by_layer(
    weights: Mapping[str, torch.Tensor], found: Mapping[str, Part], file: str, input: str
) -> dict[str, Parts]:
    """The tensors that are for layers of the transformer, apart for each layer.

    Raises:
        OviError: two tensors for the same part of a layer.
    """
    by_layer: dict[str, Parts] = {}
    for key, part in found.items():
        parts = by_layer.setdefault(part.layer, Parts(file, input))
        if part.name in parts:
            raise parts.broken(part.name, f"is for the same part of a layer as '{key}'")
        parts.add(part.name, weights[key], key, part.spelling)
    return by_layer


def _fitted(layer: str, parts: Parts, weight: Shape, bias: Shape | None) -> tuple[Adapter, list[str]]:
    """What of a layer's parts changes a weight and a bias of these shapes, and in words what is of other shapes."""
    check_values(parts)
    kind = kind_of(parts)
    tensors: Weights = {}
    misfits = []

    def misfit(name: str, changed: Shape | None, own: Shape | None) -> None:
        theirs = "of another shape" if changed is None else said(changed)
        misfits.append(f"its {layer}.{name} is {theirs}, here it is {'not there' if own is None else said(own)}")

    if kind is not None:
        check_parts(parts, kind)
        changed = KINDS[kind].changes(parts, weight)
        if changed == matrix_of(weight):
            tensors |= _adapter(kind, parts, weight)
        else:
            misfit("weight", changed, weight)
    whole = ((part, "weight", weight) for part in WHOLE if part in parts)
    for part, name, own in (*whole, *([(BIAS, "bias", bias)] if BIAS in parts else [])):
        shape = tuple(parts[part].shape)
        if own is not None and _same_but_for_ones(shape, own):
            tensors[part] = parts[part].reshape(own)
        else:
            misfit(name, shape, own)
    return Adapter(kind if kind and not set(KINDS[kind].parts).isdisjoint(tensors) else None, tensors), misfits


def _adapter(kind: str, parts: Parts, weight: Shape) -> Weights:
    """The parts of an adapter as ComfyUI reads them, its alpha always among them."""
    tensors = {part: parts[part] for part in KINDS[kind].parts if part in parts and part != "reshape_weight"}
    if kind == "lora" and "lora_mid.weight" not in parts:
        tensors = {part: half.flatten(1) for part, half in tensors.items()}
    if "dora_scale" in parts:
        tensors["dora_scale"] = dora_scale(parts, weight)
    default = KINDS[kind].alpha
    if "alpha" in parts:
        tensors["alpha"] = parts["alpha"].reshape(())
    elif default is not None:
        tensors["alpha"] = torch.tensor(default(parts))
    return tensors


def _same_but_for_ones(shape: Shape, own: Shape) -> bool:
    """Whether a difference of this ``shape`` is one to a weight: the same sizes, or the weight as a matrix."""
    return shape == matrix_of(own) or [size for size in shape if size > 1] == [size for size in own if size > 1]
