"""Adapters in training: one for each large matrix of the blocks, of ComfyUI's kinds and in its file format."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import comfy.model_patcher
import torch
from torch import Tensor

from ..errors import OviError
from ..model.checkpoint import expected_weights
from ..model.lora import Adapter, in_comfyui_spelling, patches_of, place, refusal
from ..model.lora_checks import BIAS
from ..model.lora_keys import ROOT, layers
from ..network.transformer import OviConfig
from ..weights.files import Weights
from . import comfyui
from .comfyui import WeightAdapterTrainBase

ALGORITHMS = tuple(comfyui.KINDS)

MATRICES = re.compile(r"(audio_model\.)?blocks\.\d+\.((self_attn|cross_attn)\.([qkvo]|[kv]_fusion)|ffn\.[02])")
"""Layers that are trained: attention with its fusion, and the feed-forward network."""

NOT_TRAINED = {"dora_scale", "lora_mid.weight", "hada_t1", "lokr_t2"}
"""Parts of loaded adapters that ComfyUI's trained ones leave out or cannot have."""


def matrices(config: OviConfig, video: bool, audio: bool) -> list[str]:
    """Names of the layers to train, of the video tower, the audio tower or both."""
    found = (MATRICES.fullmatch(name) for name in sorted(layers(config)))
    return [match[0] for match in found if match and (audio if match[1] else video)]


class Adapters:
    """The adapter of each trained layer, float32 whatever the model computes in.

    Attributes:
        rest: of a LoRA that is trained further, what is for other layers and for biases; it is applied and stays as it
            is.
    """

    def __init__(self, of_layers: Mapping[str, WeightAdapterTrainBase], rest: Mapping[str, Adapter]):
        self.of_layers, self.rest = {name: adapter.float() for name, adapter in of_layers.items()}, rest

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """What an optimizer changes."""
        return [p for adapter in self.of_layers.values() for p in adapter.parameters() if p.requires_grad]

    def weights(self, dtype: torch.dtype) -> Weights:
        """The LoRA as files hold it, in ``dtype`` and on the CPU."""
        own = {
            f"{ROOT}{layer}.{name}": parameter.detach().to("cpu", dtype, copy=True)
            for layer, adapter in self.of_layers.items()
            for name, parameter in adapter.named_parameters()
        }
        return {**in_comfyui_spelling(self.rest), **own}

    @contextmanager
    def attached(self, patcher: comfy.model_patcher.ModelPatcher) -> Iterator[None]:
        """While this lasts, forwards of ``patcher`` once it is loaded have these adapters in them.

        Raises:
            OviError: a kind that this version of ComfyUI cannot train.
        """
        if self.rest:
            patcher.add_patches(patches_of(self.rest))
        with ExitStack() as detached:
            for name, adapter in self.of_layers.items():
                adapter.to(patcher.load_device).train()
                detached.callback(comfyui.attach(patcher, name, adapter))
            yield


def new_adapters(config: OviConfig, names: list[str], algorithm: str, rank: int, seed: int) -> Adapters:
    """Adapters that change nothing yet; the same ``seed`` makes the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Adapters({name: comfyui.new_adapter(algorithm, _like(name, config), rank) for name in names}, {})


def _like(name: str, config: OviConfig) -> Tensor:
    """Ones in the shape of a layer's weight, on the CPU, without memory of their own."""
    return torch.ones(1).expand(expected_weights(config)[f"{name}.weight"].shape)


def adapters_of(weights: Weights, config: OviConfig, fresh: Adapters, file: str) -> Adapters:
    """The adapters of a LoRA, to train them further; ``fresh`` ones for trained layers that it has none for.

    Args:
        weights: the file's tensors, in any spelling.
        file: name of the LoRA's file, for errors.

    Raises:
        OviError: a LoRA that does not fit this transformer, or one of a kind that ComfyUI cannot train.
    """
    placed = place(weights, config, file, "existing_lora")
    if not placed.patches:
        raise refusal(file, weights, placed.misfit, "existing_lora")
    known: dict[str, WeightAdapterTrainBase] = {}
    checked: set[tuple] = set()
    for layer in fresh.of_layers:
        adapter = placed.adapters.get(layer)
        if adapter is None or (adapter.kind is None and set(adapter.tensors) == {BIAS}):
            continue
        looks = (adapter.kind, *sorted(adapter.tensors))
        known[layer] = _to_train(layer, adapter, None if looks in checked else _like(layer, config), file)
        checked.add(looks)
    rest = {layer: _bias_of(adapter) if layer in known else adapter for layer, adapter in placed.adapters.items()}
    rest = {layer: adapter for layer, adapter in rest.items() if adapter.tensors}
    return Adapters({**fresh.of_layers, **known}, rest)


def _bias_of(adapter: Adapter) -> Adapter:
    return Adapter(None, {part: value for part, value in adapter.tensors.items() if part == BIAS})


def _to_train(layer: str, adapter: Adapter, weight: Tensor | None, file: str) -> WeightAdapterTrainBase:
    """A loaded adapter of a ``layer`` in training.

    Args:
        weight: to compare on whether both change it alike, if that is not known of the kind yet.

    Raises:
        OviError: a kind that ComfyUI does not train, or trains in another way than it loads it, as DoRA.
    """
    if comfyui.can_train(adapter.kind) and NOT_TRAINED.isdisjoint(adapter.tensors):
        patch = patches_of({layer: adapter})[f"{ROOT}{layer}.weight"]
        trained = patch.to_train()
        if weight is None or comfyui.trains_as_it_loads(trained, patch, weight):
            return trained
    raise OviError(
        input="existing_lora",
        found=f"'{file}', a LoRA of a kind that can be used but not trained further, such as DoRA",
        accepted="a LoRA, LoHa, LoKr or OFT, best one made here",
        remedy="Begin a new LoRA ('[None]'), on a model that has the old one on it.",
    )
