"""A template: one node that holds a whole workflow, with what is given to it on its left and what comes out on its
right; and a blueprint, which is that node alone.

The node is a subgraph. What it shows on the outside are inputs of that subgraph, each linked to what it sets inside: an
image, or the widget of one node or several.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Any

from .drawing import FOOT, GAP, PACK, ROW, SLOT, Drawing, Node, Output, placed, text_height

INPUT, OUTPUT = -10, -20  # the ids that ComfyUI gives the two ends of a subgraph
CATEGORY, SIDE = "Ovi", 140
# Pixels of the outer nodes, so that all of a template is seen at 70 % and more in a window of 1600 x 1000.
NOTE_WIDTH, GIVEN_WIDTH, WIDTH, SAVE_WIDTH, APART = 380, 370, 380, 380, 40
GIVEN_HEIGHTS = {"LoadImage": 330, "LoadVideo": 400, "LoadAudio": 140}
MANY = 2  # given nodes in one column; where there are more, they stand in two, the note below them
SAVE_HEIGHT, BELOW = 520, 50
NOTE, NOTE_LETTERS = ("#432", "#653"), 58
ORDER = ("prompt", "script", "people", "scene", "looks", "actions", "speech", "aspect", "seconds", "width", "height")
LAST = ("seed", "variant", "precision", "download_missing")
"""Widgets of the node, the first and the last ones; what else there is comes between."""


@dataclass(frozen=True)
class Given:
    """A node on the outside that gives the subgraph something."""

    name: str
    kind: str
    title: str
    values: dict[str, Any]


class Sheet:
    """A template in the making.

    Attributes:
        title: the template's title, which is its file's name.
        variant: the variant of Ovi that it is drawn for.
        about: what the page says of the node.
        app: whether the page's app mode shows it.
        models: files to be had, as a node says of them (``properties.models``).
    """

    def __init__(self, title: str, info: dict[str, Any], models: list[dict[str, str]], variant: str):
        self.title, self.variant, self.models = title, variant, models
        self.about = ""
        self.app = False
        self._inside = Drawing(info, models)
        self._source = Node({"id": INPUT, "type": "input", "outputs": []}, [])
        self._values: dict[str, Any] = {}
        self._texts: set[str] = set()
        self._given: list[Given] = []
        self._results: list[tuple[str, Output]] = []
        self._save: tuple[str, str, dict[str, Any]] | None = None
        self._note = ""

    @property
    def name(self) -> str:
        """What follows a dash in the title, else all but its number."""
        return self.title.partition(" - ")[2].capitalize() or self.title.split(" ", 1)[-1]

    def note(self, text: str) -> None:
        """The note on the left."""
        self._note = text

    def group(self, title: str, about: str) -> None:
        """As :meth:`Drawing.group`, inside."""
        self._inside.group(title, about)

    def add(self, kind: str, title: str = "", colours: tuple[str, str] | None = None, /, **given: Any) -> Node:
        """As :meth:`Drawing.add`, inside."""
        return self._inside.add(kind, title, colours, **given)

    def given(self, name: str, kind: str, title: str = "", /, **values: Any) -> Output:
        """A node on the outside that gives its first output to the input ``name`` of the subgraph."""
        self._given.append(Given(name, kind, title, values))
        return self._socket(name, self._inside.info[kind]["output"][0])

    def ask(self, name: str, kind: str, value: Any, text: bool = False) -> Output:
        """A widget on the outside, for every input that is given it; the same again where it was asked before.

        Args:
            text: it is a field of several lines.
        """
        if name in self._values:
            slot = self._source.names.index(name)
            return Output(self._source, slot, kind, self._values[name])
        self._values[name] = value
        self._texts |= {name} if text else set()
        return self._socket(name, kind, value)

    def result(self, name: str, output: Output) -> None:
        """An output of the subgraph."""
        self._results.append((name, output))

    def save(self, kind: str, result: str, /, **values: Any) -> None:
        """The node on the right, which takes an output of the subgraph."""
        self._save = (kind, result, values)

    def _socket(self, name: str, kind: str, value: Any = None) -> Output:
        self._source.entry["outputs"].append({"name": name, "type": kind, "links": []})
        self._source.names.append(name)
        return Output(self._source, len(self._source.names) - 1, kind, value)

    def blueprint(self, title: str) -> dict[str, Any]:
        """The node alone, with nothing connected, under another title."""
        subgraph, outputs, last = self._subgraph(title, title)
        node = self._node(last, subgraph, outputs, (0, 0))
        return self._workflow(title, [node], [], subgraph)

    def graph(self) -> dict[str, Any]:
        """The finished template."""
        subgraph, outputs, number = self._subgraph(self.title, f"{self.name} (Ovi)")
        first = subgraph["state"]["lastLinkId"] + 1
        many = len(self._given) > MANY
        x = 0 if many else NOTE_WIDTH + APART
        given = self._given_nodes(number + 2, x)
        note = self._note_node(number + 1, given if many else [])
        x += (GIVEN_WIDTH + APART) * -(-len(given) // MANY)
        node = self._node(number, subgraph, outputs, (x, 0))
        links = []
        for link, source in enumerate(given, first):
            slot = link - first  # sockets come before widgets, in the order in which they were given
            node["inputs"][slot]["link"] = link
            source["outputs"][0]["links"].append(link)
            links.append([link, source["id"], 0, number, slot, source["outputs"][0]["type"]])
        nodes = [note, *given, node]
        extra: dict[str, Any] = {}
        if self._save:
            saved, slot = self._save_node(number + 2 + len(given), x + WIDTH + APART, node)
            link = first + len(given)
            saved["inputs"][0]["link"] = link
            node["outputs"][slot]["links"].append(link)
            links.append([link, number, slot, saved["id"], 0, outputs[slot]["type"]])
            nodes.append(saved)
            extra = {"linearMode": False, "linearData": self._app(given, node, saved)} if self.app else {}
        return {**self._workflow(self.title, nodes, links, subgraph), "extra": extra}

    def _save_node(self, number: int, x: int, node: dict[str, Any]) -> tuple[dict[str, Any], int]:
        """The node on the right, and the output of ``node`` that goes into it."""
        assert self._save
        kind, result, values = self._save
        slot = [name for name, _ in self._results].index(result)
        value = Output(Node(node, []), slot, node["outputs"][slot]["type"])
        saved = placed(self._inside.info, number, kind, "", None, (x, 0), {"video": value, **values}).entry
        saved["size"] = [SAVE_WIDTH, SAVE_HEIGHT]
        return saved, slot

    def _app(self, given: list[dict[str, Any]], node: dict[str, Any], saved: dict[str, Any]) -> dict[str, Any]:
        """What app mode shows: the widgets of the node and of what is given to it, and the saved clip."""
        files = [[entry["id"], next(iter(one.values))] for entry, one in zip(given, self._given, strict=True)]
        widgets = [entry["name"] for entry in node["inputs"] if "widget" in entry]
        return {"inputs": [*files, *([node["id"], name] for name in widgets)], "outputs": [saved["id"]]}

    def _note_node(self, number: int, above: list[dict[str, Any]]) -> dict[str, Any]:
        """The note; ``above``: nodes below which it stands, as wide as they are."""
        text = self._note + self._files()
        shown = re.sub(r"\(http\S+?\)", "", text)
        width = max((node["pos"][0] + node["size"][0] for node in above), default=NOTE_WIDTH)
        top = max((node["pos"][1] + node["size"][1] + BELOW for node in above), default=0)
        size = [width, 40 + text_height(shown, NOTE_LETTERS * width // NOTE_WIDTH)]
        node: dict[str, Any] = {"id": number, "type": "MarkdownNote", "pos": [0, top], "size": size, "flags": {}}
        node |= {"order": 0, "mode": 0, "inputs": [], "outputs": [], "properties": {}, "widgets_values": [text]}
        return node | {"title": "Read me", "color": NOTE[0], "bgcolor": NOTE[1]}

    def _files(self) -> str:
        """Links to the files that the nodes inside name, each once."""
        nodes = [node.entry["properties"].get("models", ()) for node in self._inside.nodes]
        rows = [f"- [{model['name']}]({model['url']}) in {model['directory']}" for models in nodes for model in models]
        return "\n\n## Files, in ComfyUI/models\n" + "\n".join(dict.fromkeys(rows)) if rows else ""

    def _given_nodes(self, number: int, x: int) -> list[dict[str, Any]]:
        nodes, y = [], 0
        for index, one in enumerate(self._given):
            if index and index % MANY == 0:
                x, y = x + GIVEN_WIDTH + APART, 0
            entry = placed(self._inside.info, number + index, one.kind, one.title, None, (x, y), one.values).entry
            entry["size"] = [GIVEN_WIDTH, GIVEN_HEIGHTS[one.kind]]
            y += entry["size"][1] + BELOW
            nodes.append(entry)
        return nodes

    def _subgraph(self, title: str, name: str) -> tuple[dict[str, Any], list[dict[str, Any]], int]:
        """The subgraph, its outputs, and the first node id that is free."""
        inside = self._inside
        inside.finish()
        inputs, places = self._sorted_inputs()
        links = [_link(*link) for link in inside.links]
        for link in links:
            if link["origin_id"] == INPUT:
                link["origin_slot"] = places[link["origin_slot"]]
        outputs = []
        for slot, (result, output) in enumerate(self._results):
            number = len(links) + 1
            links.append(_link(number, output.node.entry["id"], output.slot, OUTPUT, slot, output.kind))
            output.node.entry["outputs"][output.slot]["links"].append(number)
            outputs.append({"name": result, "type": output.kind, "links": [number]})
        last = len(inside.nodes) + 1
        state = {"lastGroupId": len(inside.groups), "lastNodeId": last, "lastLinkId": len(links), "lastRerouteId": 0}
        subgraph = {
            "id": self._id(title, "subgraph"),
            "version": 1,
            "state": state,
            "revision": 0,
            "config": {},
            "name": name,
            "category": CATEGORY,
            "description": self.about,
            **self._ends(title, inputs, outputs),
            "widgets": [],
            "nodes": [node.entry for node in inside.nodes],
            "groups": inside.groups,
            "links": links,
            "extra": {},
        }
        return subgraph, outputs, last

    def _sorted_inputs(self) -> tuple[list[dict[str, Any]], dict[int, int]]:
        """Inputs in the order in which they are shown, and the place there of each as it was asked for."""
        entries = self._source.entry["outputs"]

        def rank(index: int) -> tuple[bool, int]:
            name = entries[index]["name"]
            place = ORDER.index(name) if name in ORDER else len(ORDER)
            return name in self._values, len(ORDER) + 1 + LAST.index(name) if name in LAST else place

        order = sorted(range(len(entries)), key=rank)
        return [entries[index] for index in order], {index: place for place, index in enumerate(order)}

    def _id(self, title: str, what: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{PACK}/{title}/{what}"))

    def _ends(self, title: str, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Inputs and outputs of the subgraph, and their places left and right of its groups."""
        right = max(group["bounding"][0] + group["bounding"][2] for group in self._inside.groups)
        ends: dict[str, Any] = {}
        for side, key, x, slots in (("input", INPUT, -GAP - SIDE, inputs), ("output", OUTPUT, right + GAP, outputs)):
            ends[f"{side}Node"] = {"id": key, "bounding": [x, 0, SIDE, 40 + 20 * len(slots)]}
            ends[f"{side}s"] = [
                {"id": self._id(title, f"{side}/{slot['name']}"), "name": slot["name"], "type": slot["type"]}
                | {"linkIds": slot["links"], "pos": [x + (SIDE - 20 if key == INPUT else 20), 20 + 20 * row]}
                for row, slot in enumerate(slots)
            ]
        return ends

    def _node(
        self, number: int, subgraph: dict[str, Any], outputs: list[dict[str, Any]], place: tuple[int, int]
    ) -> dict[str, Any]:
        inputs = [
            {"name": slot["name"], "type": slot["type"], "link": None}
            | ({"widget": {"name": slot["name"]}} if slot["name"] in self._values else {})
            for slot in subgraph["inputs"]
        ]
        values = [self._values[slot["name"]] for slot in subgraph["inputs"] if slot["name"] in self._values]
        sockets = len(inputs) - len(values)
        texts = [text_height(self._values[name]) for name in self._texts]
        rows = ROW * (len(values) - len(texts)) + sum(texts)
        height = FOOT + SLOT * max(sockets, len(outputs)) + rows
        node = {"id": number, "type": subgraph["id"], "pos": [*place], "size": [WIDTH, height], "flags": {}}
        node |= {"order": 0, "mode": 0, "inputs": inputs, "properties": {}, "widgets_values": values}
        node |= {"outputs": [{**output, "links": []} for output in outputs], "title": subgraph["name"]}
        return node

    def _workflow(
        self, title: str, nodes: list[dict[str, Any]], links: list[list[Any]], subgraph: dict[str, Any]
    ) -> dict[str, Any]:
        for order, node in enumerate(nodes):
            node["order"] = order
        return {
            "id": self._id(title, "workflow"),
            "revision": 0,
            "last_node_id": max(node["id"] for node in nodes),
            "last_link_id": max((link[0] for link in links), default=0),
            "nodes": nodes,
            "links": links,
            "groups": [],
            "definitions": {"subgraphs": [subgraph]},
            "config": {},
            "extra": {},
            "version": 0.4,
        }


def _link(number: int, start: int, slot: int, end: int, to_slot: int, kind: str) -> dict[str, Any]:
    """A link as subgraphs have it."""
    link = {"id": number, "origin_id": start, "origin_slot": slot, "target_id": end, "target_slot": to_slot}
    return {**link, "type": kind}
