"""Templates made small, so that a run of them takes seconds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from tools.dev.workflow import widget_slots
from tools.workflows.sheet import INPUT


def shrunk(
    graph: dict[str, Any],
    nodes: dict[str, Any],
    values: dict[str, dict[str, Any]],
    script: Callable[[str], str] = str,
) -> dict[str, Any]:
    """A template with other values inside: what was linked to them there is cut, what comes from outside is set there.

    Args:
        nodes: the server's ``/object_info``.
        values: by node type, and by widget.
        script: changes the script of a storyboard.
    """
    graph = copy.deepcopy(graph)
    (inside,) = graph["definitions"]["subgraphs"]
    (outer,) = [node for node in graph["nodes"] if node["type"] == inside["id"]]
    for node in inside["nodes"]:
        names = [slot.name for slot in widget_slots(nodes[node["type"]], node["widgets_values"])]
        for name, value in values.get(node["type"], {}).items():
            if name not in names:
                continue
            shown = _cut(inside, node, name)
            node["widgets_values"][names.index(name)] = value
            if shown is not None:
                _set(outer, shown, value)
    widgets = [entry["name"] for entry in outer["inputs"] if "widget" in entry]
    if "script" in widgets:
        _set(outer, "script", script(outer["widgets_values"][widgets.index("script")]))
    return graph


def _cut(inside: dict[str, Any], node: dict[str, Any], name: str) -> str | None:
    """Take the link off a widget; the name of the outer widget where it is linked to one, which stays."""
    entry = next((entry for entry in node["inputs"] if entry["name"] == name), None)
    if entry is None:
        return None
    (link,) = [link for link in inside["links"] if link["id"] == entry["link"]]
    if link["origin_id"] == INPUT:
        return inside["inputs"][link["origin_slot"]]["name"]
    (source,) = [other for other in inside["nodes"] if other["id"] == link["origin_id"]]
    source["outputs"][link["origin_slot"]]["links"].remove(link["id"])
    inside["links"].remove(link)
    entry["link"] = None
    return None


def _set(outer: dict[str, Any], name: str, value: Any) -> None:
    widgets = [entry["name"] for entry in outer["inputs"] if "widget" in entry]
    outer["widgets_values"][widgets.index(name)] = value
