"""Holds the keys and shapes of weights against those of a network. Every fault is an OviError."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ..errors import OviError
from .identify import describe_weights

LARGEST_AXIS = 1 << 20
"""The vocabulary of UMT5 has a quarter of that; an axis beyond it is a damaged or malicious file's."""
AGAIN = "The file is cut short or of another make: fetch the published one again."


def without_prefix(weights: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The weights under ``prefix``, named without it; empty if there are none."""
    return {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}


def check_weights(
    expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], *, input: str, what: str
) -> None:
    """Raise OviError, naming the first few, unless ``found`` has exactly the keys and shapes of ``expected``."""
    faults = {
        "missing": [key for key in expected if key not in found],
        "not part of it": [key for key in found if key not in expected],
        "of another shape": [
            f"{key} {list(found[key].shape)} instead of {list(expected[key].shape)}"
            for key in expected
            if key in found and found[key].shape != expected[key].shape
        ],
    }
    reported = [f"{len(keys)} {kind}: {', '.join(keys[:3])}" for kind, keys in faults.items() if keys]
    if reported:
        raise OviError(
            input=input,
            found=f"{what} with wrong weights ({'; '.join(reported)})",
            accepted=f"{what} with exactly its {len(expected)} weights",
            remedy=AGAIN,
        )


def axis(weights: Mapping[str, torch.Tensor], key: str, index: int, *, input: str, what: str) -> int:
    """Size of one axis of a weight, from which a network is built.

    Raises:
        OviError: the weight or the axis is not there, or its size is that of no network; it names the key.
    """
    size = weights[key].shape[index] if key in weights and weights[key].ndim > index else 0
    if not 0 < size <= LARGEST_AXIS:
        raise OviError(
            input=input,
            found=f"{what} without a usable weight '{key}'",
            accepted=f"a complete {what}",
            remedy=AGAIN,
        )
    return size


def check_count(count: int, most: int, *, input: str, what: str) -> int:
    """The number of a network's layers; OviError unless it is from 1 to ``most``."""
    if not 0 < count <= most:
        raise OviError(
            input=input, found=f"{what} of {count:,} layers", accepted=f"{what} of 1 to {most:,} layers", remedy=AGAIN
        )
    return count


def wrong_file(weights: Mapping[str, torch.Tensor], *, input: str, accepted: str, remedy: str) -> OviError:
    """The error for an undamaged file of the wrong kind; it says what the file is where that is known."""
    return OviError(input=input, found=describe_weights(weights), accepted=accepted, remedy=remedy)
