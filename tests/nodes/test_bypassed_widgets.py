"""Values that come from another node, past a widget's limits: refused at every input of every node, or converted."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import folder_paths
import numpy as np
import ovi_native
import pytest
import torch
from comfy_api.latest import io
from ovi_native.nodes.shared import boundary
from ovi_native.ovi_core.errors import OviError

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
NOTHING: list[Any] = [None, object(), [], {"a": 1}, b"bytes", torch.zeros(2, 3), np.zeros(4)]
WRONG: dict[str, list[Any]] = {
    "INT": [*NOTHING, float("nan"), float("inf"), 1.5, "5", 10**5000, -(10**5000), np.float64("nan"), complex(1)],
    "FLOAT": [*NOTHING, float("nan"), float("inf"), -float("inf"), "1.0", 10**400, torch.tensor(float("nan"))],
    "STRING": [*NOTHING, 5, 1.5, True, ["text"], "half a \ud800 character", "x" * (boundary.LONGEST_TEXT + 1)],
    "BOOLEAN": [*NOTHING, "yes", 2, -1, float("nan"), 0.5],
    "COMBO": [
        *NOTHING,
        "",
        5,
        "no such choice",
        "../../etc/passwd",
        "two\nlines",
        "C:\\Windows",
        "NUL\0",
        "x" * 10_000,
    ],
}


async def listed() -> list[type[io.ComfyNode]]:
    return await (await ovi_native.comfy_entrypoint()).get_node_list()


NODES = asyncio.run(listed())
SLOTS = [(node, slot.id) for node in NODES for slot in node.define_schema().inputs if slot.get_io_type() in WIDGETS]
each_slot = pytest.mark.parametrize(
    ("node", "name"), SLOTS, ids=[f"{node.define_schema().node_id}.{name}" for node, name in SLOTS]
)


@pytest.fixture(autouse=True)
def files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ComfyUI with a file in every folder."""
    monkeypatch.setattr(folder_paths, "get_filename_list", lambda _folder: ["sub/a.safetensors", "b.safetensors"])
    monkeypatch.setattr(folder_paths, "get_input_subfolders", lambda: ["clips"])
    monkeypatch.setattr("ovi_native.nodes.loading.loaders.model_files", lambda: ["sub/a.safetensors", "b.safetensors"])


def slot_of(node: type[io.ComfyNode], name: str) -> Any:
    return next(slot for slot in node.define_schema().inputs if slot.id == name)


def out_of_range(slot: Any) -> Iterator[Any]:
    if slot.get_io_type() in ("INT", "FLOAT"):
        yield slot.min - 1
        yield slot.max + 1
        yield slot.max * 10 + 1e30


def good(slot: Any) -> Any:
    """A value that the widget takes."""
    kind = slot.get_io_type()
    if kind not in WIDGETS:
        return None if slot.optional else SAMPLES.get(kind, object())
    return slot.options[0] if kind == "COMBO" else slot.default


def executed(node: type[io.ComfyNode], slot: Any, value: Any) -> OviError | None:
    """What ``node`` says to ``value`` at ``slot`` where all its other widgets have good values."""
    schema = node.define_schema()
    given = {each.id: good(each) for each in schema.inputs} | {slot.id: value}
    if schema.is_input_list:
        given = {name: [each] for name, each in given.items()}
    try:
        node.execute(**given)
    except OviError as error:
        return error
    return None


@each_slot
def test_a_wrong_value_is_refused_in_one_line_that_names_node_and_input(node, name):
    slot = slot_of(node, name)
    for value in [*WRONG[slot.get_io_type()], *out_of_range(slot)]:
        if value is None and slot.optional:
            continue
        error = executed(node, slot, value)
        assert error is not None, value
        assert (error.node, error.input) == (node.define_schema().display_name, slot.id), value
        line = str(error)
        assert len(line.splitlines()) == 1
        assert len(line) < 2000
        assert line.isprintable()


