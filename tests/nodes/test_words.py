"""No text that a user reads is missing or out of date, in any language, and every language uses ComfyUI's terms."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import ovi_native
import pytest

from tools.locales import help_pages, terms, words

REWRITE = "python3 dev.py test tests/nodes/test_words.py --rewrite"
VERBATIM = re.compile(r"%\w+%|</?[SE]>|\b[\w-]+\.(?:pth|pt|txt|md)\b|\b[a-z]+_\w+\b")
"""What must be the same in every language: placeholders, tags, files, names with _ that are no inputs."""
INPUT = re.compile(r"\b[a-z]+_\w+\b|`\w+`")
"""What may be the name of an input in an English sentence."""


async def schemas() -> list:
    nodes = await (await ovi_native.comfy_entrypoint()).get_node_list()
    return [node.GET_SCHEMA() for node in nodes]


SOURCE = words.english(asyncio.run(schemas()))
INPUTS = {path.split("/")[3] for path in SOURCE if "/inputs/" in path}
each_language = pytest.mark.parametrize("language", words.TRANSLATIONS)


def test_the_english_words_are_those_of_the_nodes(request: pytest.FixtureRequest):
    if request.config.getoption("--rewrite"):
        words.write(words.ENGLISH, SOURCE)
    assert words.read(words.ENGLISH) == SOURCE, f"Run '{REWRITE}'."


@each_language
def test_no_translation_is_missing_or_out_of_date(language: str, request: pytest.FixtureRequest):
    if request.config.getoption("--rewrite"):
        words.accept(language, SOURCE)
    found = words.problems(language, SOURCE)
    assert not found, f"Correct locales/{language}, then run '{REWRITE}':\n" + "\n".join(found)


@each_language
def test_placeholders_tags_and_files_are_the_same_in_every_language(language: str):
    translated = words.read(language)
    for path, text in SOURCE.items():
        if path.endswith(("tooltip", "description")):
            lost = set(VERBATIM.findall(text)) - set(VERBATIM.findall(translated.get(path, ""))) - INPUTS
            assert not lost, (path, lost)


@each_language
def test_sentences_name_inputs_and_outputs_by_their_labels(language: str):
    """A page in French shows a label in French, so a sentence on it that says ``video_spans`` helps nobody."""
    translated = words.read(language)
    for path, text in SOURCE.items():
        if path.endswith(("tooltip", "description")) or path.startswith("examples/"):
            for name in {found.strip("`") for found in INPUT.findall(text)} & INPUTS:
                assert any(label in translated[path] for label in labels(name, translated)), (path, name)


def labels(name: str, translated: dict[str, str]) -> set[str]:
    """The labels of all inputs and outputs that are called ``name`` in English."""
    return {translated[path] for path, text in SOURCE.items() if path.endswith("/name") and text == name}


@each_language
def test_stock_nodes_have_the_names_that_comfyui_shows(language: str):
    translated = words.read(language)
    for path, text in SOURCE.items():
        for name, names in terms.STOCK_NODES.items():
            if name in text:
                assert names[language] in translated[path], (path, name)


@each_language
def test_names_of_stock_nodes_are_those_of_comfyuis_frontend(language: str):
    frontend = pytest.importorskip("comfyui_frontend_package")
    assets = Path(frontend.__file__).parent / "static" / "assets"
    tables = [file.read_text(encoding="utf-8") for file in assets.glob("nodeDefs-*.js")]
    for name, names in terms.STOCK_NODES.items():
        assert any(f"display_name:`{names[language]}`" in table for table in tables), name


@each_language
def test_translations_use_comfyuis_terms(language: str):
    found = {path: terms.avoided(language, text) for path, text in words.read(language).items()}
    assert {path: advice for path, advice in found.items() if advice} == {}


def test_every_node_has_a_help_page_with_example_and_image_in_every_language(request: pytest.FixtureRequest):
    by_language = {language: words.read(language) for language in (words.ENGLISH, *words.TRANSLATIONS)}
    nodes = [path.split("/")[1] for path in SOURCE if path.startswith("examples/")]
    assert [node for node in nodes if not SOURCE[f"examples/{node}"]] == [], "Write it in locales/en/examples.json."
    pages = {file: text for node in nodes for file, text in help_pages.pages(node, by_language).items()}
    if request.config.getoption("--rewrite"):
        for file, text in pages.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    there = {file: file.read_text(encoding="utf-8") for file in help_pages.DOCS.rglob("*.md")}
    assert there == pages, f"Run '{REWRITE}'."
    lacking = [node for node in nodes if not help_pages.picture(node).is_file()]
    assert lacking == [], "Run 'python3 dev.py test tests/page/test_browser.py --rewrite'."


@pytest.fixture
def locales(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A language of two words, translated."""
    monkeypatch.setattr(words, "LOCALES", tmp_path)
    source = {"categories/Ovi": "Ovi", "nodes/N/inputs/a/tooltip": "Steps."}
    words.write("fr", {"categories/Ovi": "Ovi", "nodes/N/inputs/a/tooltip": "Pas."})
    words.accept("fr", source)
    assert words.problems("fr", source) == []
    return source


def test_changed_english_leaves_a_translation_out_of_date_until_that_is_changed(locales: dict[str, str]):
    changed = {**locales, "nodes/N/inputs/a/tooltip": "Steps, 50 in the reference."}
    words.accept("fr", changed)
    assert words.problems("fr", changed) == [
        "nodes/N/inputs/a/tooltip: not yet translated from 'Steps, 50 in the reference.'"
    ]
    words.write("fr", {**locales, "nodes/N/inputs/a/tooltip": "Pas, 50 dans la référence."})
    words.accept("fr", changed)
    assert words.problems("fr", changed) == []


def test_missing_and_left_over_texts_are_reported(locales: dict[str, str]):
    source = {"categories/Ovi": "Ovi", "categories/loaders": "loaders"}
    missing, extra = words.problems("fr", source)
    assert missing == "categories/loaders: no translation of 'loaders'"
    assert extra.startswith("nodes/N/inputs/a/tooltip")
    words.accept("fr", source)
    assert words.problems("fr", source) == [missing]
