"""The blueprints: the four commonest jobs as one node each, which the page lists beside the nodes.

A blueprint is the node of a template, alone. Text to video is called *Ovi*: the page's search puts first what is called
exactly as is typed, and this is what somebody who types "ovi" looks for.
"""

from __future__ import annotations

from typing import Any

from . import catalogue

BLUEPRINTS = {
    "Ovi": "01 Text to video",
    "Ovi from an image": "02 Image to video",
    "Ovi sound for a silent video": "03 Sound for a silent clip",
    "Ovi video for a voice": "04 Video for a voice",
}
"""Titles of templates by the names of the blueprints."""


def graph(title: str, info: dict[str, Any], models: list[dict[str, str]]) -> dict[str, Any]:
    """The blueprint of that title; ``info`` and ``models`` as in :func:`.catalogue.graph`."""
    return catalogue.sheet(BLUEPRINTS[title], info, models).blueprint(title)
