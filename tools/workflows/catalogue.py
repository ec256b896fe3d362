"""All workflows by title, and how one is drawn."""

from __future__ import annotations

from typing import Any

from .chains import CHAINS
from .drawing import Drawing
from .people import PEOPLE, VARIANT
from .templates import TEMPLATES

WORKFLOWS = {**TEMPLATES, **CHAINS, **PEOPLE}


def needs_other_weights(title: str) -> bool:
    """Whether a workflow cannot run with Ovi mini alone; its thumbnail is a diagram."""
    return title in CHAINS or title in PEOPLE


def variant(title: str) -> str:
    """The variant of Ovi that a workflow is set for."""
    return VARIANT if title in PEOPLE else "mini"


def graph(title: str, info: dict[str, Any], models: list[dict[str, str]]) -> dict[str, Any]:
    """The workflow of that title; ``info`` and ``models`` as in :class:`Drawing`."""
    drawing = Drawing(title, info, models)
    WORKFLOWS[title](drawing)
    return drawing.graph()
