"""What shared workflows hold on to, against what was committed: node ids, inputs, choices, order of outputs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import folder_paths
import ovi_native
import pytest

FILE = Path(__file__).parents[1] / "snapshots" / "nodes.json"
REWRITE = "python3 dev.py test tests/nodes/test_snapshot.py --rewrite"

Inputs = dict[str, dict[str, Any]]
Nodes = dict[str, dict[str, Any]]


def described(info: dict[str, Any]) -> dict[str, Any]:
    """A node's entry of the snapshot, from ComfyUI's own ``/object_info`` of it."""
    outputs = [list(pair) for pair in zip(info["output"], info["output_name"], strict=True)]
    return {"inputs": described_inputs(info["input"]), "outputs": outputs}


def described_inputs(groups: dict[str, Any]) -> Inputs:
    return {
        name: described_input(*spec, optional=group == "optional")
        for group in ("required", "optional")
        for name, spec in (groups.get(group) or {}).items()
    }


def described_input(kind: Any, config: dict[str, Any] | None = None, optional: bool = False) -> dict[str, Any]:
    config = config or {}
    told = {"type": kind if isinstance(kind, str) else "COMBO", "optional": optional}
    if "default" in config:
        told["default"] = config["default"]
    options = kind if isinstance(kind, list) else config.get("options")
    if options and isinstance(options[0], dict):
        told["choices"] = {option["key"]: described_inputs(option["inputs"]) for option in options}
    elif options is not None:
        told["choices"] = {option: {} for option in options}
    return told


def broken(old: Nodes, new: Nodes) -> Iterator[str]:
    """What a workflow saved with the nodes ``old`` would miss among the nodes ``new``."""
    for name, node in old.items():
        if name not in new:
            yield f"{name} is gone"
            continue
        yield from broken_inputs(name, node["inputs"], new[name]["inputs"])
        kept = [kind for kind, _ in new[name]["outputs"]][: len(node["outputs"])]
        if kept != [kind for kind, _ in node["outputs"]]:
            yield f"{name}: outputs {[kind for kind, _ in node['outputs']]} no longer come first, in this order"


def broken_inputs(where: str, old: Inputs, new: Inputs) -> Iterator[str]:
    for name, input in old.items():
        path = f"{where}.{name}"
        if name not in new:
            yield f"{path} is gone"
        elif new[name]["type"] != input["type"]:
            yield f"{path} was {input['type']} and is {new[name]['type']}"
        else:
            if input["optional"] and not new[name]["optional"]:
                yield f"{path} was optional and is required"
            for choice, more in input.get("choices", {}).items():
                if choice not in new[name].get("choices", {}):
                    yield f"{path} can no longer be '{choice}'"
                else:
                    yield from broken_inputs(f"{path}={choice}", more, new[name]["choices"][choice])
    for name in new.keys() - old.keys():
        if not new[name]["optional"]:
            yield f"{where}.{name} is new and required; prompts that were saved do not have it"
    # A saved workflow lists the values of widgets without names.
    if widgets(new)[: len(widgets(old))] != widgets(old) and not old.keys() - new.keys():
        yield f"{where}: the widgets {widgets(old)} no longer come first, in this order"


def widgets(inputs: Inputs) -> list[str]:
    kinds = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3")
    return [name for name, input in inputs.items() if input["type"] in kinds]


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    """The pack's nodes on a ComfyUI whose folders are empty."""
    monkeypatch.setattr(folder_paths, "get_filename_list", lambda _folder: [])
    monkeypatch.setattr(folder_paths, "get_input_subfolders", list)

    async def listed() -> list[Any]:
        return await (await ovi_native.comfy_entrypoint()).get_node_list()

    infos = [node.GET_NODE_INFO_V1() for node in asyncio.run(listed())]
    return json.loads(json.dumps({info["name"]: described(info) for info in sorted(infos, key=itemgetter("name"))}))


@pytest.fixture
def saved() -> Nodes:
    return json.loads(FILE.read_text(encoding="utf-8"))


def test_nothing_that_a_shared_workflow_holds_on_to_is_gone(nodes: Nodes, saved: Nodes):
    assert not list(broken(saved, nodes)), (
        "Workflows that people share would break. Keep the old name, type and place and add what is new as an optional "
        "input at the end; or migrate, as CONTRIBUTING.md says under 'Node ids'."
    )


def test_the_snapshot_is_of_these_nodes(nodes: Nodes, saved: Nodes, request: pytest.FixtureRequest):
    text = json.dumps(nodes, indent=1, ensure_ascii=False) + "\n"
    if request.config.getoption("--rewrite") and not list(broken(saved, nodes)):
        FILE.write_text(text, encoding="utf-8")
    lines = FILE.read_text(encoding="utf-8").splitlines()
    assert lines == text.splitlines(), f"If the change is meant, run '{REWRITE}' and commit {FILE.name}."


def node(outputs: list[str] | None = None, **inputs: dict[str, Any]) -> Nodes:
    return {"N": {"inputs": inputs, "outputs": [[kind, kind] for kind in outputs or ["LATENT"]]}}


INT = {"type": "INT", "optional": False, "default": 1}
LINK = {"type": "MODEL", "optional": False}
CHOICE = {"type": "COMBO", "optional": False, "choices": {"a": {}, "b": {}}}
OLD = node(model=LINK, steps=INT, kind=CHOICE)


@pytest.mark.parametrize(
    ("new", "told"),
    [
        ({}, "N is gone"),
        (node(model=LINK, kind=CHOICE), "N.steps is gone"),
        (node(model=LINK, steps={**INT, "type": "FLOAT"}, kind=CHOICE), "N.steps was INT and is FLOAT"),
        (node(model=LINK, kind=CHOICE, steps=INT), "N: the widgets ['steps', 'kind'] no longer come first"),
        (node(model=LINK, steps=INT, kind={**CHOICE, "choices": {"a": {}}}), "N.kind can no longer be 'b'"),
        (node(model=LINK, steps=INT, kind=CHOICE, more=INT), "N.more is new and required"),
        (node(["VAE", "LATENT"], model=LINK, steps=INT, kind=CHOICE), "N: outputs ['LATENT'] no longer come first"),
    ],
)
def test_what_breaks_a_workflow_is_told(new: Nodes, told: str):
    (only,) = broken(OLD, new)
    assert only.startswith(told)


def test_what_is_added_breaks_nothing():
    choices = {"c": {}, **CHOICE["choices"]}
    more = {**INT, "optional": True}
    new = node(
        ["LATENT", "INT"], steps={**INT, "default": 2}, kind={**CHOICE, "choices": choices}, model=LINK, more=more
    )
    assert not list(broken(OLD, {**new, "M": new["N"]}))
