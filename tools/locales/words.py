"""The texts of the nodes in each language: ``locales/`` in ComfyUI's format, and what is missing there.

The English texts are those of the nodes. ``locales/en`` is written from them, except ``examples.json``, which holds the
worked example of each node's help page. ``sources.json`` holds, for each translated text, a fingerprint of its English
source and of itself: a change of the English marks the translation as out of date until it changes, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..dev.setup import ROOT

LOCALES = ROOT / "locales"
ENGLISH = "en"
TRANSLATIONS = ("fr", "zh")
FILES = {"categories": "main.json", "nodes": "nodeDefs.json", "examples": "examples.json"}
SOURCES = "sources.json"

Words = dict[str, str]
"""Text by path, such as ``nodes/OviSampler/inputs/steps/tooltip``."""


def english(schemas: Iterable[Any]) -> Words:
    """All texts of the nodes with these schemas; an empty text where an example is missing."""
    words: Words = {}
    examples = _json(LOCALES / ENGLISH / FILES["examples"])
    for schema in schemas:
        words[f"examples/{schema.node_id}"] = examples.get(schema.node_id, "")
        node = f"nodes/{schema.node_id}"
        words |= {f"categories/{segment}": segment for segment in schema.category.split("/")}
        words[f"{node}/display_name"], words[f"{node}/description"] = schema.display_name, schema.description
        for slot in schema.inputs:
            words[f"{node}/inputs/{slot.id}/name"] = slot.display_name or slot.id
            words[f"{node}/inputs/{slot.id}/tooltip"] = slot.tooltip
        for index, output in enumerate(schema.outputs):
            words[f"{node}/outputs/{index}/name"] = output.display_name
            if output.tooltip:
                words[f"{node}/outputs/{index}/tooltip"] = output.tooltip
    return words


def read(language: str) -> Words:
    """The texts in a language's files; none where there are no files yet."""
    words: Words = {}
    for root, name in FILES.items():
        tree = _json(LOCALES / language / name)
        words |= _flat(root, tree.get("nodeCategories", {}) if root == "categories" else tree)
    return words


def write(language: str, words: Words) -> None:
    """Write a language's files."""
    trees: dict[str, Any] = {root: {} for root in FILES}
    for path, text in words.items():
        *parents, last = path.split("/")
        place = trees
        for part in parents:
            place = place.setdefault(part, {})
        place[last] = text
    _write_json(LOCALES / language / FILES["categories"], {"nodeCategories": trees["categories"]})
    for root in ("nodes", "examples"):
        _write_json(LOCALES / language / FILES[root], trees[root])


def problems(language: str, source: Words) -> list[str]:
    """Texts that a translation lacks, that have no English source, or whose English source has changed."""
    words, made = read(language), _json(LOCALES / language / SOURCES)
    missing = [f"{path}: no translation of {text!r}" for path, text in source.items() if not words.get(path)]
    extra = [f"{path}: has no English source" for path in words if path not in source]
    old = [
        f"{path}: not yet translated from {source[path]!r}"
        for path, text in words.items()
        if text and path in source and made.get(path) != [_fingerprint(source[path]), _fingerprint(text)]
    ]
    return missing + extra + old


def accept(language: str, source: Words) -> None:
    """Record every translation that changed since the last call as translated from the current English."""
    file = LOCALES / language / SOURCES
    made, words = _json(file), read(language)
    kept = {path: words[path] for path in source if words.get(path)}
    prints = {path: [_fingerprint(source[path]), _fingerprint(text)] for path, text in kept.items()}
    unchanged = {path: made[path] for path, pair in prints.items() if path in made and made[path][1] == pair[1]}
    write(language, kept)
    _write_json(file, prints | unchanged)


def _fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _flat(path: str, tree: Any) -> Words:
    if isinstance(tree, str):
        return {path: tree}
    return {key: text for name, branch in tree.items() for key, text in _flat(f"{path}/{name}", branch).items()}


def _json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
