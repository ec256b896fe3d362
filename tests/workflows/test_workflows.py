"""The templates: as drawn from their description, readable, with all they name, and accepted by a real server."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from itertools import combinations
from typing import Any

import pytest
from ovi_native.nodes.latents import OviResolution
from ovi_native.ovi_core.loading.manifest import model_list
from ovi_native.ovi_core.spec import VARIANTS
from PIL import Image
from servers import is_valid

from tools.dev import workflow
from tools.dev.server import Server
from tools.dev.setup import ROOT
from tools.workflows import catalogue, examples, parts, thumbnail
from tools.workflows.drawing import COLOURS
from tools.workflows.sheet import INPUT

FOLDER, ASSETS = ROOT / "workflows", ROOT / "assets"
TITLES = sorted({*catalogue.WORKFLOWS, *(file.stem for file in FOLDER.glob("*.json"))})
REWRITE = "python3 dev.py test tests/workflows/test_workflows.py --rewrite"
MEDIA = {"LoadImage": 0, "LoadVideo": 0, "LoadAudio": 0}  # the widget that names a file of the input folder
NODE_TITLE = 30  # pixels of a node's title, above its position
MOST_WIDGETS = 11
OWN_LENGTH = {"17 Longer than trained"}
PUBLISHED = [name for name, variant in VARIANTS.items() if name != parts.SMALL and not variant.people]


@pytest.fixture
def nodes(shared_nodes: dict[str, Any]) -> dict[str, Any]:
    return shared_nodes


@pytest.fixture(scope="module", autouse=True)
def examples_are_there(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--rewrite"):
        for name, write in examples.FILES.items():
            write(ASSETS / name)


def load(title: str) -> dict[str, Any]:
    return workflow.load(FOLDER / f"{title}.json")


def subgraph_of(graph: dict[str, Any]) -> dict[str, Any]:
    (subgraph,) = graph["definitions"]["subgraphs"]
    return subgraph


def node_of(graph: dict[str, Any]) -> dict[str, Any]:
    """The node that holds the workflow."""
    (node,) = [node for node in graph["nodes"] if node["type"] == subgraph_of(graph)["id"]]
    return node


def values_of(node: dict[str, Any]) -> dict[str, Any]:
    """Values of its widgets, by name."""
    names = [entry["name"] for entry in node["inputs"] if "widget" in entry]
    return dict(zip(names, node["widgets_values"], strict=True))


def with_variant(graph: dict[str, Any], variant: str) -> dict[str, Any]:
    """The template with nothing but its variant set."""
    graph = json.loads(json.dumps(graph))
    node = node_of(graph)
    node["widgets_values"] = list((values_of(node) | {"variant": variant}).values())
    return graph


@pytest.mark.parametrize("title", sorted(catalogue.WORKFLOWS))
def test_a_template_is_what_its_description_draws(title: str, nodes: dict, request: pytest.FixtureRequest):
    drawn = catalogue.graph(title, nodes, model_list(VARIANTS[catalogue.variant(title)]))
    file = FOLDER / f"{title}.json"
    if request.config.getoption("--rewrite"):
        file.write_text(json.dumps(drawn, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if not file.with_suffix(".jpg").exists():  # else it shows what the template makes
            thumbnail.draw(drawn, file.with_suffix(".jpg"))
    assert file.is_file(), f"Run '{REWRITE}'."
    assert load(title) == drawn, f"Run '{REWRITE}'."


def test_titles_are_in_order_and_three_run_without_a_download():
    numbers = [int(title[:2]) for title in sorted(catalogue.WORKFLOWS)]
    assert numbers == [0, 0, 0, *range(1, len(numbers) - 2)]
    small = {title for title in catalogue.WORKFLOWS if "variant" not in values_of(node_of(load(title)))}
    assert small == {title for title in catalogue.WORKFLOWS if "Try it now" in title}
    for title in small:
        loader = next(node for node in subgraph_of(load(title))["nodes"] if node["type"] == "OviPipelineLoader")
        assert loader["properties"]["models"] == []
        assert loader["widgets_values"][0] == parts.SMALL


@pytest.mark.parametrize("title", TITLES)
def test_outside_are_a_note_one_node_with_few_widgets_what_is_given_and_what_is_saved(title: str):
    graph = load(title)
    node = node_of(graph)
    kinds = sorted(entry["type"] for entry in graph["nodes"] if entry is not node and entry["type"] not in MEDIA)
    assert kinds in (["MarkdownNote", "SaveVideo"], ["MarkdownNote", "OviSaveVideo"])
    assert len(values_of(node)) <= MOST_WIDGETS
    assert {"prompt", "script", "people"} & values_of(node).keys()
    assert subgraph_of(graph)["description"]
    note = next(entry["widgets_values"][0] for entry in graph["nodes"] if entry["type"] in workflow.NOTES)
    models = [m for entry in subgraph_of(graph)["nodes"] for m in entry["properties"].get("models", ())]
    assert [model["url"] for model in models if model["url"] not in note] == []
    assert "## Change" in note


@pytest.mark.parametrize("title", TITLES)
def test_nothing_overlaps_and_links_go_to_the_right(title: str):
    graph = load(title)
    inside = subgraph_of(graph)
    for entries, links in (
        (graph["nodes"], [(link[1], link[3]) for link in graph["links"]]),
        (inside["nodes"], [(link["origin_id"], link["target_id"]) for link in inside["links"]]),
    ):
        boxes = {entry["id"]: (*entry["pos"], *entry["size"]) for entry in entries}
        for (one, a), (other, b) in combinations(boxes.items(), 2):
            beside = a[0] + a[2] <= b[0] or b[0] + b[2] <= a[0]
            above = a[1] + a[3] <= b[1] - NODE_TITLE or b[1] + b[3] <= a[1] - NODE_TITLE
            assert beside or above, (one, other)
        ends = [(start, end) for start, end in links if start in boxes and end in boxes]
        assert all(boxes[start][0] <= boxes[end][0] for start, end in ends)
    grouped = []
    for group in inside["groups"]:
        left, top, width, height = group["bounding"]
        assert group["color"] in COLOURS.values()
        grouped += [
            key
            for key, (x, y, wide, high) in boxes.items()
            if x >= left and y >= top and x + wide <= left + width and y + high <= top + height
        ]
    assert sorted(grouped) == sorted(boxes)


@pytest.mark.parametrize("title", TITLES)
def test_every_file_a_template_names_is_there_and_small(title: str):
    for node in load(title)["nodes"]:
        if node["type"] in MEDIA:
            assert 0 < (ASSETS / node["widgets_values"][MEDIA[node["type"]]]).stat().st_size < 100_000
    with Image.open(FOLDER / f"{title}.jpg") as picture:
        assert picture.width == picture.height >= 254


@pytest.mark.parametrize("title", TITLES)
def test_widgets_hold_one_valid_value_each_and_the_outer_ones_what_they_set(title: str, nodes: dict[str, Any]):
    graph = load(title)
    inside, shown = subgraph_of(graph), values_of(node_of(graph))
    slots: dict[tuple[int, str], Any] = {}
    for entry in [*graph["nodes"], *inside["nodes"]]:
        if entry["type"] in workflow.NOTES or entry["type"] == inside["id"]:
            continue
        values = entry["widgets_values"]
        found = workflow.widget_slots(nodes[entry["type"]], values)
        assert len(values) == len(found), entry["type"]
        for slot, value in zip(found, values, strict=True):
            slots[entry["id"], slot.name] = (slot, value)
            assert slot.kind == "UPLOAD" or is_valid(slot, value), (entry["type"], slot.name, value)
    targets = {entry["id"]: entry for entry in inside["nodes"]}
    for link in inside["links"]:
        name = inside["inputs"][link["origin_slot"]]["name"] if link["origin_id"] == INPUT else ""
        if name in shown:
            target = targets[link["target_id"]]["inputs"][link["target_slot"]]["name"]
            slot, value = slots[link["target_id"], target]
            assert is_valid(slot, shown[name]), (name, target)
            assert value == shown[name], (name, target)  # as pages show it that read the inner one


@pytest.mark.parametrize("title", [title for title in TITLES if catalogue.variant(title) in PUBLISHED])
@pytest.mark.parametrize("variant", PUBLISHED)
def test_with_nothing_but_the_variant_set_a_template_is_right_for_it(title: str, variant: str, nodes: dict[str, Any]):
    prompt = workflow.to_prompt(with_variant(load(title), variant), nodes)
    own = VARIANTS[variant]
    for key, node in prompt.items():
        inputs = node["inputs"]
        assert inputs.get("variant", variant) in (variant, "auto"), key
        if "video_cfg" in inputs and (inputs["video_cfg"], inputs["audio_cfg"]) != (1, 1):
            assert (inputs["video_cfg"], inputs["audio_cfg"]) == (own.sampling.video_cfg, own.sampling.audio_cfg)
            assert inputs["skip_layers"] == "auto"
            assert inputs["steps"] == 50 or inputs["denoise"] < 0.5
        if "mode" in inputs:
            assert inputs["mode"] == "follow the noise"
    (size,) = [key for key, node in prompt.items() if node["class_type"] == "OviResolution"]
    given = prompt[size]["inputs"]
    assert given["variant"] == variant
    width, height, seconds = OviResolution.execute(given["aspect"], variant).result
    assert seconds == own.seconds
    assert width * height == pytest.approx(own.area, rel=0.06)
    sized = [node["inputs"] for node in prompt.values() if node["class_type"] in ("EmptyOviLatent", "OviStoryboard")]
    for inputs in sized:
        for slot, name in enumerate(("width", "height", "seconds")):
            if name in inputs and not (name == "seconds" and title in OWN_LENGTH):
                source = inputs[name]
                while prompt[source[0]]["class_type"] == "ComfyMathExpression":
                    source = prompt[source[0]]["inputs"]["values.a"]
                assert source == [size, slot], name
    assert sized or any(node["class_type"] == "OviExtend" for node in prompt.values())


@pytest.mark.parametrize("title", TITLES)
def test_a_server_takes_the_template_without_an_objection(title: str, shared_server: Server, nodes: dict[str, Any]):
    prompt = workflow.to_prompt(load(title), nodes)
    body = json.dumps({"prompt": prompt}).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{shared_server.url}/prompt", body)) as answer:
            answered = json.load(answer)
    except urllib.error.HTTPError as refused:
        answered = json.load(refused)
    assert answered["node_errors"] == {}
    # It is only asked, not run: without weights every run would end at the loader.
    for path, said in (
        ("queue", {"delete": [answered["prompt_id"]]}),
        ("interrupt", {"prompt_id": answered["prompt_id"]}),
    ):
        url = f"{shared_server.url}/{path}"
        urllib.request.urlopen(urllib.request.Request(url, json.dumps(said).encode())).close()
