"""The help page of each node in each language, made from the words of ``locales/``, in ``web/docs/``."""

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
    """A node's help page: what it does, how it looks, a worked example, and every input and output."""
    example, inputs, outputs, name, meaning = HEADINGS[language]
    title = words[f"nodes/{node}/display_name"]
    parts = [f"# {title}", words[f"nodes/{node}/description"], f"![{title}]({picture(node).name})"]
    parts += [f"## {example}", words[f"examples/{node}"]]
    for heading, group in ((inputs, "inputs"), (outputs, "outputs")):
        rows = _rows(f"nodes/{node}/{group}/", words)
        parts += [f"## {heading}", f"| {name} | {meaning} |\n|---|---|\n" + "\n".join(rows)] if rows else []
    # A tag of speech would be taken for one of HTML.
    return "\n\n".join(part.replace("<", "&lt;") if "`" not in part else part for part in parts) + "\n"


def _rows(path: str, words: Words) -> list[str]:
    slots = dict.fromkeys(key.removeprefix(path).split("/")[0] for key in words if key.startswith(path))
    return [f"| {words[f'{path}{slot}/name']} | {words.get(f'{path}{slot}/tooltip', '')} |" for slot in slots]


def pages(node: str, by_language: dict[str, Words]) -> dict[Path, str]:
    """Files of a node's help and what they hold. ComfyUI takes the one beside the folder where a language has none."""
    files = {DOCS / node / f"{language}.md": page(language, node, words) for language, words in by_language.items()}
    return {**files, DOCS / f"{node}.md": files[DOCS / node / "en.md"]}


def picture(node: str) -> Path:
    """The picture on a node's help page; the browser tests draw it."""
    return DOCS / f"{node}.jpg"
