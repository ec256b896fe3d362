"""Names of a LoRA's layers: every common spelling, brought to the one that ComfyUI's own functions read.

Layers of the video tower are found under Wan's published names and under those of its diffusers version, layers of the
audio tower under the same below ``audio_model``. Any of the prefixes of trainers may stand before them, with dots, or
with underscores throughout as kohya's trainers write them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

from ..network.transformer import OviConfig
from .checkpoint import expected_weights

ROOT = "diffusion_model."
"""Before every key of ComfyUI's patches for a diffusion model."""

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

SPELLINGS_OF_PARTS = (
    (re.compile(r"lora_B((\.[^.]+)?\.weight)?|lora(_linear_layer)?\.up\.weight"), "lora_up.weight"),
    (re.compile(r"lora_A((\.[^.]+)?\.weight)?|lora(_linear_layer)?\.down\.weight"), "lora_down.weight"),
    (re.compile(r"lora_magnitude_vector(\..+)?"), "dora_scale"),
    (re.compile(r"w_norm"), "diff"),
    (re.compile(r"b_norm"), "diff_b"),
)
"""What peft, diffusers and others call the parts of a LoRA, and what kohya's trainers do. peft may name the adapter."""

LONGEST_KEY = 300  # characters; no trainer writes a longer one

MODULATION_DIFFERENCE = "diff_m"
"""Part of a block or the head: the difference of its modulation, which is a layer of its own here."""


PEFT_ADAPTER = re.compile(r"(lora_[AB])\.[^.]+\.weight")
"""What peft writes for an adapter that has a name of its own, such as ``lora_A.default.weight``."""


class Part(NamedTuple):
    """What one tensor of a LoRA is for.

    Attributes:
        layer: the layer's name here.
        name: of the part, in kohya's spelling.
        spelling: of the part, one that ComfyUI reads. It stays the file's own where it can: the keys are in what
            storyboards know a model by.
    """

    layer: str
    name: str
    spelling: str


@cache
def layers(config: OviConfig) -> frozenset[str]:
    """Names of all layers that have a weight."""
    return frozenset(key.removesuffix(".weight") for key in expected_weights(config) if key.endswith(".weight"))


def parts_of(keys: Iterable[str], config: OviConfig) -> dict[str, Part]:
    """What the tensors of a file are for, by their keys; without those that are for no layer of this transformer."""
    found = {key: _part_of(key, config) for key in keys}
    return {key: part for key, part in found.items() if part is not None}


def _part_of(key: str, config: OviConfig) -> Part | None:
    if len(key) > LONGEST_KEY:
        return None
    bare = PREFIXES.sub("", key, count=1)
    bare = re.sub(r"_lora\.(up|down)\.weight$", r".lora.\1.weight", bare)
    spellings = _spellings(config)
    for name, part in _cuts(bare):
        if part == MODULATION_DIFFERENCE:
            layer = spellings.get(f"{name}.modulation") or spellings.get(f"{name}_modulation")
            if layer is not None:
                return Part(layer, "diff", "diff")
        elif name in spellings:
            ours = next((ours for theirs, ours in SPELLINGS_OF_PARTS if theirs.fullmatch(part)), part)
            read = ours if ours == "dora_scale" else PEFT_ADAPTER.sub(r"\1.weight", part)
            return Part(spellings[name], ours, read)
    return None


def _cuts(key: str) -> Iterator[tuple[str, str]]:
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
