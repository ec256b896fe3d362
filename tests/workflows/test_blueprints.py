"""The blueprints: as drawn from their description, offered by a real server, placed and run in the page."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from ovi_native.ovi_core.loading.manifest import model_list
from ovi_native.ovi_core.spec import VARIANTS
from servers import is_valid

from tools.dev import workflow
from tools.dev.server import PACK_FOLDER, Server
from tools.dev.setup import ROOT
from tools.workflows.blueprints import BLUEPRINTS, graph
from tools.workflows.sheet import INPUT

if TYPE_CHECKING:
    from browser import Studio

FOLDER = ROOT / "subgraphs"
REWRITE = "python3 dev.py test tests/workflows/test_blueprints.py --rewrite"
MEDIA = {"IMAGE": "LoadImage", "VIDEO": "LoadVideo", "AUDIO": "LoadAudio"}  # the node that gives an input of each type
EXAMPLES = {"IMAGE": "ovi_example_first.jpg", "VIDEO": "ovi_example_silent.mp4", "AUDIO": "ovi_example_voice.flac"}
CHANGED = {"prompt": "A lamp.", "aspect": "1:1", "seed": 7}
SET_IN = {"prompt": "OviTextEncode", "aspect": "OviResolution", "seed": "OviSampler"}
SMALL = {"EmptyOviLatent": {"width": 64, "height": 64, "seconds": 0.6}, "OviSampler": {"steps": 2}}


def load(title: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{title}.json").read_text(encoding="utf-8"))


def inside(title: str) -> dict[str, Any]:
    (subgraph,) = load(title)["definitions"]["subgraphs"]
    return subgraph


@pytest.mark.parametrize("title", BLUEPRINTS)
def test_a_blueprint_is_what_its_description_draws(title: str, page_nodes: dict, request: pytest.FixtureRequest):
    drawn = graph(title, page_nodes, model_list(VARIANTS["960x960_10s"]))
    file = FOLDER / f"{title}.json"
    if request.config.getoption("--rewrite"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(drawn, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert file.is_file(), f"Run '{REWRITE}'."
    assert load(title) == drawn, f"Run '{REWRITE}'."


def test_every_file_has_a_description():
    assert {file.stem for file in FOLDER.iterdir()} == set(BLUEPRINTS)


@pytest.mark.parametrize("title", BLUEPRINTS)
def test_it_has_few_widgets_of_values_that_are_valid_for_what_they_set(title: str, page_nodes: dict[str, Any]):
    (node,) = load(title)["nodes"]
    names = [entry["name"] for entry in node["inputs"] if "widget" in entry]
    assert len(names) == len(node["widgets_values"]) <= 8
    values = dict(zip(names, node["widgets_values"], strict=True))
    subgraph = inside(title)
    nodes = {entry["id"]: entry for entry in subgraph["nodes"]}
    for link in subgraph["links"]:
        name = subgraph["inputs"][link["origin_slot"]]["name"]
        if link["origin_id"] != INPUT or name not in values:
            continue
        target = nodes[link["target_id"]]
        info = page_nodes[target["type"]]
        slots = {slot.name: slot for slot in workflow.widget_slots(info, target["widgets_values"])}
        assert is_valid(slots[target["inputs"][link["target_slot"]]["name"]], values[name]), name


def test_a_server_offers_them_as_they_are(page_server: Server):
    def get(path: str) -> Any:
        with urllib.request.urlopen(f"{page_server.url}/global_subgraphs{path}") as answer:
            return json.load(answer)

    offered = {entry["name"]: key for key, entry in get("").items() if PACK_FOLDER in entry["info"]["node_pack"]}
    assert offered.keys() == set(BLUEPRINTS)
    assert {title: json.loads(get(f"/{key}")["data"]) for title, key in offered.items()} == {
        title: load(title) for title in BLUEPRINTS
    }


@pytest.mark.parametrize("title", BLUEPRINTS)
def test_placed_in_the_page_it_sets_what_its_widgets_say_and_makes_a_clip(title: str, page: Studio):
    page.draw_with(newer=list(BLUEPRINTS).index(title) % 2 == 1)
    page.blank()
    node = page.place(title)
    media = next((kind for kind in MEDIA if kind in [entry["type"] for entry in inside(title)["inputs"]]), None)
    if media:
        page.connect(page.add(MEDIA[media], EXAMPLES[media]), 0, node, 0)
    page.connect(node, 0, page.add("SaveVideo"), 0)

    page.set_widgets({**CHANGED, "variant": "720x720_5s"})
    queued = [(entry["class_type"], entry["inputs"]) for entry in page.prompt().values()]
    shown = {entry["name"] for entry in inside(title)["inputs"]} & CHANGED.keys()
    for name in shown:
        assert next(inputs[name] for kind, inputs in queued if kind == SET_IN[name]) == CHANGED[name]
    assert shown >= CHANGED.keys() - {"aspect"}
    assert {inputs["variant"] for _, inputs in queued if "variant" in inputs} == {"720x720_5s", "auto"}

    page.set_widgets({"variant": "mini"})
    page.set_inside(SMALL)
    seen = page.run()
    assert seen["end"], (seen["refused"], page.complaints())
    assert seen["end"][0] == "execution_success", seen["end"]
    assert seen["previews"]
    assert [video["seconds"] > 0.5 for video in page.videos()][-1:] == [True]
    assert page.complaints() == []
