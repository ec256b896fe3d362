"""What stands before a node in the running graph: ComfyUI's own samplers give a LATENT no keys of ours."""

from __future__ import annotations

from typing import Any

PERSON = "OviPerson"
PARTS = ("face", "voice")


def likeness_before(hidden: Any) -> tuple[str, ...]:
    """The parts of people that go into a node through any number of others; nothing outside a run.

    Args:
        hidden: of the node, with ``prompt`` and ``unique_id``. A graph from a stranger's workflow may hold anything.
    """
    prompt, start = getattr(hidden, "prompt", None), getattr(hidden, "unique_id", None)
    if not isinstance(prompt, dict):
        return ()
    found: set[str] = set()
    seen, waiting = set(), [start]
    while waiting:
        name = waiting.pop()
        node = prompt.get(name) if isinstance(name, str) and name not in seen else None
        if not isinstance(node, dict) or not isinstance(node.get("inputs"), dict):
            continue
        seen.add(name)
        links = {key: value[0] for key, value in node["inputs"].items() if isinstance(value, list) and value}
        waiting += links.values()
        if node.get("class_type") == PERSON:
            found.update(part for part in PARTS if part in links)
    return tuple(part for part in PARTS if part in found)
