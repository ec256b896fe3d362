"""Patches of other nodes on what the attention to the text answers, such as ComfyUI's NAGuidance.

Normalized attention guidance (arXiv 2505.21179) pushes the answer for the positive text away from the one for the
negative text. Where the run gives the negative text to the positive rows, one query asks both and no negative row need
run; else the patch finds the negative row in the batch, as in ComfyUI's other models.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .batch_rows import pick, put

POSITIVE, NEGATIVE = 0, 1
"""Roles of conditionings in ``cond_or_uncond``; further ones are variations of the positive."""
PATCH = "attn1_output_patch"
OF_OTHER_NETWORKS = ("attn1_patch", "attn2_patch", "attn2_output_patch", "input_block_patch", "output_block_patch")
REPLACED_IN_OTHER_NETWORKS = ("attn1", "attn2")

Keys = tuple[Tensor, Tensor]


def patches_of(options: dict) -> list[Callable[[Tensor, dict], Tensor]]:
    """The patches of these transformer options.

    None where there are patches of the input too: such pairs (ToMe, HyperTile) merge the tokens of a U-Net.
    """
    patches = options.get("patches", {})
    return [] if "attn1_patch" in patches else patches.get(PATCH, [])


def patched(
    answer: Tensor,
    query: Tensor,
    negative: Keys | None,
    attend: Callable[..., Tensor],
    options: dict,
) -> Tensor:
    """The text attention's ``answer`` [B, L, D] as the patches leave it.

    Args:
        query: [B, L, D], which asked.
        negative: key and value [B, S, D] of the negative text for every row, or None.
        attend: attention, called with query, key, value and options.
    """
    patches = patches_of(options)
    if not patches:
        return answer
    roles: Sequence[int] = options.get("cond_or_uncond") or [POSITIVE]
    others = [i for i, role in enumerate(roles) if role != NEGATIVE]
    if negative is None or not others:
        for patch in patches:
            answer = patch(answer, options)
        return answer
    query, key, value = (pick(x, others, len(roles)) for x in (query, *negative))
    both = torch.cat((pick(answer, others, len(roles)), attend(query, key, value, options)))
    as_two = {**options, "cond_or_uncond": [POSITIVE, NEGATIVE]}
    for patch in patches:
        both = patch(both, as_two)
    return put(answer, both.chunk(2)[0], others, len(roles))


def ineffective(options: dict) -> tuple[str, ...]:
    """Names of what other nodes patch that this network has no place for."""
    patches, replacements = options.get("patches", {}), options.get("patches_replace", {})
    names = [name for name in OF_OTHER_NETWORKS if patches.get(name)]
    names += [f"{name} (replaced)" for name in REPLACED_IN_OTHER_NETWORKS if replacements.get(name)]
    return (*names, PATCH) if "attn1_patch" in names and patches.get(PATCH) else tuple(names)


def warn_of_ineffective(names: Sequence[str]) -> None:
    """Say in the console that patches of these ``names`` have no effect."""
    logging.warning(
        "Ovi: a node patches %s, which Ovi's network does not have, so that node changes nothing (Perturbed-Attention "
        "Guidance, FreeU, ToMe and HyperTile are such nodes). Remove it. Ovi's own means are skip_layers, and "
        "modality_guidance of Ovi Guidance Options.",
        ", ".join(names),
    )
