"""The conditions of a forward that come from reference people, see ``network/references.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import comfy.conds
import torch
from torch import Tensor

from ..errors import OviError
from ..latents.joint import is_absent
from ..network.references import KEY, of_people
from ..spec import AUDIO_CHANNELS, MOST_PEOPLE, VIDEO_CHANNELS

ZEROED = "ovi_references_zeroed"
"""Key of a conditioning's options: ``face`` or ``voice``, the references that are zeros in the model's own units. They
keep their tokens and positions, so that such a conditioning runs in one batch with the others."""
NAMES = ("face_references", "voice_references")
REMEDY = "Connect the latent that is sampled to Ovi Person, and its two conditionings to the sampler."


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
    people = options.get(KEY)
    if not people:
        return {}
    _check(people, options.get("prompt_type", "conditioning"))
    references = of_people(people)
    towers = [shape for shape in shapes if not is_absent(shape)]
    video = next((shape for shape in towers if len(shape) == 5), None)
    conds: dict[str, Any] = {}
    if references.faces is not None and video is not None:
        if tuple(references.faces.shape[-2:]) != tuple(video[-2:]):
            raise OviError(
                input=options.get("prompt_type", "conditioning"),
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
    people = options.get(KEY)
    if not people:
        return {}
    _check(people, "conditioning")
    references = of_people(people)
    parts = zip(NAMES, (references.faces, references.voices), strict=True)
    return {name: list(part.shape) for name, part in parts if part is not None}


def reference_lengths(cond_shapes: dict[str, Any] | None) -> tuple[int, int]:
    """Latent frames of faces and audio frames of voices, from the shapes of a forward's conditions."""
    given = cond_shapes or {}
    faces, voices = (max((shape[2] for shape in given.get(name) or ()), default=0) for name in NAMES)
    return faces, voices


def _check(people: Any, input: str) -> None:
    found = ""
    if not isinstance(people, (list, tuple)) or len(people) > MOST_PEOPLE:
        found = f"{len(people) if isinstance(people, (list, tuple)) else type(people).__name__} reference people"
    elif not all(isinstance(person, dict) for person in people):
        found = "reference people of another kind"
    else:
        for person in people:
            for name, axes, channels in (("face", 5, VIDEO_CHANNELS), ("voice", 3, AUDIO_CHANNELS)):
                part = person.get(name)
                if part is None:
                    continue
                fits = isinstance(part, Tensor) and part.ndim == axes and part.shape[1] == channels and part.numel()
                if not fits or (name == "face" and part.shape[2] != 1) or not torch.isfinite(part).all():
                    shape = list(part.shape) if isinstance(part, Tensor) else type(part).__name__
                    found = f"a {name} reference of shape {shape}, or not finite"
    if found:
        raise OviError(
            input=input, found=found, accepted=f"up to {MOST_PEOPLE} people as Ovi Person gives them", remedy=REMEDY
        )


def _cells(shape: Sequence[int]) -> str:
    return f"{shape[-1]}x{shape[-2]}"
