"""A workflow as ComfyUI's page saves it (format 0.4), from groups of nodes: places, ids, links and widgets are counted.

Every group is a column; columns go from left to right, nodes from top to bottom.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from typing import Any

from ..dev.setup import ROOT
from ..dev.workflow import WIDGET_TYPES, widget_slots

WIDGETS = {*WIDGET_TYPES, "COMFY_DYNAMICCOMBO_V3"}
PACK = "comfyui-ovi-native"
VERSION = re.findall(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)[0]
WIDTHS = {"MarkdownNote": 400, "OviTextEncode": 440, "OviPeoplePrompt": 440, "OviStoryboard": 480, "SaveVideo": 480}
WIDTH, GAP, COLUMN_GAP, TITLE, MARGIN = 360, 60, 80, 75, 20
# Pixels, as the newer of the page's two renderers has them, which is the larger one.
SLOT, ROW, TEXT, PREVIEW, PLAYER = 20, 28, 110, 240, 500  # a socket, a widget, a text field, a picture, a video
FOOT = 40  # below the last row: the pack's name, or the button for more inputs
SAMPLERS = {"OviSampler", "OviStoryboard", "SamplerCustomAdvanced", "KSampler", "KSamplerAdvanced"}  # show previews
COLOURS = ("#3f789e", "#8A8", "#b58b2a", "#a1309b", "#88A")
NOTE, GREEN, RED = ("#432", "#653"), ("#232", "#353"), ("#322", "#533")


@dataclass(frozen=True)
class Output:
    """One output of a placed node, to be given to another node's input."""

    node: Node
    slot: int
    kind: str


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
    """A workflow in the making.

    Args:
        title: the file's name, which is the title that ComfyUI shows.
        info: the server's ``/object_info``.
        models: what the loader's node says of files to be had (``properties.models``).
    """

    title: str
    info: dict[str, Any]
    models: list[dict[str, str]]
    nodes: list[Node] = field(default_factory=list)
    links: list[list[Any]] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    _x: int = 0
    _y: int = 0
    _column: int = 0
    _members: list[dict[str, Any]] = field(default_factory=list)
    _notes: list[dict[str, Any]] = field(default_factory=list)

    def note(self, text: str) -> None:
        """The note, above the first group."""
        height = 90 + 24 * sum(1 + len(line) // 48 for line in text.split("\n"))
        self._place("MarkdownNote", height, "Read me", NOTE)["widgets_values"] = [text]
        self._y += TITLE
        self._members = []

    def group(self, title: str) -> None:
        """Begin the next group; the first stands below the note, every other one is a new column."""
        if self.groups:
            self._close()
            self._x += self._column + COLUMN_GAP
            self._y = self._column = 0
        number = len(self.groups) + 1
        colour = COLOURS[min(number, len(COLOURS)) - 1]
        group = {"id": number, "title": f"{number}  {title}", "bounding": [], "color": colour}
        self.groups.append({**group, "font_size": 24, "flags": {}})

    def add(self, kind: str, title: str = "", colours: tuple[str, str] | None = None, /, **given: Any) -> Node:
        """Place a node: an ``Output`` among ``given`` becomes a link, all else a widget's value (else its default)."""
        info = self.info[kind]
        values = _widgets(info, given)
        height = _height(info, values) + PREVIEW * (kind in SAMPLERS)
        entry = self._place(kind, height, title, colours)
        entry["widgets_values"] = values
        sources = {name: value for name, value in given.items() if isinstance(value, Output)}
        if unknown := given.keys() - _sockets(info).keys() - {slot.name for slot in widget_slots(info, values)}:
            raise ValueError(f"{kind} has no input {unknown}")
        for name, type_ in _sockets(info).items():
            source = sources.get(name)
            if source is None and (type_ in WIDGETS or name not in info["input"].get("required", {})):
                continue
            if source is None:
                raise ValueError(f"{kind}: nothing is connected to {name}")
            self._link(source, entry, name, {"widget": {"name": name}} if type_ in WIDGETS else {})
        shown = zip(info["output_name"], info["output"], strict=True)
        entry["outputs"] = [{"name": name, "type": type_, "links": []} for name, type_ in shown]
        entry["properties"] = {"Node name for S&R": kind}
        ours = PACK in info["python_module"]
        entry["properties"] |= {"cnr_id": PACK, "ver": VERSION} if ours else {"cnr_id": "comfy-core"}
        if kind == "OviPipelineLoader":
            entry["properties"]["models"] = self.models
        node = Node(entry, [name.lower() for name in info["output_name"]])
        self.nodes.append(node)
        return node

    def graph(self) -> dict[str, Any]:
        """The finished workflow."""
        self._close()
        entries = sorted((*(node.entry for node in self.nodes), *self._notes), key=lambda entry: entry["id"])
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{PACK}/{self.title}")),
            "revision": 0,
            "last_node_id": len(entries),
            "last_link_id": len(self.links),
            "nodes": entries,
            "links": self.links,
            "groups": self.groups,
            "config": {},
            "extra": {},
            "version": 0.4,
        }

    def _place(self, kind: str, height: int, title: str, colours: tuple[str, str] | None) -> dict[str, Any]:
        number = len(self.nodes) + len(self._notes) + 1
        width = WIDTHS.get(kind, WIDTH)
        entry = {"id": number, "type": kind, "pos": [self._x, self._y], "size": [width, height], "flags": {}}
        entry |= {"order": number - 1, "mode": 0, "inputs": [], "outputs": [], "properties": {}, "widgets_values": []}
        entry |= {"title": title} if title else {}
        entry |= {"color": colours[0], "bgcolor": colours[1]} if colours else {}
        self._y += height + GAP
        self._column = max(self._column, width)
        self._members.append(entry)
        if kind == "MarkdownNote":
            self._notes.append(entry)
        return entry

    def _link(self, source: Output, entry: dict[str, Any], name: str, widget: dict[str, Any]) -> None:
        number = len(self.links) + 1
        slot = len(entry["inputs"])
        entry["inputs"].append({"name": name, "type": source.kind, "link": number, **widget})
        source.node.entry["outputs"][source.slot]["links"].append(number)
        self.links.append([number, source.node.entry["id"], source.slot, entry["id"], slot, source.kind])

    def _close(self) -> None:
        top = self._members[0]["pos"][1]
        bottom = self._y - GAP + MARGIN
        bounding = [self._x - MARGIN, top - TITLE, self._column + 2 * MARGIN, bottom - top + TITLE]
        self.groups[-1]["bounding"] = bounding
        self._members = []


