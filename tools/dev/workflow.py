"""Turns the workflow a user saves (nodes, links, widgets) into the prompt ComfyUI's server runs.

The browser does this in ComfyUI; here it is done with nothing but the server's ``/object_info``, which lists every
node's inputs in the order in which a saved workflow keeps its widget values.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .problems import DevError

WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR", "FLOAT,INT", "INT,FLOAT"}
NOTES = {"Note", "MarkdownNote"}
PAGE_ONLY = {"Reroute", "PrimitiveNode", "GetNode", "SetNode"}
MODES = {2: "muted", 4: "bypassed"}
SUBGRAPH_INPUT = "-10"  # the node id that links within a subgraph have where they come from outside
MOST_LEVELS = 20  # of subgraphs within one another
OWN = object()
"""Stands for the value that a widget has of its own."""


@dataclass(frozen=True)
class Slot:
    """One entry of a node's ``widgets_values``.

    Attributes:
        name: the input it sets, nested inputs as ``codec.encoding``; empty where only the page uses the entry
            (``control_after_generate``, upload buttons).
        kind: a type of ``WIDGET_TYPES``; ``DYNAMIC``, a choice that brings inputs of its own; ``CONTROL``; ``UPLOAD``.
        config: the input's settings as ``/object_info`` gives them (default, min, max, options).
    """

    name: str
    kind: str
    config: dict[str, Any]


def load(file: Path) -> dict[str, Any]:
    """The JSON object in ``file``; raises :class:`DevError` when there is none."""
    try:
        graph = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DevError(f"There is no workflow file {file}. Check the path after --workflow.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DevError(f"{file} is not a workflow: it is not JSON ({error}). Save it again in ComfyUI.") from None
    if not isinstance(graph, dict):
        raise DevError(f"{file} is not a workflow: it holds a JSON {type(graph).__name__}. Save it again in ComfyUI.")
    return graph


def to_prompt(graph: dict[str, Any], object_info: dict[str, Any]) -> dict[str, Any]:
    """The prompt (API format) of a workflow; a graph that is a prompt already is returned as it is.

    Args:
        graph: a saved workflow, format 0.4 or 1.0.
        object_info: the answer of the server's ``/object_info``.

    Raises:
        DevError: the graph holds something only ComfyUI's page can resolve, or a node the server does not have.
    """
    if "nodes" not in graph:
        if graph and all(isinstance(node, dict) and "class_type" in node for node in graph.values()):
            return graph
        raise DevError("This JSON is neither a workflow saved in ComfyUI (no 'nodes') nor one exported for the API.")
    prompt: dict[str, Any] = {}
    definitions = {entry["id"]: entry for entry in (graph.get("definitions") or {}).get("subgraphs") or []}
    _Level(graph, definitions, object_info).write(prompt)
    return prompt


class _Level:
    """The nodes of a workflow, or of one of its subgraphs where ``parent`` has it as the node ``instance``.

    Nodes within a subgraph are named after the node that is the subgraph, as ComfyUI's page names them: ``5:2``.
    """

    def __init__(
        self,
        graph: dict[str, Any],
        definitions: dict[str, Any],
        object_info: dict[str, Any],
        parent: _Level | None = None,
        instance: dict[str, Any] | None = None,
    ):
        self.graph, self.definitions, self.object_info = graph, definitions, object_info
        self.parent, self.instance = parent, instance
        self.sources = dict(_links(graph))
        self.nodes = {str(node["id"]): node for node in graph.get("nodes") or []}
        self.prefix: str = f"{parent.prefix}{instance['id']}:" if parent and instance else ""
        if self.prefix.count(":") > MOST_LEVELS:
            raise DevError(f"Subgraphs lie within one another more than {MOST_LEVELS} deep. Unpack some of them.")

    def write(self, prompt: dict[str, Any]) -> None:
        """Add the nodes to ``prompt``."""
        for key, node in self.nodes.items():
            if node["type"] in NOTES:
                continue
            _require_supported(node, self.object_info, self.definitions)
            if node["type"] in self.definitions:
                self.within(node).write(prompt)
                continue
            inputs = _inputs(node, self.object_info[node["type"]], self)
            meta = {"title": _title(node, self.object_info)}
            prompt[self.prefix + key] = {"class_type": node["type"], "inputs": inputs, "_meta": meta}

    def within(self, node: dict[str, Any]) -> _Level:
        """The subgraph that a node is."""
        return _Level(self.definitions[node["type"]], self.definitions, self.object_info, self, node)

    def value(self, node: dict[str, Any], entry: dict[str, Any]) -> Any:
        """What a linked input gets: a node's output, a widget's value, or :data:`OWN` where it has none."""
        if entry["link"] not in self.sources:
            raise DevError(
                f"Node {node['id']} ({node['type']}), input '{entry['name']}': the file lacks its link "
                f"{entry['link']}. Connect the input again in ComfyUI and save."
            )
        return self._output(*self.sources[entry["link"]])

    def _output(self, key: str, slot: int) -> Any:
        if key == SUBGRAPH_INPUT and self.parent and self.instance:
            return self.parent._given(self.instance, self.graph["inputs"][slot]["name"])
        node = self.nodes[key]
        if node["type"] not in self.definitions:
            return [self.prefix + key, slot]
        inner = self.within(node)
        links = inner.graph["outputs"][slot]["linkIds"]
        return inner._output(*inner.sources[links[0]]) if links else OWN

    def _given(self, instance: dict[str, Any], name: str) -> Any:
        """What an input of a subgraph's node gets: a link, or the value of its widget."""
        inputs = instance.get("inputs") or []
        entry = next((entry for entry in inputs if entry["name"] == name), None)
        if entry and entry.get("link") is not None:
            return self.value(instance, entry)
        widgets = [entry["name"] for entry in inputs if "widget" in entry]
        values = dict(zip(widgets, instance.get("widgets_values") or [], strict=False))
        return values.get(name, OWN)


