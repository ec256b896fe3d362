"""The page's script keeps to text and shapes that it knows, whatever a workflow or the server's answer holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from browser import Studio

VALUES = ["faces.safetensors", 1.0, 1.0]
MARKUP = "<img src=x onerror='window.ran = true'>"
OPEN = """async graph => {
  const extension = window.app.extensions.find(each => each.name === 'OviNative.Sharing')
  await extension.beforeConfigureGraph(graph)
  return graph
}"""
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


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_of_another_shape_changes_nothing(page: Studio, answer: Any):
    page.page.route("**/ovi_native/opened", lambda route: route.fulfill(body=json.dumps(answer)))
    try:
        assert page.page.evaluate(OPEN, loader()) == loader()
    finally:
        page.page.unroute("**/ovi_native/opened")


def test_a_server_that_fails_changes_nothing(page: Studio):
    page.page.route("**/ovi_native/opened", lambda route: route.fulfill(status=500, body="<html>"))
    try:
        assert page.page.evaluate(OPEN, loader()) == loader()
    finally:
        page.page.unroute("**/ovi_native/opened")


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_a_workflow_of_another_shape_passes_unchanged(page: Studio, graph: Any):
    assert page.page.evaluate(OPEN, graph) == graph


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
