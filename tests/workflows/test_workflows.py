"""The workflows: as drawn from their description, readable, with all they name, and accepted by a real server."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
from ovi_native.ovi_core.loading.manifest import model_list
from ovi_native.ovi_core.spec import VARIANTS
from PIL import Image
from servers import INSTALLATION, is_valid

from tools.dev import client, workflow
from tools.dev.server import Server
from tools.dev.setup import ROOT
from tools.workflows import catalogue, chains, examples, parts, thumbnail

FOLDER, ASSETS = ROOT / "workflows", ROOT / "assets"
TITLES = sorted({*catalogue.WORKFLOWS, *(file.stem for file in FOLDER.glob("*.json"))})
REWRITE = "python3 dev.py test tests/workflows/test_workflows.py --rewrite"
MEDIA = {"LoadImage": 0, "LoadVideo": 0, "LoadAudio": 0}  # the widget that names a file of the input folder
NODE_TITLE = 30  # pixels of a node's title, above its position


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose input folder holds the pack's examples; of the weights that others made, only names are there."""
    base, models = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("models")
    (base / "input").mkdir()
    for folder, name in [("loras", parts.LORA), *((folder, name) for name, (folder, _) in chains.FILES.items())]:
        (models / folder).mkdir(exist_ok=True)
        (models / folder / name).touch()
    for file in ASSETS.glob("ovi_example*"):
        shutil.copy(file, base / "input")
    with Server(INSTALLATION, base, models=models) as running:
        yield running


@pytest.fixture(scope="module")
def nodes(server: Server) -> dict[str, Any]:
    return client.object_info(server.url)


@pytest.fixture(scope="module", autouse=True)
def examples_are_there(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--rewrite"):
        for name, write in examples.FILES.items():
            write(ASSETS / name)


def load(title: str) -> dict[str, Any]:
    return workflow.load(FOLDER / f"{title}.json")


@pytest.mark.parametrize("title", sorted(catalogue.WORKFLOWS))
def test_a_workflow_is_what_its_description_draws(title: str, nodes: dict, request: pytest.FixtureRequest):
    offered = catalogue.variant(title)
    drawn = catalogue.graph(title, nodes, model_list(VARIANTS["960x960_10s" if offered == "mini" else offered]))
    file = FOLDER / f"{title}.json"
    if request.config.getoption("--rewrite"):
        file.write_text(json.dumps(drawn, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if catalogue.needs_other_weights(title) or not file.with_suffix(".jpg").exists():  # else it shows what it makes
            thumbnail.draw(drawn, file.with_suffix(".jpg"))
    assert file.is_file(), f"Run '{REWRITE}'."
    assert load(title) == drawn, f"Run '{REWRITE}'."


@pytest.mark.parametrize("title", TITLES)
def test_nothing_overlaps_and_links_go_to_the_right(title: str):
    graph = load(title)
    boxes = {node["id"]: (*node["pos"], *node["size"]) for node in graph["nodes"]}
    for (one, a), (other, b) in combinations(boxes.items(), 2):
        beside = a[0] + a[2] <= b[0] or b[0] + b[2] <= a[0]
        above = a[1] + a[3] <= b[1] - NODE_TITLE or b[1] + b[3] <= a[1] - NODE_TITLE
        assert beside or above, (one, other)
    assert all(boxes[start][0] <= boxes[end][0] for _, start, _, end, *_ in graph["links"])
    inside = [
        [key for key, (x, y, w, h) in boxes.items() if x >= gx and y >= gy and x + w <= gx + gw and y + h <= gy + gh]
        for gx, gy, gw, gh in (group["bounding"] for group in graph["groups"])
    ]
    grouped = [key for keys in inside for key in keys]
    notes = [node["id"] for node in graph["nodes"] if node["type"] in workflow.NOTES]
    assert len(notes) == 1
    assert sorted(grouped + notes) == sorted(boxes)


@pytest.mark.parametrize("title", TITLES)
def test_every_file_a_workflow_names_is_there_and_small(title: str):
    graph = load(title)
    note = next(node["widgets_values"][0] for node in graph["nodes"] if node["type"] in workflow.NOTES)
    for node in graph["nodes"]:
        if node["type"] in MEDIA:
            name = node["widgets_values"][MEDIA[node["type"]]]
            assert 0 < (ASSETS / name).stat().st_size < 100_000
            assert name in note, f"The note does not say where {name} is."
    with Image.open(FOLDER / f"{title}.jpg") as picture:
        assert picture.width == picture.height >= 254


@pytest.mark.parametrize("title", TITLES)
def test_widgets_hold_one_valid_value_each_and_the_workflows_variant(title: str, nodes: dict[str, Any]):
    for entry in load(title)["nodes"]:
        if entry["type"] in workflow.NOTES:
            continue
        values = entry["widgets_values"]
        slots = workflow.widget_slots(nodes[entry["type"]], values)
        assert len(values) == len(slots), entry["type"]
        for slot, value in zip(slots, values, strict=True):
            assert slot.kind == "UPLOAD" or is_valid(slot, value), (entry["type"], slot.name, value)
            assert slot.name != "variant" or value == catalogue.variant(title)


@pytest.mark.parametrize("title", TITLES)
def test_a_server_takes_the_workflow_without_an_objection(title: str, server: Server, nodes: dict[str, Any]):
    prompt = workflow.to_prompt(load(title), nodes)
    body = json.dumps({"prompt": prompt}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{server.url}/prompt", body)) as answer:
        answered = json.load(answer)
    assert answered["node_errors"] == {}
    # It is only asked, not run: without weights every run would end at the loader.
    for path, said in (
        ("queue", {"delete": [answered["prompt_id"]]}),
        ("interrupt", {"prompt_id": answered["prompt_id"]}),
    ):
        urllib.request.urlopen(urllib.request.Request(f"{server.url}/{path}", json.dumps(said).encode())).close()
