"""All templates by title, and how one is drawn."""

from __future__ import annotations

from typing import Any

from .advanced import ADVANCED
from .chains import CHAINS
from .parts import MAIN, SMALL, Draw
from .people import PEOPLE, VARIANT
from .sheet import Sheet
from .templates import OTHER_VARIANT, TEMPLATES

WORKFLOWS: dict[str, Draw] = {**TEMPLATES, **ADVANCED, **PEOPLE, **CHAINS}
TRY = "00 Try it now"
"""How the titles of templates begin that run with the small model, as they are."""
LANGUAGE_MODEL = "13 Prompt enhancer"


def needs_other_weights(title: str) -> bool:
    """Whether a template cannot run with Ovi mini alone, whatever variant it is drawn for."""
    return title in CHAINS or title in PEOPLE or title == LANGUAGE_MODEL


def variant(title: str) -> str:
    """The variant of Ovi that a template is set for."""
    if title in PEOPLE:
        return VARIANT
    return SMALL if title.startswith(TRY) else OTHER_VARIANT.get(title, MAIN)


def graph(title: str, info: dict[str, Any], models: list[dict[str, str]], of: str | None = None) -> dict[str, Any]:
    """The template of that title.

    Args:
        info: the server's ``/object_info``.
        models: files to be had of its variant, as a node says of them (``properties.models``).
        of: the variant that it is drawn for: ``mini`` gives one that runs with what the pack brings; its own if
            None.
    """
    return sheet(title, info, models, of).graph()


def sheet(title: str, info: dict[str, Any], models: list[dict[str, str]], of: str | None = None) -> Sheet:
    """The template of that title, drawn."""
    drawn = Sheet(title, info, models, of or variant(title))
    WORKFLOWS[title](drawn)
    return drawn
