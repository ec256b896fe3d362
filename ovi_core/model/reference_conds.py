"""The conditions of a forward that come from reference people, see ``network/references.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import comfy.conds
import torch
from torch import Tensor

from ..errors import OviError
from ..latents.joint import is_absent
from ..network.references import KEY, References, check_people, of_people

ZEROED = "ovi_references_zeroed"
"""Key of a conditioning's options: ``face`` or ``voice``, the references that are zeros in the model's own units. They
keep their tokens and positions, so that such a conditioning runs in one batch with the others."""
NAMES = ("face_references", "voice_references")
REMEDY = "Connect the latent that is sampled to every Ovi Person, and both conditionings of the last to the sampler."


def reference_conds(
    options: dict, shapes: Sequence[Sequence[int]], normalised: Callable[[Tensor], Tensor], device: Any = None
) -> dict[str, Any]:
    """Conditions of one conditioning; none where it has no people, or where their tower does not run.

    Args:
        options: of the conditioning.
        shapes: of the latent's parts, [B, 48, T, H, W] and [B, 20, L], or one of them.
        normalised: a video latent in the VAE's units to the model's.
        device: that the run is on.

    Raises:
        OviError: people of another kind than Ovi Person gives, or faces of another size than the latent.
    """
    input = options.get("prompt_type", "conditioning")
    references = _references(options, input)
    towers = [shape for shape in shapes if not is_absent(shape)]
    video = next((shape for shape in towers if len(shape) == 5), None)
    conds: dict[str, Any] = {}
    if references.faces is not None and video is not None:
        if tuple(references.faces.shape[-2:]) != tuple(video[-2:]):
            raise OviError(
                input=input,
                found=f"faces of {_cells(references.faces.shape)} latent cells for a latent of {_cells(video)}",
                accepted="faces that were fitted to the sampled latent",
                remedy=REMEDY,
            )
        faces = normalised(references.faces)
        conds[NAMES[0]] = faces if options.get(ZEROED) != "face" else torch.zeros_like(faces)
    if references.voices is not None and any(len(shape) == 3 for shape in towers):
        voices = references.voices
        conds[NAMES[1]] = voices if options.get(ZEROED) != "voice" else torch.zeros_like(voices)
        conds["voice_lengths"] = references.lengths
    kinds = {name: comfy.conds.CONDRegular if name in NAMES else comfy.conds.CONDConstant for name in conds}
    conds = {name: value.to(device) if name in NAMES else value for name, value in conds.items()}
    return {name: kinds[name](value) for name, value in conds.items()}


def reference_shapes(options: dict) -> dict[str, list[int]]:
    """Shapes of the conditions that a conditioning's people will become, before a run."""
    references = _references(options, "conditioning")
    parts = zip(NAMES, (references.faces, references.voices), strict=True)
    return {name: list(part.shape) for name, part in parts if part is not None}


def reference_lengths(cond_shapes: dict[str, Any] | None) -> tuple[int, int]:
    """Latent frames of faces and audio frames of voices, from the shapes of a forward's conditions."""
    given = cond_shapes or {}
    faces, voices = (max((shape[2] for shape in given.get(name) or ()), default=0) for name in NAMES)
    return faces, voices


def _references(options: dict, input: str) -> References:
    """The references of a conditioning's people, checked: a conditioning may come from anywhere."""
    people = options.get(KEY) or ()
    check_people(people, input, REMEDY)
    return of_people(people)


def _cells(shape: Sequence[int]) -> str:
    return f"{shape[-1]}x{shape[-2]}"
