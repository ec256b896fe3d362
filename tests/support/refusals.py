"""Holds an error to what every error of the pack promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ovi_native.ovi_core.errors import OviError

LONGEST = 800  # characters of a paragraph that is still read


def refusal(run: Callable, *inputs: Any, node: str, input: str, found: str, remedy: str, **settings: Any) -> OviError:
    """What ``run(*inputs, **settings)`` is refused with: one paragraph of five parts, of which these are known."""
    with pytest.raises(OviError) as caught:
        run(*inputs, **settings)
    error = caught.value
    paragraph = str(error)
    assert "\n" not in paragraph
    assert len(paragraph) <= LONGEST
    assert (error.node, error.input) == (node, input)
    assert found in error.found
    assert remedy in error.remedy
    assert error.remedy.endswith(".")
    assert error.accepted
    for part in (node, f"'{input}'", error.found, error.accepted, error.remedy):
        assert part in paragraph
    return error
