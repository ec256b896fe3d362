"""What the README says of nodes, files and memory is so, its links lead somewhere, and its translations keep up."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import ovi_native
import pytest
from ovi_native.ovi_core.model.memory_estimate import activation_bytes
from ovi_native.ovi_core.network.transformer import OviConfig
from ovi_native.ovi_core.spec import SIZE_GRID, VARIANTS, ClipShape

from tools.dev.setup import ROOT
from tools.locales import terms, words

REWRITE = "python3 dev.py test tests/nodes/test_readme.py --rewrite"
ENGLISH = ROOT / "README.md"
TRANSLATED = {language: ROOT / f"README.{language}.md" for language in words.TRANSLATIONS}
READMES = {words.ENGLISH: ENGLISH, **TRANSLATED}
PRINTS = ROOT / "tests" / "snapshots" / "readme.json"
"""For each section of a translation the fingerprints of its English source and of itself."""
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")})
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
LINK = re.compile(r"\]\(\s*([^)\s]+)\s*\)")

LABELLED = {"`variant`", "`precision`", "`video_cfg`", "`audio_cfg`", "`skip_layers`"}
"""Inputs, which sentences in another language name by their labels."""

each_language = pytest.mark.parametrize("language", READMES)
each_translation = pytest.mark.parametrize("language", TRANSLATED)


def sections(file: Path) -> list[str]:
    """A page's text before the first heading of the second level, and below each."""
    return re.split(r"(?m)^## ", file.read_text(encoding="utf-8"))


def fingerprint(text: str) -> str:
    """Of a text, however its lines are broken."""
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:8]


def tables(text: str) -> Iterator[list[list[str]]]:
    """The cells of each table's rows below its head."""
    for table in re.findall(r"(?m)(?:^\|.*\n?)+", text):
        yield [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in table.splitlines()[2:]]


def names(language: str) -> dict[str, str]:
    """The display name of each registered node."""

    async def ids() -> list[str]:
        nodes = await (await ovi_native.comfy_entrypoint()).get_node_list()
        return [node.GET_SCHEMA().node_id for node in nodes]

    known = words.read(language)
    return {node: known[f"nodes/{node}/display_name"] for node in asyncio.run(ids())}


