"""The words that an artist reads, in each language: ``locales/`` as ComfyUI takes it, and what is missing there.

The English words are those of the nodes; ``locales/en`` is written from them, but for its ``examples.json``, the worked
example of each node's help page. Beside a translation stands, in
``sources.json``, a fingerprint of the English it was made from and of itself: who changes English words leaves their
translations out of date until they, too, are changed.
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
    """All words of the nodes with these schemas; an empty text where an example is missing."""
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
    """The words of a language's files; none where there are no files yet."""
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
    """What a translation lacks, has too much, or has of older English words."""
    words, made = read(language), _json(LOCALES / language / SOURCES)
    missing = [f"{path}: no words for {text!r}" for path, text in source.items() if not words.get(path)]
    extra = [f"{path}: there are no such English words any more" for path in words if path not in source]
    old = [
        f"{path}: made from other words than {source[path]!r}"
        for path, text in words.items()
        if text and path in source and made.get(path) != [_fingerprint(source[path]), _fingerprint(text)]
    ]
    return missing + extra + old


def accept(language: str, source: Words) -> None:
    """Take every translation that was changed since the last time as made from the English words of now."""
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
