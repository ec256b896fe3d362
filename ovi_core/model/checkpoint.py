"""Published layouts of the transformer's weights, all turned into one state dict.

The names inside the module (``OviTransformer``) differ from the published ones in two ways: the video tower has no
prefix, and a modulation is a leaf module with a ``weight``. Layouts: one file with both towers (``video_model.`` and
``audio_model.``), or the video tower without prefix, alone or with ``audio_model.``; the audio tower alone without
prefix; the blocks of both in pairs (``fusion_blocks.N.vid_block.``, ``….audio_block.``); modulations of blocks as
``modulation.modulation`` or ``modulation``; prefixes of ComfyUI and of training code around any of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache

import torch

from ..errors import OviError
from ..network.transformer import PATCH, OviConfig, OviTransformer
from ..spec import AUDIO_CHANNELS, VIDEO_CHANNELS
from ..weights import gguf_tensors, quantization
from ..weights.checks import axis, check_count, check_weights, without_prefix
from ..weights.files import Weights
from ..weights.identify import describe_weights, quantized_elsewhere

WRAPPINGS = ("model.diffusion_model.", "diffusion_model.", "module.", "backbone.")
AUDIO = "audio_model."
FUSED_PAIR = re.compile(r"^(?:fusion_)?blocks\.(\d+)\.(vid|audio)_block\.")
DEEPEST = 8  # prefixes, one in another
MOST_BLOCKS = 1000
WHAT = "an Ovi transformer"
ACCEPTED = "an Ovi checkpoint with both towers, such as model_960x960_10s.safetensors"


def to_module_keys(weights: Mapping[str, torch.Tensor]) -> Weights:
    """Weights under the module's names; those that have them already stay."""
    return {_module_key(key): value for key, value in weights.items()}


def to_published_keys(weights: Mapping[str, torch.Tensor]) -> Weights:
    """Weights under the names of the published one-file checkpoints."""
    return {published_key(key): value for key, value in weights.items()}


def _module_key(key: str) -> str:
    pair = FUSED_PAIR.match(key)
    if pair:
        key = f"{AUDIO if pair[2] == 'audio' else ''}blocks.{pair[1]}.{key[pair.end() :]}"
    key = key.removeprefix("video_model.").replace(".modulation.modulation", ".modulation.weight")
    return key + ".weight" if key.endswith(".modulation") else key


def published_key(key: str) -> str:
    """The name that a weight of the module has in the published one-file checkpoints."""
    of_head = key.endswith("head.modulation.weight")
    key = key.replace(".modulation.weight", ".modulation" if of_head else ".modulation.modulation")
    return key if key.startswith(AUDIO) else "video_model." + key


def unwrapped(weights: Weights) -> Weights:
    """Weights without the prefix that ComfyUI and training code put around a whole model."""
    for _ in range(DEEPEST):
        inner = next(filter(None, (without_prefix(weights, prefix) for prefix in WRAPPINGS)), None)
        if inner is None:
            break
        weights = inner
    return weights


def both_towers(model: Weights, audio: Weights | None) -> Weights:
    """One set of weights, by module names, from one file or two, in either order.

    Args:
        model: the file with the video tower, or with both.
        audio: the file with the audio tower, if it is a file of its own. Of what both files hold, each gives the tower
            that it is named for; what the one lacks, such as the fusion weights of a tower, comes from the other.

    Raises:
        OviError: a file that is not Ovi's, or one of both towers is nowhere.
    """
    weights = named_by_tower(model)
    if audio is None:
        return _require_both(weights, "model_name")
    second = named_by_tower(audio)
    if not any(key.startswith(AUDIO) for key in (*second, *weights)) or not is_of_ovi(second):
        raise OviError(
            input="audio_model_name",
            found=describe_weights(audio),
            accepted="Ovi's audio tower (keys 'audio_model.…')",
            remedy="Pick the audio file that belongs to the video file, or 'in the same file'.",
        )
    audio_tower = _completed(of_tower(second, audio=True), of_tower(weights, audio=True))
    video_tower = _completed(of_tower(weights, audio=False), of_tower(second, audio=False))
    return _require_both({**video_tower, **audio_tower}, "model_name")


def named_by_tower(weights: Weights) -> Weights:
    """Weights of one file or two towers under the module's names, the audio tower's prefix restored where it lacks.

    Args:
        weights: without the prefix that may stand around a whole model (:func:`unwrapped`).
    """
    named = to_module_keys(weights)
    if "patch_embedding.0.weight" in named:  # an audio tower saved alone, without its prefix
        return {AUDIO + key: value for key, value in named.items()}
    return named


def is_of_ovi(weights: Weights) -> bool:
    """Whether there is anything of Ovi's transformer among weights named by tower."""
    return any(".k_fusion." in key or key.startswith(AUDIO) for key in weights)


