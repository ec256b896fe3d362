"""All workflows by title, and how one is drawn."""

from __future__ import annotations

from typing import Any

from .chains import CHAINS
from .drawing import Drawing
from .templates import TEMPLATES

WORKFLOWS = {**TEMPLATES, **CHAINS}


def graph(title: str, info: dict[str, Any], models: list[dict[str, str]]) -> dict[str, Any]:
    """The workflow of that title; ``info`` and ``models`` as in :class:`Drawing`."""
    drawing = Drawing(title, info, models)
    WORKFLOWS[title](drawing)
    return drawing.graph()