def test_an_empty_list_is_refused_where_a_node_takes_lists():
    node = next(node for node in NODES if node.define_schema().is_input_list)
    given = {slot.id: [good(slot)] for slot in node.define_schema().inputs}
    for slot in node.define_schema().inputs:
        for value in ([], None, 5):
            with pytest.raises(OviError) as caught:
                node.execute(**given | {slot.id: value})
            assert caught.value.input == slot.id


@each_slot
def test_what_the_widget_offers_is_taken(node, name):
    slot = slot_of(node, name)
    values = [good(slot)]
    if slot.get_io_type() == "COMBO":
        values = slot.options
    elif slot.get_io_type() in ("INT", "FLOAT"):
        values += [slot.min, slot.max]
    for value in values:
        assert boundary.check(slot, value) == value


LINKS: dict[str, list[Any]] = {
    "MODEL": [None, 5, "text", {}, object(), torch.nn.Linear(1, 1)],
    "LATENT": [None, 5, "text", [], {}, {"sample": 1}, torch.zeros(1, 48, 3, 4, 4), object()],
    "CONDITIONING": [None, 5, "text", [], {}, [5], [[torch.zeros(1, 4, 8)]], [[torch.zeros(1), None]], torch.zeros(2)],
    "VIDEO": [None, 5, "clip.mp4", torch.zeros(1, 8, 8, 3), object()],
    "OVI_GUIDANCE_OPTIONS": [5, "text", (), {}, object()],
}
SAMPLES = {
    "MODEL": SimpleNamespace(model=None, model_options={}, clone=None),
    "LATENT": {"samples": None},
    "CONDITIONING": [[None, {}]],
    "VIDEO": SimpleNamespace(get_dimensions=lambda: (64, 64), save_to=lambda *_: None),
}
LINKED = [(node, slot.id) for node in NODES for slot in node.define_schema().inputs if slot.get_io_type() in LINKS]


@pytest.mark.parametrize(
    ("node", "name"), LINKED, ids=[f"{node.define_schema().node_id}.{name}" for node, name in LINKED]
)
def test_a_link_that_brings_something_else_is_refused(node, name):
    slot = slot_of(node, name)
    for value in LINKS[slot.get_io_type()]:
        if value is None and slot.optional:
            continue
        error = executed(node, slot, value)
        assert error is not None, value
        assert (error.node, error.input) == (node.define_schema().display_name, name), value
        assert str(error).isprintable()


WHOLE = io.Int.Input("n", default=5, min=0, max=10)
SHARE = io.Float.Input("x", default=0.5, min=0.0, max=1.0)
SWITCH = io.Boolean.Input("b", default=False)
FILE = io.Combo.Input("f", options=["sub/a.safetensors", "sub\\b.safetensors", "été.safetensors"])


@pytest.mark.parametrize(
    ("slot", "given", "taken"),
    [
        (WHOLE, np.int64(3), 3),
        (WHOLE, np.uint8(3), 3),
        (WHOLE, 3.0, 3),
        (WHOLE, True, 1),
        (WHOLE, torch.tensor(3), 3),
        (WHOLE, np.array(3), 3),
        (SHARE, 1, 1.0),
        (SHARE, np.float32(0.5), 0.5),
        (SHARE, torch.tensor(0.5, dtype=torch.bfloat16), 0.5),
        (SWITCH, np.bool_(True), True),
        (SWITCH, 1, True),
        (FILE, "sub\\a.safetensors", "sub/a.safetensors"),
        (FILE, "sub/b.safetensors", "sub\\b.safetensors"),
        (FILE, unicodedata.normalize("NFD", "été.safetensors"), "été.safetensors"),
    ],
)
def test_the_same_value_in_another_type_or_spelling_is_converted(slot, given, taken):
    found = boundary.check(slot, given)
    assert (found, type(found)) == (taken, type(taken))


def test_nothing_at_an_optional_input_means_its_default():
    assert boundary.check(io.Int.Input("n", default=5, optional=True), None) == 5
