"""Matrix products in fp8, where the weights are ComfyUI's scaled fp8: by its own layers, switched for one MODEL.

Plain fp8 weights, without scales, are multiplied in fp8 where the model is loaded for that (weight_dtype
``fp8_e4m3fn_fast``): by other layers of ComfyUI, which are chosen once, when the model is built.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ..network.comfyui import FULL_PRECISION, fp8_layout_of
from .base_model import require_ovi
from .comfyui import multiplies_plain_fp8, supports_fp8

LOADED, ON, OFF = CHOICES = ("as loaded", "on", "off")
REMEDY = "For fp8, set weight_dtype of Load Ovi Model to fp8_e4m3fn_fast, or load a file with scaled fp8 weights."


def with_fp8_matmuls(patcher: Any, choice: str) -> tuple[Any, list[str]]:
    """A copy of a MODEL that multiplies in fp8 (``on``) or in the type of the activations (``off``), and notes.

    ``as loaded`` leaves it to ComfyUI, which multiplies scaled fp8 weights in fp8 where the card can. Nothing changes
    where the card cannot or the weights are others; the notes say so.
    """
    if choice == LOADED:
        return patcher.clone(), []
    network = require_ovi(patcher).diffusion_model
    if choice == ON and not supports_fp8(patcher.load_device):
        note = (
            f"fp8_matmuls is on, and {patcher.load_device} has no matrix products in fp8 (NVIDIA: from compute "
            "capability 8.9 on). They stay in the type of the activations."
        )
        return patcher.clone(), [note]
    layers = list(_fp8_layers(network))
    if not layers:
        return patcher.clone(), _notes_of(choice, network)
    patcher = patcher.clone()
    for layer in layers:
        switch = f"diffusion_model.{layer}.{FULL_PRECISION}"
        # the patcher knows it, too, where another MODEL of these layers is loaded and has switched them
        if patcher.get_model_object(switch) != (choice == OFF):
            patcher.add_object_patch(switch, choice == OFF)
    return patcher, []


def _fp8_layers(network: nn.Module) -> Iterator[str]:
    """The names of the layers with ComfyUI's scaled fp8 weights."""
    for name, layer in network.named_modules():
        if fp8_layout_of(layer) is not None and hasattr(layer, FULL_PRECISION):
            yield name


def _notes_of(choice: str, network: nn.Module) -> list[str]:
    """Notes for a model without scaled fp8 weights, of which nothing is switched."""
    in_fp8 = any(map(multiplies_plain_fp8, network.modules()))
    if choice == OFF and in_fp8:
        return [
            "fp8_matmuls is off, and the model was loaded to multiply in fp8. Load it with weight_dtype fp8_e4m3fn."
        ]
    if choice == OFF or in_fp8:
        return []
    plain = any(weight.dtype is torch.float8_e4m3fn for weight in network.parameters())
    found = "these fp8 weights have no scales" if plain else "these weights are not in fp8"
    return [f"fp8_matmuls is on, and {found}. Matrix products stay as they are. {REMEDY}"]
