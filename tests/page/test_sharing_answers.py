"""The page's script keeps to text and shapes that it knows, whatever a workflow or the server's answer holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tools.dev.setup import ROOT

if TYPE_CHECKING:
    from browser import Studio

    from tools.dev.server import Server

VALUES = ["faces.safetensors", 1.0, 1.0]
MARKUP = "<img src=x onerror='window.ran = true'>"
OPEN = """async graph => {
  for (const extension of window.app.extensions.filter(each => each.name.startsWith('comfyui-ovi-native.')))
    await extension.beforeConfigureGraph?.(graph)
  return graph
}"""
EXAMPLES = ("ovi_example_first.jpg", "ovi_example_clip.mp4", "ovi_example_voice.flac")
LOADERS = [("LoadImage", [EXAMPLES[0], "image"]), ("LoadVideo", [EXAMPLES[1], "image"])]
LOADERS.append(("OviPromptBuilder", [f"voice {EXAMPLES[2]} from 0.2 s"]))
EMPTY: dict[str, Any] = {"size": [300, 100], "flags": {}, "order": 0, "mode": 0, "properties": {}}
ANSWERS = {
    "nothing": None,
    "a number": 5,
    "an object": {},
    "no answers": [],
    "too many answers": [{"values": VALUES}, {"values": VALUES}],
    "null": [None],
    "no values": [{}],
    "values that are a string": [{"values": "abc"}],
    "too few values": [{"values": []}],
    "models that are none": [
        {"values": VALUES, "models": [None, 5, {"name": 5}, {"name": "a", "url": {}}], "notes": 5}
    ],
    "notes that are none": [{"values": VALUES, "models": {}, "notes": [None, {"a": 1}, 5]}],
}
GRAPHS: dict[str, Any] = {
    "nothing": None,
    "empty": {},
    "nodes that are an object": {"nodes": {"0": 1}},
    "nodes that are null": {"nodes": [None, 5, "text", []]},
    "subgraphs that are none": {"nodes": [], "definitions": {"subgraphs": [None, {}, {"nodes": 5}]}},
    "values that are an object": {"nodes": [{"type": "OviLoraLoader", "widgets_values": {"a": 1}}]},
    "a type that is an object": {"nodes": [{"type": {}, "widgets_values": []}]},
}


@pytest.fixture(autouse=True)
def opened(page: Studio) -> None:
    page.draw_with(newer=False)


def loader() -> dict[str, Any]:
    return {"nodes": [{"id": 1, "type": "OviLoraLoader", "widgets_values": VALUES}]}


@pytest.mark.parametrize("answer", [*ANSWERS.values(), {"mini": [None, {"name": 5}]}], ids=[*ANSWERS, "no models"])
@pytest.mark.parametrize("route", ["opened", "missing"])
def test_an_answer_of_another_shape_changes_nothing(page: Studio, route: str, answer: Any):
    page.page.route(f"**/ovi_native/{route}", lambda request: request.fulfill(body=json.dumps(answer)))
    graph = loader() if route == "opened" else {"nodes": [{"type": "OviPipelineLoader", "widgets_values": ["mini"]}]}
    try:
        assert page.page.evaluate(OPEN, graph) == graph
        assert page.complaints() == []
    finally:
        page.page.unroute(f"**/ovi_native/{route}")


def test_a_server_that_fails_changes_nothing(page: Studio):
    page.page.route("**/ovi_native/opened", lambda route: route.fulfill(status=500, body="<html>"))
    try:
        assert page.page.evaluate(OPEN, loader()) == loader()
    finally:
        page.page.unroute("**/ovi_native/opened")


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_a_workflow_of_another_shape_passes_unchanged(page: Studio, graph: Any):
    assert page.page.evaluate(OPEN, graph) == graph


def test_examples_that_a_workflow_opens_are_there_at_once(page: Studio, page_server: Server):
    """Also those that only a text names, and though the page read the lists of files before they were there."""
    for name in EXAMPLES:
        (page_server.base / "input" / name).unlink(missing_ok=True)
    page.open()
    nodes = [
        {"id": key, "type": kind, "pos": [400 * key, 0], "widgets_values": values, **EMPTY}
        for key, (kind, values) in enumerate(LOADERS, 1)
    ]
    page.load({"version": 0.4, "last_node_id": 9, "last_link_id": 0, "nodes": nodes, "links": []}, "examples")
    assert page.complaints() == []
    lists = page.page.evaluate("app.graph.nodes.flatMap(node => node.widgets[0].options.values ?? [])")
    assert set(EXAMPLES[:2]) <= set(lists)
    for name in EXAMPLES:
        assert (page_server.base / "input" / name).read_bytes() == (ROOT / "assets" / name).read_bytes()


def test_a_folder_that_takes_no_examples_is_said(page: Studio):
    page.page.route(
        "**/ovi_native/examples", lambda route: route.fulfill(body=json.dumps({"placed": 5, "notes": [MARKUP, None]}))
    )
    try:
        page.page.evaluate(OPEN, {"nodes": [{"id": 1, "type": "LoadImage", "widgets_values": [EXAMPLES[0], "image"]}]})
        shown = page.page.locator(".p-toast-message-warn", has_text="example files").first
        shown.wait_for()
        assert MARKUP in shown.inner_text()
        assert page.page.evaluate("window.ran") is None
    finally:
        page.page.unroute("**/ovi_native/examples")


def test_a_note_is_shown_as_text(page: Studio):
    answer = [{"values": VALUES, "notes": [MARKUP], "models": []}]
    page.page.route("**/ovi_native/opened", lambda route: route.fulfill(body=json.dumps(answer)))
    try:
        page.page.evaluate(OPEN, loader())
        shown = page.page.locator(".p-toast-message-warn", has_text="onerror").first
        shown.wait_for()
        assert MARKUP in shown.inner_text()
        assert page.page.evaluate("window.ran") is None
    finally:
        page.page.unroute("**/ovi_native/opened")
