"""What training takes of ComfyUI beyond its documented interface; see ``tests/test_comfyui_interface.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.ldm.modules.attention
import comfy.model_management
import comfy.model_patcher
import comfy.weight_adapter
import torch
from comfy.weight_adapter.base import WeightAdapterTrainBase
from comfy.weight_adapter.lokr import LokrDiff
from comfy.weight_adapter.lora import LoraDiff
from comfyui_version import __version__ as VERSION
from torch import Tensor

from ..errors import OviError

KINDS: dict[str, Any] = comfy.weight_adapter.adapter_maps
"""Kinds of adapters that ComfyUI can train, by the names its Train LoRA node shows."""

BESIDE = (LoraDiff, LokrDiff)
"""Kinds whose part ComfyUI computes beside the matrix; others change the matrix itself in every forward."""

ALL_MEMORY = 1e20  # bytes: what ComfyUI is asked for, so that no other model stays on the card

attention_with_gradients = comfy.ldm.modules.attention.attention_pytorch


def new_adapter(algorithm: str, weight: Tensor, rank: int) -> WeightAdapterTrainBase:
    """An adapter for ``weight`` that changes nothing yet; ``algorithm`` is a key of :data:`KINDS`."""
    return KINDS[algorithm].create_train(weight, rank=rank, alpha=1.0)


def can_train(kind: str | None) -> bool:
    """Whether ComfyUI trains adapters of a kind, by the name that its loaded adapters have."""
    return kind in {adapter.name for adapter in KINDS.values()}


@torch.no_grad()
def trains_as_it_loads(adapter: WeightAdapterTrainBase, patch: Any, weight: Tensor) -> bool:
    """Whether an adapter in training changes a ``weight`` as the ``patch`` it comes from does."""
    trained = adapter.float()(weight.clone())
    loaded = patch.calculate_weight(weight.clone(), "", 1.0, 1.0, None, lambda change: change)
    return torch.allclose(trained, loaded, rtol=1e-3, atol=1e-3)


def attach(patcher: comfy.model_patcher.ModelPatcher, layer: str, adapter: Any) -> Callable[[], None]:
    """Let forwards of ``patcher``, once it is loaded, have an adapter in a ``layer``; returns what ends that."""
    if isinstance(adapter, BESIDE):
        module = patcher.model.diffusion_model.get_submodule(layer)
        return module.register_forward_hook(_beside(adapter)).remove
    if not hasattr(patcher, "add_weight_wrapper"):
        raise unsupported("algorithm", "LoRA or LoKr")
    patcher.add_weight_wrapper(f"diffusion_model.{layer}.weight", adapter)
    return lambda: None  # the patcher is training's own and goes with it


def _beside(adapter: Any) -> Callable[..., Tensor]:
    def hook(_module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        # The adapter's parameters are float32, its products are of the type the model computes in.
        with torch.autocast(output.device.type, output.dtype, enabled=output.dtype != torch.float32):
            return output + adapter.h(inputs[0], output)

    return hook


def check_reached(parameters: list[torch.nn.Parameter], loss: Tensor) -> None:
    """Raise OviError unless a loss depends on what is trained.

    Adapters are in the forward of single layers. A ComfyUI that computes layers in another way passes them by.
    """
    if parameters and not loss.requires_grad:
        raise unsupported("model", "a ComfyUI that this pack was tested with")


def unsupported(input: str, accepted: str) -> OviError:
    """The error for what this version of ComfyUI does in another way than the pack knows."""
    return OviError(
        input=input,
        found=f"ComfyUI {VERSION}, whose layers do not take the adapters in training",
        accepted=accepted,
        remedy="Update Ovi native; until then, train with an older ComfyUI. Everything else works.",
    )


@contextmanager
def in_training(patcher: comfy.model_patcher.ModelPatcher, offloading: bool) -> Iterator[None]:
    """Load the model for training and, while this lasts, keep ComfyUI from kernels that have no gradients."""
    patcher.model.requires_grad_(False).train()
    management = comfy.model_management
    management.load_models_gpu([patcher], memory_required=ALL_MEMORY, force_full_load=not offloading)
    management.in_training = True
    try:
        yield
    finally:
        management.in_training = False