def _links(graph: dict[str, Any]) -> Iterator[tuple[int, tuple[str, int]]]:
    """(link id, (source node id, source slot)) of every link; format 0.4 has lists, all others have objects."""
    for link in graph.get("links") or []:
        if isinstance(link, dict):
            yield link["id"], (str(link["origin_id"]), link["origin_slot"])
        else:
            yield link[0], (str(link[1]), link[2])


def _title(node: dict[str, Any], object_info: dict[str, Any]) -> str:
    return node.get("title") or object_info[node["type"]].get("display_name") or node["type"]


def _require_supported(node: dict[str, Any], object_info: dict[str, Any], subgraphs: Container[str]) -> None:
    where = f"Node {node['id']} ({node.get('title') or node['type']})"
    way_out = "Save the workflow in ComfyUI with 'Export (API)' and give that file, or take the node out."
    if node.get("mode", 0) in MODES:
        raise DevError(f"{where} is {MODES[node['mode']]}; only ComfyUI's page can resolve that. {way_out}")
    if node["type"] in PAGE_ONLY:
        raise DevError(f"{where} exists only on ComfyUI's page, the server has no such node. {way_out}")
    if node["type"] not in object_info and node["type"] not in subgraphs:
        raise DevError(f"{where}: the server has no node of type '{node['type']}'. Install the pack it comes from.")


def _inputs(node: dict[str, Any], info: dict[str, Any], level: _Level) -> dict[str, Any]:
    values = node.get("widgets_values") or []
    inputs = dict(values) if isinstance(values, dict) else _widget_inputs(node, info, values)
    for entry in node.get("inputs") or []:
        if entry.get("link") is None:
            continue
        value = level.value(node, entry)
        if value is not OWN:
            inputs[entry["name"]] = value
    return inputs


def _widget_inputs(node: dict[str, Any], info: dict[str, Any], values: list[Any]) -> dict[str, Any]:
    slots = widget_slots(info, values)
    if len(values) > len(slots):
        raise DevError(
            f"Node {node['id']} ({node['type']}) has {len(values)} widget values, and the server's node has "
            f"{len(slots)}: {[slot.name or slot.kind for slot in slots]}. Open it in this ComfyUI and save it again."
        )
    inputs = {}
    for index, slot in enumerate(slots):
        if slot.name and index < len(values):
            inputs[slot.name] = values[index]
        elif slot.name and slot.kind == "DYNAMIC":
            inputs[slot.name] = slot.config["options"][0]["key"]
        elif slot.name and "default" in slot.config:
            inputs[slot.name] = slot.config["default"]
    return inputs


def widget_slots(info: dict[str, Any], values: list[Any]) -> list[Slot]:
    """The entries a node's ``widgets_values`` must have, in order.

    Args:
        info: the node's entry in ``/object_info``.
        values: the node's ``widgets_values``; needed because some choices bring further entries.
    """
    slots: list[Slot] = []
    buttons: list[Slot] = []  # the page puts upload buttons after all other widgets

    def walk(spec: dict[str, Any], prefix: str, order: dict[str, Any]) -> None:
        for group in ("required", "optional"):
            items = spec.get(group) or {}
            for name in order.get(group) or items:
                config = (items[name][1] if len(items[name]) > 1 else None) or {}
                add(prefix + name, items[name][0], config)

    def add(name: str, kind: Any, config: dict[str, Any]) -> None:
        if isinstance(kind, list):
            kind, config = "COMBO", {**config, "options": kind}
        if config.get("forceInput") or config.get("rawLink"):
            return
        if kind == "COMFY_DYNAMICCOMBO_V3":
            chosen = values[len(slots)] if len(slots) < len(values) else None
            slots.append(Slot(name, "DYNAMIC", config))
            option = next((o for o in config["options"] if o["key"] == chosen), config["options"][0])
            walk(option.get("inputs") or {}, name + ".", {})
        elif kind in WIDGET_TYPES:
            slots.append(Slot(name, kind, config))
            if _has_control(name, kind, config):
                slots.append(Slot("", "CONTROL", {}))
            if config.get("audio_upload"):
                buttons.append(Slot("", "UPLOAD", {}))  # the audio player
            if any(config.get(f"{medium}_upload") for medium in ("image", "video", "audio")):
                buttons.append(Slot("", "UPLOAD", {}))

    walk(info["input"], "", info.get("input_order") or {})
    return slots + buttons


def _has_control(name: str, kind: str, config: dict[str, Any]) -> bool:
    if "control_after_generate" in config:
        return bool(config["control_after_generate"]) and "." not in name
    return kind == "INT" and name in ("seed", "noise_seed")


def set_seed(prompt: dict[str, Any], seed: int) -> dict[str, Any]:
    """A copy of ``prompt`` with ``seed`` in every seed widget (inputs fed by a link stay as they are)."""
    changed = {}
    for key, node in prompt.items():
        seeds = {n: seed for n, v in node["inputs"].items() if n in ("seed", "noise_seed") and not isinstance(v, list)}
        changed[key] = {**node, "inputs": {**node["inputs"], **seeds}}
    return changed
