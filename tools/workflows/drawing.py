"""Nodes in groups, as ComfyUI's page saves them (format 0.4): places, ids, links and widgets are counted.

Every group is a column; columns go from left to right, nodes from top to bottom.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..dev.setup import ROOT
from ..dev.workflow import WIDGET_TYPES, widget_slots

WIDGETS = {*WIDGET_TYPES, "COMFY_DYNAMICCOMBO_V3"}
GROWING = "COMFY_AUTOGROW_V3"  # an input that is as many as are connected: values.a, values.b
PACK = "comfyui-ovi-native"
VERSION = re.findall(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)[0]
WIDTHS = {"OviTextEncode": 440, "OviPeoplePrompt": 440, "OviStoryboard": 480}
WIDTH, GAP, COLUMN_GAP, TITLE, MARGIN = 360, 60, 80, 75, 20
# Pixels, as the newer of the page's two renderers has them, which is the larger one.
SLOT, ROW, TEXT, PREVIEW = 20, 28, 110, 240  # a socket, a widget, a text field, an image
LINE, LETTERS = 20, 48  # of a text field: a line's height, and how many characters go into one
FOOT = 40  # below the last row: the pack's name, or the button for more inputs
SAMPLERS = {"OviSampler", "OviStoryboard", "SamplerCustomAdvanced", "KSampler", "KSamplerAdvanced"}  # show previews
COLOURS = {
    "weights": "#3f789e",
    "words": "#8A8",
    "size": "#b58b2a",
    "given": "#5f9ea0",
    "sampling": "#a1309b",
    "decoding": "#88A",
}
"""Of groups, by what they are about."""
GREEN, RED = ("#232", "#353"), ("#322", "#533")


@dataclass(frozen=True)
class Output:
    """One output of a placed node, to be given to another node's input; ``value``: of a widget that it stands for."""

    node: Node
    slot: int
    kind: str
    value: Any = None


@dataclass
class Node:
    """A placed node; its outputs are its attributes, in lower case (``load.clip``)."""

    entry: dict[str, Any]
    names: list[str]

    def __getattr__(self, name: str) -> Output:
        if name.startswith("_") or name not in self.names:
            raise AttributeError(f"{self.entry['type']} has no output {name}, but {self.names}")
        slot = self.names.index(name)
        return Output(self, slot, self.entry["outputs"][slot]["type"])


@dataclass
class Drawing:
    """Nodes in the making.

    Args:
        info: the server's ``/object_info``.
        models: what the loader's node says of files to be had (``properties.models``).
    """

    info: dict[str, Any]
    models: list[dict[str, str]]
    nodes: list[Node] = field(default_factory=list)
    links: list[list[Any]] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    _x: int = 0
    _y: int = 0
    _column: int = 0
    _members: list[dict[str, Any]] = field(default_factory=list)

    def group(self, title: str, about: str) -> None:
        """Begin the next group, a new column; ``about``: what it is about, one of :data:`COLOURS`."""
        if self.groups:
            self._close()
            self._x += self._column + COLUMN_GAP
            self._y = self._column = 0
        group = {"id": len(self.groups) + 1, "title": title, "bounding": [], "color": COLOURS[about]}
        self.groups.append({**group, "font_size": 24, "flags": {}})

    def add(self, kind: str, title: str = "", colours: tuple[str, str] | None = None, /, **given: Any) -> Node:
        """Place a node: an ``Output`` among ``given`` becomes a link, all else a widget's value (else its default)."""
        number = len(self.nodes) + 1
        node = placed(self.info, number, kind, title, colours, (self._x, self._y), given)
        entry = node.entry
        for name, source in [(name, value) for name, value in given.items() if isinstance(value, Output)]:
            slot = next(index for index, slot in enumerate(entry["inputs"]) if slot["name"] == name)
            self._link(source, entry, slot)
        if kind == "OviPipelineLoader":
            entry["properties"]["models"] = self.models
        self._y += entry["size"][1] + GAP
        self._column = max(self._column, entry["size"][0])
        self._members.append(entry)
        self.nodes.append(node)
        return node

    def finish(self) -> None:
        """Close the last group."""
        self._close()

    def _link(self, source: Output, entry: dict[str, Any], slot: int) -> None:
        number = len(self.links) + 1
        entry["inputs"][slot]["link"] = number
        source.node.entry["outputs"][source.slot]["links"].append(number)
        self.links.append([number, source.node.entry["id"], source.slot, entry["id"], slot, source.kind])

    def _close(self) -> None:
        top = self._members[0]["pos"][1]
        bottom = self._y - GAP + MARGIN
        bounding = [self._x - MARGIN, top - TITLE, self._column + 2 * MARGIN, bottom - top + TITLE]
        self.groups[-1]["bounding"] = bounding
        self._members = []


