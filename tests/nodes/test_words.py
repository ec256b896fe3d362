"""No text that an artist reads is missing or out of date, in any language."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import ovi_native
import pytest

from tools.locales import help_pages, words

REWRITE = "python3 dev.py test tests/nodes/test_words.py --rewrite"
VERBATIM = re.compile(r"%\w+%|</?[SE]>|\b[\w-]+\.(?:pth|pt|txt|md)\b|\b[a-z]+_\w+\b")
"""What must be the same in every language: placeholders, tags, files, names with _."""


async def schemas() -> list:
    nodes = await (await ovi_native.comfy_entrypoint()).get_node_list()
    return [node.GET_SCHEMA() for node in nodes]


SOURCE = words.english(asyncio.run(schemas()))
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
    assert not found, f"Mend locales/{language}, then run '{REWRITE}':\n" + "\n".join(found)


@each_language
def test_placeholders_tags_and_files_are_the_same_in_every_language(language: str):
    translated = words.read(language)
    for path, text in SOURCE.items():
        if path.endswith(("tooltip", "description", "example")):
            lost = set(VERBATIM.findall(text)) - set(VERBATIM.findall(translated.get(path, "")))
            assert not lost, (path, lost)


def test_every_node_has_a_help_page_with_example_and_picture_in_every_language(request: pytest.FixtureRequest):
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
        "nodes/N/inputs/a/tooltip: made from other words than 'Steps, 50 in the reference.'"
    ]
    words.write("fr", {**locales, "nodes/N/inputs/a/tooltip": "Pas, 50 dans la référence."})
    words.accept("fr", changed)
    assert words.problems("fr", changed) == []


def test_missing_and_left_over_words_are_told(locales: dict[str, str]):
    source = {"categories/Ovi": "Ovi", "categories/loaders": "loaders"}
    missing, extra = words.problems("fr", source)
    assert missing == "categories/loaders: no words for 'loaders'"
    assert extra.startswith("nodes/N/inputs/a/tooltip")
    words.accept("fr", source)
    assert words.problems("fr", source) == [missing]
