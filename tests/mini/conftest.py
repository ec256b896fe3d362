"""The small model is loaded as on a computer without a card."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def as_on_a_cpu(in_full):
    return in_full