def anchors(file: Path) -> set[str]:
    """Where links into a page can lead, as GitHub names headings."""
    headings = re.findall(r"(?m)^#+ (.+)$", file.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file_and_a_heading(page: Path):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    broken = []
    for target in LINK.findall(text):
        if "://" in target or target.startswith("mailto:"):
            continue
        place, _, heading = target.partition("#")
        file = (page.parent / place).resolve() if place else page
        if not file.exists() or (heading and heading not in anchors(file)):
            broken.append(target)
    assert broken == []


@each_language
def test_the_table_of_nodes_has_every_node_by_its_name(language: str):
    listed = [row[0] for table in tables(READMES[language].read_text(encoding="utf-8")) for row in table]
    expected = names(language)
    # Rows of other tables begin otherwise, so each name must stand once at a row's beginning.
    assert [name for name in expected.values() if listed.count(name) != 1] == []


def test_the_table_of_tasks_has_every_template_by_its_number():
    (section,) = (text for text in sections(ENGLISH) if text.startswith("What it can do"))
    listed: list[int] = []
    for cell in (row[3] for row in next(tables(section)) if row[3]):
        first, *more = map(int, NUMBER.findall(cell))
        listed += range(first, more[0] + 1) if " to " in cell else (first, *more)
    templates = {int(file.name[:2]) for file in (ROOT / "workflows").glob("*.json")}
    assert sorted(listed) == sorted(templates - {0})  # each once; 00 are those to try the pack with


@each_language
def test_every_name_of_ovi_in_italics_is_that_of_a_node_a_template_or_a_blueprint(language: str):
    shown = {file.stem for folder in ("workflows", "subgraphs") for file in (ROOT / folder).glob("*.json")}
    known = {*names(language).values(), *shown}
    text = READMES[language].read_text(encoding="utf-8")
    italics = {" ".join(found.split()) for found in re.findall(r"(?<![*\w])\*([^*\n|][^*|]*?)\*(?![*\w])", text)}
    assert {name for name in italics if "Ovi" in name and len(name) < 40} - known == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_options_of_dev_py_exist(page: Path):
    from tools.dev.cli import _parser

    commands = next(action.choices for action in _parser()._actions if action.dest == "command")
    used = re.findall(r"python3\s+dev\.py ([a-z][\w-]*)", page.read_text(encoding="utf-8"))
    assert set(used) <= set(commands)


@each_language
def test_memory_figures_are_those_of_the_estimate(language: str):
    config, variant, rows = OviConfig(), "", 0
    for cells in (row for table in tables(READMES[language].read_text(encoding="utf-8")) for row in table):
        size = re.match(r"(\d+)x(\d+)", cells[1]) if len(cells) == 6 else None
        if not size:
            continue
        variant = cells[0].strip("`") or variant
        shape = ClipShape.from_seconds(*map(int, size.groups()), float(cells[3]))
        assert shape.seconds == pytest.approx(VARIANTS[variant].seconds, abs=0.1)
        tokens = shape.width // SIZE_GRID * (shape.height // SIZE_GRID) * shape.latent_frames
        for cell, chunk in ((cells[4], 0), (cells[5], 4096)):
            estimate = activation_bytes(config, 2, tokens, shape.audio_frames, 2, chunk) / 1e9
            assert float(first_number(cell)) == pytest.approx(estimate, rel=0.1), (variant, cells[1], chunk)
        rows += 1
    assert rows == 10


def first_number(text: str) -> str:
    found = NUMBER.search(text)
    assert found, text
    return found[0].replace(",", ".")


@each_language
def test_the_table_of_cards_repeats_the_estimates(language: str):
    text = READMES[language].read_text(encoding="utf-8")
    sums = [found.replace(",", ".") for found in re.findall(r"\d+[.,]\d \+ (\d+[.,]\d)", text)]
    estimates = {
        first_number(cell)
        for table in tables(text)
        for row in table
        if len(row) == 6 and re.match(r"\d+x\d+", row[1])
        for cell in row[4:]
    }
    assert len(sums) == 5
    assert set(sums) <= estimates


@each_translation
def test_a_translation_keeps_up_with_the_english_one(language: str, request: pytest.FixtureRequest):
    english, translated = sections(ENGLISH), sections(TRANSLATED[language])
    assert len(translated) == len(english)
    recorded = json.loads(PRINTS.read_text(encoding="utf-8")) if PRINTS.is_file() else {}
    now = [[fingerprint(source), fingerprint(text)] for source, text in zip(english, translated, strict=True)]
    if request.config.getoption("--rewrite"):
        recorded[language] = accepted(recorded.get(language, []), now)
        PRINTS.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")
    old = outdated(recorded.get(language, []), now)
    assert [english[index].splitlines()[0] for index in old] == [], (
        f"Translate these sections again in README.{language}.md, then run '{REWRITE}'."
    )


def accepted(recorded: list[list[str]], now: list[list[str]]) -> list[list[str]]:
    """What to record: the present state of each section whose translation changed, else what was recorded."""
    before = {translation: source for source, translation in recorded}
    return [[before.get(translation, source), translation] for source, translation in now]


def outdated(recorded: list[list[str]], now: list[list[str]]) -> list[int]:
    return [index for index, pair in enumerate(now) if pair not in recorded]


def test_a_changed_section_is_out_of_date_until_its_translation_changes_too():
    recorded = accepted([], [["a", "x"], ["b", "y"]])
    assert outdated(recorded, [["a", "x"], ["b", "y"]]) == []
    changed = [["a", "x"], ["c", "y"]]
    assert outdated(recorded, changed) == outdated(accepted(recorded, changed), changed) == [1]
    retold = [["a", "x"], ["c", "z"]]
    assert outdated(accepted(recorded, retold), retold) == []


@each_translation
def test_code_links_and_numbers_are_those_of_the_english_one(language: str):
    for source, text in zip(sections(ENGLISH), sections(TRANSLATED[language]), strict=True):
        head = source.splitlines()[0]
        for pattern in (r"```.*?```", r"(?<!`)`[^`]+`(?!`)"):
            found, expected = (set(re.findall(pattern, " ".join(page.split()), re.DOTALL)) for page in (text, source))
            assert found == expected - LABELLED, head
        languages = {file.name for file in READMES.values()}
        links, wanted = ({*LINK.findall(page)} - languages for page in (text, source))
        assert links == wanted, head
        numbers, those = (
            {number.replace(",", ".") for number in NUMBER.findall(LINK.sub("", page))} for page in (text, source)
        )
        assert numbers == those, head


@each_translation
def test_translations_use_comfyuis_terms(language: str):
    text = TRANSLATED[language].read_text(encoding="utf-8")
    assert terms.avoided(language, text) == []
    for name, by_language in terms.STOCK_NODES.items():
        if f"*{name}*" in ENGLISH.read_text(encoding="utf-8"):
            assert by_language[language] in text, name


def test_the_graph_of_the_api_guide_is_one_of_this_pack():
    guide = (ROOT / "docs" / "headless.md").read_text(encoding="utf-8")
    graph = json.loads(re.findall(r"```json\n(.*?)```", guide, re.DOTALL)[0])
    nodes = json.loads((ROOT / "tests" / "snapshots" / "nodes.json").read_text(encoding="utf-8"))
    for node in graph.values():
        inputs = nodes[node["class_type"]]["inputs"]
        assert set(node["inputs"]) <= set(inputs)
        assert {name for name, slot in inputs.items() if not slot["optional"]} <= set(node["inputs"])
        for name, value in node["inputs"].items():
            choices = inputs[name].get("choices")
            assert isinstance(value, list) or not choices or value in choices, (node["class_type"], name, value)
    compile(re.findall(r"```python\n(.*?)```", guide, re.DOTALL)[0], "headless.md", "exec")