def _sockets(info: dict[str, Any]) -> dict[str, str]:
    """Inputs by name and type, those of widgets last, as the page has them."""
    specs = [item for group in ("required", "optional") for item in (info["input"].get(group) or {}).items()]
    kinds = {name: "COMBO" if isinstance(spec[0], list) else spec[0] for name, spec in specs}
    return dict(sorted(kinds.items(), key=lambda item: item[1] in WIDGETS))


def _widgets(info: dict[str, Any], given: dict[str, Any]) -> list[Any]:
    values: list[Any] = []
    while len(slots := widget_slots(info, values)) > len(values):
        slot = slots[len(values)]
        options = slot.config.get("options") or [None]
        first = options[0]["key"] if slot.kind == "DYNAMIC" else options[0]
        value = given.get(slot.name, slot.config.get("default", first))
        if isinstance(value, Output):
            value = slot.config.get("default", first)
        media = next((name for name in ("image", "video", "audio") if name in info["input"]["required"]), "image")
        values.append({"CONTROL": "fixed", "UPLOAD": media}.get(slot.kind, value))
    return values


def _height(info: dict[str, Any], values: list[Any]) -> int:
    slots = widget_slots(info, values)
    links = [kind for kind in _sockets(info).values() if kind not in WIDGETS]
    texts = sum(bool(slot.config.get("multiline")) for slot in slots)
    upload = any(slot.kind == "UPLOAD" for slot in slots)
    player = PLAYER if info.get("output_node") else PREVIEW * upload
    return FOOT + SLOT * max(len(links), len(info["output"])) + ROW * len(slots) + TEXT * texts + player
