"""The help page of each node in each language: written from the texts of ``locales/`` into ``web/docs/``."""

from __future__ import annotations

from pathlib import Path

from ..dev.setup import ROOT
from .words import Words

DOCS = ROOT / "web" / "docs"
HEADINGS = {
    "en": ("Example", "Inputs", "Outputs", "name", "meaning"),
    "fr": ("Exemple", "Entrées", "Sorties", "nom", "sens"),
    "zh": ("示例", "输入", "输出", "名称", "含义"),
}


def page(language: str, node: str, words: Words) -> str:
    """A node's help page: description, image of the node, worked example, and every input and output."""
    example, inputs, outputs, name, meaning = HEADINGS[language]
    title = words[f"nodes/{node}/display_name"]
    parts = [f"# {title}", words[f"nodes/{node}/description"], f"![{title}]({picture(node).name})"]
    parts += [f"## {example}", words[f"examples/{node}"]]
    for heading, group in ((inputs, "inputs"), (outputs, "outputs")):
        rows = _rows(f"nodes/{node}/{group}/", words)
        parts += [f"## {heading}", f"| {name} | {meaning} |\n|---|---|\n" + "\n".join(rows)] if rows else []
    # Without this, a browser takes a speech tag for an HTML tag.
    return "\n\n".join(part.replace("<", "&lt;") if "`" not in part else part for part in parts) + "\n"


def _rows(path: str, words: Words) -> list[str]:
    slots = dict.fromkeys(key.removeprefix(path).split("/")[0] for key in words if key.startswith(path))
    return [f"| {words[f'{path}{slot}/name']} | {words.get(f'{path}{slot}/tooltip', '')} |" for slot in slots]


def pages(node: str, by_language: dict[str, Words]) -> dict[Path, str]:
    """Files of a node's help with their contents. ComfyUI shows the one beside the folder for other languages."""
    files = {DOCS / node / f"{language}.md": page(language, node, words) for language, words in by_language.items()}
    return {**files, DOCS / f"{node}.md": files[DOCS / node / "en.md"]}


def picture(node: str) -> Path:
    """The image on a node's help page; the browser tests draw it."""
    return DOCS / f"{node}.jpg"
