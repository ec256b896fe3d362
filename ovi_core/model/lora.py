"""A LoRA on the twin transformer, with a strength for each tower.

``lora_keys`` brings its names to ComfyUI's; what an adapter means and how it is applied stays ComfyUI's business.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import comfy.lora
import comfy.model_patcher
import torch

from ..errors import OviError
from ..network.transformer import OviConfig
from ..weights.files import Weights, describe_weights, read_metadata, read_weights
from .base_model import require_ovi
from .checkpoint import expected_weights
from .lora_keys import ROOT, cuts, in_host_spelling, layers

AUDIO_TOWER = ROOT + "audio_model."
ACCEPTED = "a LoRA for Ovi or for Wan 2.2 TI2V 5B"
FILES_KEPT = 4  # a strength is changed more often than a file, and some chain several LoRAs


class Placed(NamedTuple):
    """A LoRA on a transformer: ComfyUI's patches by weight, and how many of the file's tensors they take up.

    misfit: the first patch for a weight of another shape, in words; "" where there is none.
    """

    patches: dict[str, Any]
    used: int
    total: int
    misfit: str


def read_lora(path: str, input: str = "lora_name") -> tuple[Weights, dict[str, str] | None]:
    """Tensors and metadata of a LoRA's file, from memory as long as the file stays the same.

    Raises:
        OviError: a file that is not there, damaged or no weight file.
    """
    state = os.stat(path) if os.path.isfile(path) else None
    return _read(path, input, state and (state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=FILES_KEPT)
def _read(path: str, input: str, state: Any) -> tuple[Weights, dict[str, str] | None]:
    return read_weights(path, input=input, accepted=ACCEPTED), read_metadata(path)


def with_lora(
    patcher: comfy.model_patcher.ModelPatcher, path: str, video_strength: float, audio_strength: float
) -> tuple[comfy.model_patcher.ModelPatcher, list[str]]:
    """The MODEL with a LoRA on it, and notes for the artist.

    Args:
        path: of the LoRA's file.
        video_strength, audio_strength: of what it changes in each tower. The weights by which one tower listens to the
            other belong to the one that listens. A tower of strength 0 stays bit for bit as it is.

    Raises:
        OviError: a MODEL of another family, or a file that is no LoRA for it.
    """
    model = require_ovi(patcher)
    if video_strength == 0 and audio_strength == 0:
        return patcher, []
    weights, metadata = read_lora(path)
    placed = place(weights, model.diffusion_model.config)
    name = os.path.basename(path)
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
    rest = placed.misfit or "the others are for layers that Ovi does not have, such as a text encoder's"
    return patched, [f"{placed.used} of the {placed.total} weights of '{name}' fit this model and are used; {rest}."]


def refusal(name: str, weights: Weights, misfit: str, input: str = "lora_name") -> OviError:
    """The error for a file none of whose weights fit; ``misfit`` as in :class:`Placed`."""
    kind = describe_weights(weights)
    if misfit:
        kind = f"a LoRA for a model of another size ({misfit})"
    elif kind == "a LoRA":
        kind = f"a LoRA for another model (it begins with {', '.join(list(weights)[:2])})"
    return OviError(
        input=input,
        found=f"'{name}', {kind}",
        accepted=ACCEPTED,
        remedy="Pick a LoRA made for one of these; those of Wan 14B and of other models do not fit.",
    )


def place(weights: Mapping[str, torch.Tensor], config: OviConfig) -> Placed:
    """The patches of a LoRA for a transformer of this ``config``; those for weights of other shapes are left out.

    Raises:
        OviError: an adapter of which a part is missing.
    """
    spelt, expected = in_host_spelling(weights, config), expected_weights(config)
    targets = {ROOT + layer: f"{ROOT}{layer}.weight" for layer in layers(config)}
    try:
        loaded = comfy.lora.load_lora(spelt, targets, log_missing=False)
    except KeyError as error:
        raise OviError(
            input="lora_name",
            found=f"a LoRA without its weight {error}",
            accepted=ACCEPTED,
            remedy="The file is cut short: fetch it again.",
        ) from error
    patches, misfit = {}, ""
    for key, patch in loaded.items():
        name, changed = key.removeprefix(ROOT), _shape(patch)
        own = tuple(expected[name].shape) if name in expected else ()
        if changed is None or (own and changed in (own, (own[0], math.prod(own[1:])))):
            patches[key] = patch
        else:
            misfit = misfit or f"its {name} is {_told(changed)}, here it is {_told(own)}"
    patched = {key.rsplit(".", 1)[0] for key in patches}
    used = sum(any(layer in patched for layer, _ in cuts(key)) for key in spelt)
    return Placed(patches, used, len(weights), misfit)


def _shape(patch: Any) -> tuple[int, ...] | None:
    """Shape of the weight that a patch of ComfyUI is for, convolutions as a matrix; None where it is not known."""
    if isinstance(patch, tuple):
        return tuple(patch[1][0].shape)
    weights = patch.weights
    if patch.name == "lora" and weights[3] is None and weights[5] is None:
        return weights[0].shape[0], weights[1][0].numel()
    if patch.name == "loha" and weights[5] is None:
        return weights[0].shape[0], weights[1].shape[1]
    if patch.name == "lokr" and weights[7] is None:
        whole_1, whole_2, _, a_1, b_1, a_2, b_2, *_ = weights
        rows_1, columns_1 = _matrix(whole_1, a_1, b_1)
        rows_2, columns_2 = _matrix(whole_2, a_2, b_2)
        return rows_1 * rows_2, columns_1 * columns_2
    return None


def _matrix(whole: torch.Tensor | None, a: torch.Tensor, b: torch.Tensor) -> tuple[int, int]:
    """Rows and columns of a factor that is given whole or as a product."""
    return (whole.shape[0], whole[0].numel()) if whole is not None else (a.shape[0], b.shape[1])


def _told(shape: Sequence[int] | None) -> str:
    return "x".join(str(size) for size in shape) if shape else "not there"