def of_tower(weights: Weights, audio: bool) -> Weights:
    """The video tower's weights, or the audio tower's."""
    return {key: value for key, value in weights.items() if key.startswith(AUDIO) == audio}


def _completed(weights: Weights, other: Weights) -> Weights:
    """Weights, with those layers of ``other`` that they lack."""
    layers = {key.rpartition(".")[0] for key in weights}
    return weights | {key: value for key, value in other.items() if key.rpartition(".")[0] not in layers}


def _require_both(weights: Weights, input: str) -> Weights:
    mark = "blocks.0.cross_attn.k_fusion.weight"
    video, audio = mark in weights and "patch_embedding.weight" in weights, f"audio_model.{mark}" in weights
    if video and audio:
        return weights
    if not video and not audio:
        raise OviError(
            input=input,
            found=describe_weights(weights),
            accepted=ACCEPTED,
            remedy="Pick an Ovi file from diffusion_models; stock loaders are for the other models.",
        )
    here, lacking = ("video", "audio") if video else ("audio", "video")
    raise OviError(
        input=input,
        found=f"only the {here} tower of an Ovi transformer",
        accepted=ACCEPTED + ", or the video tower here and the audio tower as audio_model_name",
        remedy=f"Add the file with the {lacking} tower: video as model_name, audio as audio_model_name.",
    )


def refuse_foreign_quantization(weights: Weights, input: str) -> None:
    """Raise OviError for weights that are quantized in a way that ComfyUI does not compute with."""
    foreign = quantized_elsewhere(weights)
    if foreign:
        raise OviError(
            input=input,
            found=foreign,
            accepted=quantization.ACCEPTED,
            remedy=quantization.INSTEAD,
        )


def read_config(weights: Mapping[str, torch.Tensor]) -> OviConfig:
    """Sizes of the transformer from the shapes of its weights, by module names; one tower is enough to tell."""
    tower = "" if "patch_embedding.weight" in weights else AUDIO

    def size(key: str, index: int) -> int:
        packed = quantization.values_per_element(weights, key.removesuffix(".weight")) if index else 1
        return packed * axis(weights, key, index, input="model_name", what=WHAT)

    def channels(head: str, parts: int, default: int) -> int:
        """Of a tower's latent, from its last layer: GGUF may keep the first one's five axes as four."""
        return size(head, 0) // parts if head in weights else default

    blocks = {key.removeprefix(tower).split(".")[1] for key in weights if key.startswith(f"{tower}blocks.")}
    return OviConfig(
        dim=size(f"{tower}blocks.0.self_attn.q.bias", 0),
        ffn_dim=size(f"{tower}blocks.0.ffn.0.weight", 0),
        num_layers=check_count(len(blocks), MOST_BLOCKS, input="model_name", what=WHAT),
        text_dim=size(f"{tower}text_embedding.0.weight", 1),
        freq_dim=size(f"{tower}time_embedding.0.weight", 1),
        video_channels=channels("head.head.weight", math.prod(PATCH), VIDEO_CHANNELS),
        audio_channels=channels(f"{AUDIO}head.head.weight", 1, AUDIO_CHANNELS),
    )


@cache
def expected_weights(config: OviConfig) -> Weights:
    """Every weight of the module, on the meta device: names and shapes without memory."""
    return OviTransformer(operations=torch.nn, device="meta", dtype=torch.float32, **config.as_dict()).state_dict()


@cache
def stored_bytes(config: OviConfig, dtype: torch.dtype) -> int:
    """Bytes of the module's weights where its large matrices are of ``dtype``."""
    module = OviTransformer(operations=torch.nn, device="meta", dtype=dtype, **config.as_dict())
    return sum(weight.nbytes for weight in module.state_dict().values())


def fit_shapes(weights: Weights) -> Weights:
    """Weights of a GGUF file in the shapes that the module has."""
    return gguf_tensors.fit_shapes(weights, expected_weights(read_config(weights)))


def check_complete(weights: Mapping[str, torch.Tensor], config: OviConfig, towers: str = "both") -> None:
    """Raise OviError unless ``weights`` (module names) are exactly those of a transformer of this ``config``.

    A quantized layer may pack its weight in another shape and has scales beside it; ComfyUI handles both.

    Args:
        towers: both, or video or audio for a file that holds one of them.
    """
    expected = expected_weights(config)
    if towers != "both":
        expected = of_tower(expected, audio=towers == "audio")
    layers = {key: key.rpartition(".")[0] for key in weights if quantization.is_beside_weight(key)}
    belonging = {key for key, layer in layers.items() if f"{layer}.weight" in expected}
    found = {key: value for key, value in weights.items() if key not in belonging}
    for layer in {layers[key] for key in belonging}:
        if f"{layer}.weight" in found:
            found[f"{layer}.weight"] = quantization.as_values(weights, layer)
    check_weights(expected, found, input="model_name", what=WHAT)
