"""The blueprints: the four commonest jobs as one node each, which the page lists beside the nodes.

A blueprint is a workflow whose only node is a subgraph. What it shows on the outside are inputs of that subgraph, each
linked to what it sets inside: a picture, or the widget of one node or several.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from .drawing import FOOT, GAP, PACK, PREVIEW, ROW, SLOT, TEXT, Drawing, Node, Output
from .parts import BALL, FACE, PICTURES_ALONE, SOUND_ALONE, empty, make, words

BLUEPRINTS: dict[str, Callable[[Box], None]] = {}
INPUT, OUTPUT = -10, -20  # the ids that ComfyUI gives the two ends of a subgraph
CATEGORY, SIDE, WIDTH = "Ovi", 140, 420
FULL = (
    "Set to the small variant mini; with the full weights: another variant, 960x960, {length}50 steps, skip_layers 11."
)


def blueprint(title: str) -> Callable[[Callable[[Box], None]], Callable[[Box], None]]:
    """List a drawing function under the blueprint's title."""

    def put(draw: Callable[[Box], None]) -> Callable[[Box], None]:
        BLUEPRINTS[title] = draw
        return draw

    return put


def graph(title: str, info: dict[str, Any], models: list[dict[str, str]]) -> dict[str, Any]:
    """The blueprint of that title; ``info`` and ``models`` as in :class:`Drawing`."""
    box = Box(title, info, models)
    BLUEPRINTS[title](box)
    return box.graph()