def placed(
    info: dict[str, Any],
    number: int,
    kind: str,
    title: str,
    colours: tuple[str, str] | None,
    place: tuple[int, int],
    given: dict[str, Any],
) -> Node:
    """A node with the values ``given``; its inputs that are given an ``Output`` have a slot, and no link yet.

    Raises:
        ValueError: it has no input of such a name, or lacks one that is required.
    """
    about = info[kind]
    values = _widgets(about, given)
    sockets = _sockets(about, given)
    if unknown := given.keys() - sockets.keys() - {slot.name for slot in widget_slots(about, values)}:
        raise ValueError(f"{kind} has no input {unknown}")
    inputs = []
    for name, type_ in sockets.items():
        source = given.get(name)
        if isinstance(source, Output):
            widget = {"widget": {"name": name}} if type_ in WIDGETS else {}
            inputs.append({"name": name, "type": source.kind, "link": None, **widget})
        elif type_ not in WIDGETS and name in about["input"].get("required", {}):
            raise ValueError(f"{kind}: nothing is connected to {name}")
    shown = zip(about["output_name"], about["output"], strict=True)
    ours = PACK in about["python_module"]
    origin = {"cnr_id": PACK, "ver": VERSION} if ours else {"cnr_id": "comfy-core"}
    height = _height(about, values) + PREVIEW * (kind in SAMPLERS)
    entry = {"id": number, "type": kind, "pos": [*place], "size": [WIDTHS.get(kind, WIDTH), height], "flags": {}}
    entry |= {"order": number - 1, "mode": 0, "inputs": inputs}
    entry |= {"outputs": [{"name": name, "type": type_, "links": []} for name, type_ in shown]}
    entry |= {"properties": {"Node name for S&R": kind, **origin}, "widgets_values": values}
    entry |= {"title": title} if title else {}
    entry |= {"color": colours[0], "bgcolor": colours[1]} if colours else {}
    return Node(entry, [name.lower() for name in about["output_name"]])


def text_height(text: str, letters: int = LETTERS) -> int:
    """Pixels in which a text field shows all of a text."""
    return max(TEXT, 30 + LINE * sum(1 + len(line) // letters for line in text.split("\n")))


def _sockets(info: dict[str, Any], given: Iterable[str] = ()) -> dict[str, str]:
    """Inputs by name and type, those of widgets last, as the page has them; of a growing input those that are given."""
    specs = [item for group in ("required", "optional") for item in (info["input"].get(group) or {}).items()]
    kinds = {name: "COMBO" if isinstance(spec[0], list) else spec[0] for name, spec in specs}
    growing = [name for name, kind in kinds.items() if kind == GROWING]
    kinds |= {name: "*" for name in given if name.partition(".")[0] in growing}
    known = {name: kind for name, kind in kinds.items() if kind != GROWING}
    return dict(sorted(known.items(), key=lambda item: item[1] in WIDGETS))


def _widgets(info: dict[str, Any], given: dict[str, Any]) -> list[Any]:
    values: list[Any] = []
    while len(slots := widget_slots(info, values)) > len(values):
        slot = slots[len(values)]
        options = slot.config.get("options") or [None]
        first = options[0]["key"] if slot.kind == "DYNAMIC" else options[0]
        value = given.get(slot.name, slot.config.get("default", first))
        if isinstance(value, Output):
            value = slot.config.get("default", first) if value.value is None else value.value
        media = next((name for name in ("image", "video", "audio") if name in info["input"]["required"]), "image")
        values.append({"CONTROL": "fixed", "UPLOAD": media}.get(slot.kind, value))
    return values


def _height(info: dict[str, Any], values: list[Any]) -> int:
    slots = widget_slots(info, values)
    links = [kind for kind in _sockets(info).values() if kind not in WIDGETS]
    texts = [str(value) for slot, value in zip(slots, values, strict=True) if slot.config.get("multiline")]
    preview = PREVIEW * any(slot.kind == "UPLOAD" for slot in slots)
    rows = SLOT * max(len(links), len(info["output"])) + ROW * len(slots) + sum(map(text_height, texts))
    return FOOT + rows + preview
