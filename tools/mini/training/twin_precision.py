"""The types in which the twin's weights are stored."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from tools.conversion import recipes
from tools.conversion.recipes import Entry


def twin_entries(weights: dict[str, Tensor]) -> Iterator[Entry]:
    """What the file holds of a twin's weights, by the module's names: large matrices in scaled fp8, the rest bfloat16.

    Weights on the meta device tell names, shapes and bytes.
    """

    return recipes.entries({key: value.bfloat16() for key, value in weights.items()}, recipes.FP8, in_gguf=False)
