"""Adapters in training: one for each large matrix of the blocks, of ComfyUI's kinds and in its file format."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import comfy.model_patcher
import torch
from comfy.weight_adapter import adapter_maps
from comfy.weight_adapter.base import WeightAdapterTrainBase
from comfy.weight_adapter.lokr import LokrDiff
from comfy.weight_adapter.lora import LoraDiff
from torch import Tensor

from ..errors import OviError
from ..model.checkpoint import expected_weights
from ..model.lora import place, refusal
from ..model.lora_keys import ROOT, cuts, in_host_spelling, layers
from ..network.transformer import OviConfig
from ..weights.files import Weights

ALGORITHMS = tuple(adapter_maps)
BESIDE = (LoraDiff, LokrDiff)
"""Kinds of which ComfyUI can compute the part beside the matrix; others change the matrix itself in every forward."""

MATRICES = re.compile(r"(audio_model\.)?blocks\.\d+\.((self_attn|cross_attn)\.([qkvo]|[kv]_fusion)|ffn\.[02])")
"""Layers that are trained: attention with its fusion, and the feed-forward network."""

RANKS = ("lora_A.weight", "lora_down.weight", "lora_A", "hada_w1_b")
"""Tensors whose first axis is the rank of an adapter."""


def matrices(config: OviConfig, video: bool, audio: bool) -> list[str]:
    """Names of the layers to train, of the video tower, the audio tower or both."""
    found = (MATRICES.fullmatch(name) for name in sorted(layers(config)))
    return [match[0] for match in found if match and (audio if match[1] else video)]


class Adapters:
    """The adapter of each trained layer, float32 whatever the model computes in.

    Attributes:
        rest: of a LoRA that is gone on from, what is for other layers; it counts, and stays as it is.
    """

    def __init__(self, of_layers: Mapping[str, WeightAdapterTrainBase], rest: Weights):
        self.of_layers, self.rest = {name: adapter.float() for name, adapter in of_layers.items()}, rest

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """What an optimiser changes."""
        return [p for adapter in self.of_layers.values() for p in adapter.parameters() if p.requires_grad]

    def weights(self, dtype: torch.dtype) -> Weights:
        """The LoRA as files hold it, in ``dtype`` and on the CPU."""
        own = {
            f"{ROOT}{layer}.{name}": parameter.detach().to("cpu", dtype, copy=True)
            for layer, adapter in self.of_layers.items()
            for name, parameter in adapter.named_parameters()
        }
        return {**self.rest, **own}

    @contextmanager
    def attached(self, patcher: comfy.model_patcher.ModelPatcher, config: OviConfig) -> Iterator[None]:
        """While this lasts, forwards of ``patcher`` once it is loaded have these adapters in them."""
        if self.rest:
            patcher.add_patches(place(self.rest, config).patches)
        hooks = []
        for name, adapter in self.of_layers.items():
            adapter.to(patcher.load_device).train()
            if isinstance(adapter, BESIDE):
                module = patcher.model.diffusion_model.get_submodule(name)
                hooks.append(module.register_forward_hook(_beside(adapter)))
            else:
                patcher.add_weight_wrapper(f"{ROOT}{name}.weight", adapter)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _beside(adapter: Any) -> Any:
    def hook(_module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        # The adapter's parameters are float32, its products are of the type the model computes in.
        with torch.autocast(output.device.type, output.dtype, enabled=output.dtype != torch.float32):
            return output + adapter.h(inputs[0], output)

    return hook


def new_adapters(config: OviConfig, names: list[str], algorithm: str, rank: int, seed: int) -> Adapters:
    """Adapters that change nothing yet; the same ``seed`` makes the same."""
    kind = adapter_maps[algorithm]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Adapters({name: kind.create_train(_like(name, config), rank=rank, alpha=1.0) for name in names}, {})


def _like(name: str, config: OviConfig) -> Tensor:
    """Ones in the shape of a layer's weight, on the CPU, without memory of their own."""
    return torch.ones(1).expand(expected_weights(config)[f"{name}.weight"].shape)


def adapters_of(weights: Weights, config: OviConfig, fresh: Adapters, file: str) -> Adapters:
    """The adapters of a LoRA, to train them further; ``fresh`` ones for trained layers that it has none for.

    Args:
        file: name of the LoRA's file, for errors.

    Raises:
        OviError: a LoRA that does not fit this transformer, or one of a kind that ComfyUI cannot train.
    """
    spelt = _with_alphas(in_host_spelling(weights, config))
    placed = place(spelt, config)
    if not placed.patches:
        raise refusal(file, weights, placed.misfit, "existing_lora")
    patches: dict[str, Any] = {name: placed.patches.get(f"{ROOT}{name}.weight") for name in fresh.of_layers}
    known = {name: patch.to_train() for name, patch in patches.items() if hasattr(patch, "to_train")}
    for name in list(known)[:1]:
        _check_same(known[name], patches[name], _like(name, config), file)
    rest = {key: v for key, v in spelt.items() if not any(cut.removeprefix(ROOT) in known for cut, _ in cuts(key))}
    return Adapters({**fresh.of_layers, **known}, rest)


def _with_alphas(spelt: Weights) -> Weights:
    """A copy that tensors are trained in; what has no alpha counts whole, so its alpha is its rank."""
    ranks = {
        key.removesuffix(end) + "alpha": torch.tensor(float(value.shape[0]))
        for key, value in spelt.items()
        for end in RANKS
        if key.endswith("." + end)
    }
    return ranks | {key: value.clone() for key, value in spelt.items()}


@torch.no_grad()
def _check_same(adapter: WeightAdapterTrainBase, patch: Any, weight: Tensor, file: str) -> None:
    """Raise OviError unless an adapter changes a ``weight`` in training as it does where it is loaded.

    ComfyUI trains without DoRA's scales, and without some parts of other kinds.
    """
    trained = adapter.float()(weight.clone())
    loaded = patch.calculate_weight(weight.clone(), file, 1.0, 1.0, None, lambda change: change)
    if not torch.allclose(trained, loaded, rtol=1e-3, atol=1e-3):
        raise OviError(
            input="existing_lora",
            found=f"'{file}', a LoRA of a kind that can be used but not trained further, such as DoRA",
            accepted="a LoRA, LoHa, LoKr or OFT, best one made here",
            remedy="Begin a new LoRA ('[None]'), on a model that has the old one on it.",
        )
