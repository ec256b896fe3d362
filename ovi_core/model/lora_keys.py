"""Names of a LoRA's layers: every common spelling, brought to the one that ComfyUI's own functions read.

Layers of the video tower answer to Wan's published names and to those of its diffusers version, layers of the audio
tower to the same under ``audio_model``. Either may stand under any of the prefixes that trainers put before them, with
dots, or with underscores throughout as kohya's trainers write them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache

import torch

from ..network.transformer import OviConfig
from ..weights.files import Weights
from .checkpoint import expected_weights

ROOT = "diffusion_model."

PREFIXES = re.compile(
    r"^(?:(lora_unet_+|lora_transformer_|lycoris_)(diffusion_model_|video_model_)?"
    r"|((base_model|model|diffusion_model|transformer|unet|dit|pipe|module|video_model)\.)*)"
)
"""What trainers put before the name of a layer; other models have names that go on where these end."""

DIFFUSERS = (
    (r"\bself_attn\.", "attn1."),
    (r"\bcross_attn\.", "attn2."),
    (r"(attn\d)\.([qkv])\b", r"\1.to_\2"),
    (r"(attn\d)\.o$", r"\1.to_out.0"),
    (r"\bffn\.0$", "ffn.net.0.proj"),
    (r"\bffn\.2$", "ffn.net.2"),
    (r"\bnorm3$", "norm2"),
    (r"\bhead\.modulation$", "scale_shift_table"),
    (r"\bmodulation$", "scale_shift_table"),
    (r"\bhead\.head$", "proj_out"),
    (r"\b(text|time)_embedding\.0$", r"condition_embedder.\1_embedder.linear_1"),
    (r"\b(text|time)_embedding\.2$", r"condition_embedder.\1_embedder.linear_2"),
    (r"\btime_projection\.1$", "condition_embedder.time_proj"),
)
"""From Wan's published names of layers to those of its diffusers version."""

PEFT_ADAPTER = re.compile(r"(lora_[AB])\.[^.]+\.weight")
"""What peft writes for an adapter that has a name of its own, such as ``lora_A.default.weight``."""


@cache
def layers(config: OviConfig) -> frozenset[str]:
    """Names of all layers that have a weight."""
    return frozenset(key.removesuffix(".weight") for key in expected_weights(config) if key.endswith(".weight"))


def in_host_spelling(weights: Mapping[str, torch.Tensor], config: OviConfig) -> Weights:
    """Those of a LoRA's tensors that are for this transformer, as ``diffusion_model.<layer>.<what it is of it>``."""
    found = {}
    for key, value in weights.items():
        layer, part = _split(key, config)
        if layer is None:
            continue
        if part.startswith("lora_magnitude_vector"):  # peft's dora_scale; it lacks the axis of columns
            part, value = "dora_scale", value.reshape(-1, 1)
        part = PEFT_ADAPTER.sub(r"\1.weight", part)
        found[f"{ROOT}{layer}.{part}"] = value
    return found


def _split(key: str, config: OviConfig) -> tuple[str | None, str]:
    """The layer that a tensor is for, None where it is no layer of this transformer, and what the tensor is of it."""
    bare = PREFIXES.sub("", key, count=1)
    bare = re.sub(r"_lora\.(up|down)\.weight$", r".lora.\1.weight", bare)
    for name, part in cuts(bare):
        if name in _spellings(config):
            return _spellings(config)[name], part
    return None, bare


def cuts(key: str) -> Iterator[tuple[str, str]]:
    """A key cut in two at each of its dots, from the last to the first."""
    cut = key.rfind(".")
    while cut > 0:
        yield key[:cut], key[cut + 1 :]
        cut = key.rfind(".", 0, cut)


@cache
def _spellings(config: OviConfig) -> dict[str, str]:
    """From each spelling of a layer's name, without prefix, to its name here."""
    found: dict[str, str] = {}
    for layer in layers(config):
        diffusers = layer
        for pattern, name in DIFFUSERS:
            diffusers = re.sub(pattern, name, diffusers)
        for spelling in (layer, re.sub(r"\bmodulation$", "modulation.modulation", layer), diffusers):
            found |= {spelling: layer, spelling.replace(".", "_"): layer}
    return found