class Box:
    """A subgraph in the making.

    Attributes:
        drawing: its inside.
        about: what the page says of it.
        values: of the inputs that are widgets, by name, in order.
    """

    def __init__(self, title: str, info: dict[str, Any], models: list[dict[str, str]]):
        self.drawing = Drawing(title, info, models)
        self.about = ""
        self.values: dict[str, Any] = {}
        self._source = Node({"id": INPUT, "type": "input", "outputs": []}, [])
        self._results: list[tuple[str, Output]] = []

    def socket(self, name: str, kind: str) -> Output:
        """An input to connect, of ComfyUI's type ``kind``."""
        self._source.entry["outputs"].append({"name": name, "type": kind, "links": []})
        self._source.names.append(name)
        return Output(self._source, len(self._source.names) - 1, kind)

    def widget(self, name: str, kind: str, value: Any) -> Output:
        """An input that is a widget wherever it is linked to inside; all of them come after the sockets."""
        self.values[name] = value
        return self.socket(name, kind)

    def result(self, name: str, output: Output) -> None:
        self._results.append((name, output))

    def graph(self) -> dict[str, Any]:
        """The finished blueprint, as a workflow of one node."""
        inside = self.drawing.graph()
        links = [_link(*link) for link in inside["links"]]
        outputs = []
        for slot, (name, output) in enumerate(self._results):
            number = len(links) + 1
            links.append(_link(number, output.node.entry["id"], output.slot, OUTPUT, slot, output.kind))
            output.node.entry["outputs"][output.slot]["links"].append(number)
            outputs.append({"name": name, "type": output.kind, "links": [number]})
        number = inside["last_node_id"] + 1
        subgraph = {
            "id": self._id("subgraph"),
            "version": 1,
            "state": {"lastGroupId": len(inside["groups"]), "lastNodeId": number, "lastLinkId": len(links)}
            | {"lastRerouteId": 0},
            "revision": 0,
            "config": {},
            "name": self.drawing.title,
            "category": CATEGORY,
            "description": self.about,
            **self._ends(inside["groups"], outputs),
            "widgets": [],
            "nodes": inside["nodes"],
            "groups": inside["groups"],
            "links": links,
            "extra": {},
        }
        keys = ("revision", "config", "extra", "version")
        return {
            "id": inside["id"],
            "last_node_id": number,
            "last_link_id": 0,
            "nodes": [self._node(number, subgraph["id"], outputs)],
            "links": [],
            "groups": [],
            **{key: inside[key] for key in keys},
            "definitions": {"subgraphs": [subgraph]},
        }

    def _id(self, what: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{PACK}/blueprint/{self.drawing.title}/{what}"))

    def _ends(self, groups: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Inputs and outputs of the subgraph, and their places left and right of its groups."""
        right = max(group["bounding"][0] + group["bounding"][2] for group in groups)
        ends: dict[str, Any] = {}
        for side, key, x, slots in (
            ("input", INPUT, -GAP - SIDE, self._source.entry["outputs"]),
            ("output", OUTPUT, right + GAP, outputs),
        ):
            ends[f"{side}Node"] = {"id": key, "bounding": [x, 0, SIDE, 40 + 20 * len(slots)]}
            ends[f"{side}s"] = [
                {"id": self._id(f"{side}/{slot['name']}"), "name": slot["name"], "type": slot["type"]}
                | {"linkIds": slot["links"], "pos": [x + (SIDE - 20 if key == INPUT else 20), 20 + 20 * row]}
                for row, slot in enumerate(slots)
            ]
        return ends

    def _node(self, number: int, kind: str, outputs: list[dict[str, Any]]) -> dict[str, Any]:
        inputs = [
            {"name": slot["name"], "type": slot["type"], "link": None}
            | ({"widget": {"name": slot["name"]}} if slot["name"] in self.values else {})
            for slot in self._source.entry["outputs"]
        ]
        sockets = len(inputs) - len(self.values)
        height = FOOT + SLOT * max(sockets, len(outputs)) + ROW * len(self.values) + TEXT + PREVIEW
        node = {"id": number, "type": kind, "pos": [0, 0], "size": [WIDTH, height], "flags": {}, "order": 0, "mode": 0}
        node |= {"inputs": inputs, "outputs": [{**output, "links": []} for output in outputs], "properties": {}}
        return {**node, "widgets_values": list(self.values.values()), "title": self.drawing.title}


def _link(number: int, start: int, slot: int, end: int, to_slot: int, kind: str) -> dict[str, Any]:
    """A link as subgraphs have it."""
    link = {"id": number, "origin_id": start, "origin_slot": slot, "target_id": end, "target_slot": to_slot}
    return {**link, "type": kind}


def _draw(box: Box, prompt: str, start: Callable[[Node, Output], Output], **locked: str) -> None:
    """What all have in common: words, size and run on the outside, each set in one place.

    Args:
        prompt: the example.
        start: the latent to sample, of the loader and an empty latent.
        locked: the heading of sampler and decoder, where one tower is locked: the length is then that of what is given.
    """
    length = not locked
    box.about += " " + FULL.format(length="10 s, " if length else "")
    d = box.drawing
    said = box.widget("prompt", "STRING", prompt)
    size = {"seconds": box.widget("seconds", "FLOAT", 2.0)} if length else {}
    size |= {name: box.widget(name, "INT", 96) for name in ("width", "height")}
    run: dict[str, Any] = {"seed": box.widget("seed", "INT", 42), "steps": box.widget("steps", "INT", 20)}
    variant = box.widget("variant", "COMBO", "mini")
    run["video_cfg"] = 4.0  # of the full weights: it is not asked for
    run["skip_layers"] = box.widget("skip_layers", "STRING", "2")
    d.group("Weights")
    load = d.add("OviPipelineLoader", variant=variant)
    prompts = words(d, load, said, variant)
    d.group("Size, length, what is given")
    made = make(d, load, prompts, start(load, empty(d, **size)), **{**run, **locked})
    for name in ("video", "images", "audio"):
        box.result(name, getattr(made, name))


@blueprint("Ovi text to clip")
def _text(box: Box) -> None:
    box.about = "A video with its sound from a sentence: speech between <S> and <E>, the sound after Audio:."
    _draw(box, BALL, lambda load, latent: latent)


@blueprint("Ovi picture to clip")
def _picture(box: Box) -> None:
    box.about = "A video with its sound that begins with a picture; the prompt says what happens then."
    picture = box.socket("picture", "IMAGE")

    def start(load: Node, latent: Output) -> Output:
        return box.drawing.add("OviImageToVideo", vae=load.vae, latent=latent, start_image=picture).latent

    _draw(box, BALL, start)


@blueprint("Ovi sound for a silent clip")
def _sound(box: Box) -> None:
    box.about = "Sound for a clip whose pictures stay as they are. Give width and height the shape of the clip."
    clip = box.socket("clip", "VIDEO")

    def start(load: Node, latent: Output) -> Output:
        parts = box.drawing.add("GetVideoComponents", video=clip)
        given = {"images": parts.images, "frame_rate": parts.fps, "length": "the whole clip"}
        return box.drawing.add("OviLockVideo", vae=load.vae, latent=latent, **given).latent

    _draw(box, BALL, start, heading=SOUND_ALONE)


@blueprint("Ovi pictures for a voice")
def _voice(box: Box) -> None:
    box.about = "Pictures for a recording that stays as it is; the prompt has its words between <S> and <E>."
    voice = box.socket("voice", "AUDIO")

    def start(load: Node, latent: Output) -> Output:
        given = {"audio": voice, "length": "the whole sound"}
        return box.drawing.add("OviLockAudio", audio_vae=load.audio_vae, latent=latent, **given).latent

    _draw(box, FACE, start, heading=PICTURES_ALONE)
