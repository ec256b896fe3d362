"""The pack in ComfyUI's page, in a real Chromium on a real server with the small model.

Without a Chromium these tests are skipped, unless OVI_NEED_BROWSER is set, as continuous integration does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browser import Studio
from small_templates import shrunk

from tools.dev.server import PACK_FOLDER, Server
from tools.dev.setup import ROOT
from tools.locales import help_pages, words
from tools.workflows import catalogue

WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
# Those that need other weights are run in tests/workflows, by test_chains.py and test_people.py, with stand-ins; those
# to try at once are the first ones, drawn for the small model, as all are here.
OWN = [title for title in sorted(catalogue.WORKFLOWS) if not catalogue.needs_other_weights(title)]
OWN = [title for title in OWN if not title.startswith(catalogue.TRY)]
# Each is run once, by one renderer or the other; those of the older one first, for the page is opened anew between.
RUNS = [(title, newer) for newer in (False, True) for title in OWN[int(newer) :: 2]]
SCREENS = ROOT / "docs" / "screens"
SHOWN_IN_DOCS = ("01 Text to video", "02 Image to video", "03 Sound for a silent clip", "10 Storyboard")
SHOT = "shot 0.6 s{}\nscene: A small red ball bounces.\nsound: Dry knocks.\n\n"
SCRIPT = SHOT.format("") + SHOT.format(", go on")
# Instead of the shipped values, so that a run takes seconds; --rewrite takes the shipped ones, for its pictures.
SMALL = {
    "EmptyOviLatent": {"width": 64, "height": 64, "seconds": 0.6},
    "OviExtend": {"seconds": 1.0},
    "OviKeepSpan": {"video_spans": "0.2-0.4", "audio_spans": "0.2-0.4"},
    "OviStoryboard": {"width": 64, "height": 64, "overlap_seconds": 0.2, "steps": 2},
    "ManualSigmas": {"sigmas": "1.0, 0.6, 0.0"},
    "OviSampler": {"steps": 2},
}
TWO_WINDOWS = {"EmptyOviLatent": {"width": 64, "height": 64, "seconds": 5.5}, "OviSampler": {"steps": 2}}
SAMPLERS = ("OviSampler", "SamplerCustomAdvanced", "OviStoryboard")
WORDS = {
    "lip sync": {"OviLockAudio", "OviSampler"},
    "foley": {"OviLockVideo"},
    "talking": {"OviTextEncode"},
    "sound for video": {"OviLockVideo"},
    "save mp4": {"OviSaveVideo"},
    "text to video": {"OviSampler"},
    "image to video": {"OviImageToVideo"},
    "extend video": {"OviExtend"},
    "voice": {"OviVoice", "OviPerson"},
    "dreamid": {"OviPerson", "OviPeoplePrompt"},
}
# Before all other nodes of the pack. ComfyUI's page ranks by name and display name alone, and finds by aliases, too.
FIRST = {
    "lip sync": "OviLockAudio",
    "text to video": "OviSampler",
    "sound for video": "OviLockVideo",
    "image to video": "OviImageToVideo",
    "extend video": "OviExtend",
    "face": "OviPerson",
    "voice": "OviVoice",
}
SHOWN_PICTURES_ARE_THERE = """() => [...document.querySelectorAll('[data-testid^="template-workflow-"] img')]
  .filter(image => { const box = image.getBoundingClientRect(); return box.bottom > 0 && box.top < innerHeight; })
  .every(image => image.complete && image.naturalWidth)"""
SHOWN = """kind => { const node = LiteGraph.createNode(kind); return {title: node.title,
  labels: Object.fromEntries(node.widgets.map(widget => [widget.name, widget.label])),
  outputs: node.outputs.map(output => output.localized_name ?? output.label ?? output.name)}; }"""


@pytest.fixture(scope="module")
def names(page_nodes: dict[str, Any]) -> dict[str, str]:
    """Display names of the pack's nodes by id."""
    return {name: node["display_name"] for name, node in page_nodes.items() if PACK_FOLDER in node["python_module"]}


def graph_of(title: str, nodes: dict[str, Any], whole: bool = False) -> dict[str, Any]:
    """A template for the small model; small, unless ``whole``."""
    graph = catalogue.graph(title, nodes, [], "mini")
    return graph if whole else shrunk(graph, nodes, TWO_WINDOWS if "Longer" in title else SMALL, lambda _: SCRIPT)


@dataclass(frozen=True)
class Run:
    """What was seen when a template was opened and run in the page; ``drawn`` nodes by the newer renderer."""

    graph: dict[str, Any]
    newer: bool
    samplers: set[str]
    seen: dict[str, Any]
    complaints: list[str]
    videos: list[dict[str, Any]]
    drawn: int
    saved: Path


@pytest.fixture(scope="module", params=RUNS, ids=lambda run: run[0])
def run(page: Studio, page_server: Server, page_nodes: dict[str, Any], request: pytest.FixtureRequest) -> Run:
    """A template opened and queued with the Run button."""
    title, newer = request.param
    for_docs = request.config.getoption("--rewrite") and title in SHOWN_IN_DOCS
    page.draw_with(newer=newer or for_docs)
    page.load(graph_of(title, page_nodes, whole=for_docs), title)
    graph = page.graph()
    samplers = {key for key, node in page.prompt().items() if node["class_type"] in SAMPLERS}
    seen = page.run(seconds=580 if for_docs else 120)
    assert seen["end"], (seen["refused"], page.complaints())
    assert seen["end"][0] == "execution_success", seen["end"]
    videos = page.videos()
    drawn = page.page.locator("[data-node-id]").count()
    if for_docs:
        page.picture(SCREENS / f"{title}.jpg")
    saved = next(image for image in seen["saved"] if image["filename"].endswith(".mp4"))
    path = page_server.base / saved["type"] / saved["subfolder"] / saved["filename"]
    return Run(graph, newer or for_docs, samplers, seen, page.complaints(), videos, drawn, path)


def test_a_workflow_runs_from_the_page_without_an_error(run: Run):
    assert run.complaints == []
    assert run.drawn == (len(run.graph["nodes"]) if run.newer else 0)  # by the newer renderer


def test_progress_is_shown_and_the_end_is_a_video_that_plays(run: Run):
    steps = [state for key in run.samplers for state in run.seen["progress"].get(key, [])]
    assert [value for value, most in steps if 0 < value < most]
    assert run.seen["previews"]
    assert run.videos
    assert all(video["width"] > 0 and video["seconds"] > 0.3 for video in run.videos)
    assert run.saved.stat().st_size > 1000


def test_the_saved_clip_brings_its_workflow_back_when_dropped(run: Run, page: Studio):
    page.blank()
    page.drop(run.saved.read_bytes(), run.saved.name, "video/mp4")
    page.holds([node["type"] for node in run.graph["nodes"]])
    assert content(page.graph()) == content(run.graph)
    assert page.complaints() == []


def content(graph: dict[str, Any]) -> tuple[list, list]:
    """What a graph means, without how it looks and what its players play just now."""
    inside = [node for each in graph["definitions"]["subgraphs"] for node in each["nodes"]]
    nodes = [
        (node["id"], node["type"], (node.get("widgets_values") or [])[: 1 if node["type"] == "LoadAudio" else None])
        for node in [*graph["nodes"], *inside]
    ]
    return sorted(nodes), sorted(graph["links"])


def test_a_saved_image_brings_its_workflow_back_when_dropped(
    page: Studio, page_server: Server, page_nodes: dict[str, Any]
):
    page.draw_with(newer=False)
    page.load(graph_of("01 Text to video", page_nodes), "with an image")
    made = page.page.evaluate("app.graph.nodes.find(node => node.isSubgraphNode?.()).id")
    page.connect(made, 1, page.add("SaveImage"), 0)
    graph = page.graph()
    seen = page.run()
    assert seen["end"][0] == "execution_success", seen["end"]
    saved = next(image for image in seen["saved"] if image["filename"].endswith(".png"))
    page.blank()
    page.drop((page_server.base / "output" / saved["filename"]).read_bytes(), saved["filename"], "image/png")
    page.holds([node["type"] for node in graph["nodes"]])
    assert content(page.graph()) == content(graph)


def test_a_changed_widget_survives_save_and_load(page: Studio, page_server: Server):
    page.open()
    template = json.loads((ROOT / "workflows" / "01 Text to video.json").read_text(encoding="utf-8"))
    page.load(template, "as shipped")
    changed = {"seed": 7, "aspect": "9:16", "variant": "720x720_5s", "prompt": "<S>Ça va?<E>\n(one) {two|three}"}
    page.set_widgets(changed)
    graph = page.graph()
    page.command("Comfy.SaveWorkflowAs")
    page.type_into_dialog("changed")
    page.page.keyboard.press("Enter")
    page.page.get_by_text("changed", exact=True).first.wait_for()
    assert content(
        json.loads((page_server.base / "user/default/workflows/changed.json").read_text("utf-8"))
    ) == content(graph)
    page.open()
    page.command("Workspace.ToggleSidebarTab.workflows")
    page.page.get_by_text("changed", exact=True).first.click()
    page.holds([node["type"] for node in graph["nodes"]])
    assert content(page.graph()) == content(graph)
    assert changed.items() <= page.widgets(template["definitions"]["subgraphs"][0]["id"]).items()


def test_the_template_browser_shows_every_workflow_with_its_picture(page: Studio, request: pytest.FixtureRequest):
    page.open()
    page.command("Comfy.BrowseTemplates")
    page.page.locator('[data-testid="template-workflows-content"]').wait_for()
    page.page.get_by_text(PACK_FOLDER, exact=True).first.click()
    cards = page.page.locator('[data-testid^="template-workflow-"]')
    for _ in range(50):  # the page makes more of them as the last comes into view
        if cards.count() >= len(WORKFLOWS):
            break
        cards.last.scroll_into_view_if_needed()
        page.page.wait_for_timeout(100)
    for file in WORKFLOWS:
        card = page.page.locator(f'[data-testid="template-workflow-{file.stem}"]')
        card.scroll_into_view_if_needed()
        picture = card.locator("img").first.element_handle()
        page.page.wait_for_function("image => image.complete && image.naturalWidth >= 254", arg=picture)
        assert file.stem in card.inner_text()
    assert cards.evaluate_all("cards => cards.map(card => card.dataset.testid)") == [
        f"template-workflow-{file.stem}" for file in sorted(WORKFLOWS)
    ]
    if request.config.getoption("--rewrite"):
        cards.first.scroll_into_view_if_needed()
        page.page.wait_for_function(SHOWN_PICTURES_ARE_THERE)
        page.page.wait_for_timeout(1000)  # in which they fade in
        page.photograph(SCREENS / "Template browser.jpg")
    card.click()
    page.holds([node["type"] for node in json.loads(file.read_text(encoding="utf-8"))["nodes"]])
    loader = {"OviPipelineLoader", json.loads(file.read_text(encoding="utf-8"))["definitions"]["subgraphs"][0]["id"]}
    assert set(page.complaints()) <= loader  # whose files are missing here


@pytest.fixture(scope="module")
def blank(page: Studio) -> Studio:
    page.open()
    page.blank()
    return page


@pytest.mark.parametrize(("words", "nodes"), WORDS.items(), ids=WORDS)
def test_search_finds_nodes_by_what_a_user_types(blank: Studio, names: dict[str, str], words: str, nodes: set[str]):
    found = "\n".join(blank.search(words)[:10])
    assert {name for name in nodes if names[name] not in found} == set()


@pytest.mark.parametrize(("words", "node"), FIRST.items(), ids=FIRST)
def test_search_finds_the_right_node_of_the_pack_first(blank: Studio, names: dict[str, str], words: str, node: str):
    ours = [text.splitlines()[0] for text in blank.search(words) if PACK_FOLDER in text]
    assert ours[0] == names[node]


def test_search_for_the_packs_name_gives_the_whole_of_it_as_one_node_and_then_its_nodes(blank: Studio):
    first, *others = blank.search("ovi")[:10]
    assert first.splitlines()[0] == "Ovi"  # the blueprint
    assert [text for text in others if PACK_FOLDER not in text] == []


def test_search_for_a_face_finds_the_person_behind_the_nodes_that_detect_faces(blank: Studio, names: dict[str, str]):
    assert names["OviPerson"] in "\n".join(blank.search("face")[:12])


def test_help_opens_for_every_node(blank: Studio, names: dict[str, str], request: pytest.FixtureRequest):
    if request.config.getoption("--rewrite"):
        blank.open(Comfy__VueNodes__Enabled=True)
        for name in names:
            blank.portrait(name, help_pages.picture(name))
        blank.help("OviLockVideo")
        drawn = "[...document.querySelectorAll('.node-help-content img')].every(image => image.complete)"
        blank.page.wait_for_function(drawn)
        blank.photograph(SCREENS / "Help.jpg")
    examples = {name: words.read("en")[f"examples/{name}"] for name in names}
    said = {name: blank.help(name) for name in names}
    assert {name for name in names if plain(examples[name])[:60] not in plain(said[name])} == set()
    assert blank.complaints() == []


def plain(text: str) -> str:
    """Letters and digits alone: the page shows quotes, emphasis and code in its own way."""
    return "".join(character for character in text if character.isalnum())


@pytest.mark.parametrize("language", words.TRANSLATIONS)
def test_the_page_speaks_the_users_language(page: Studio, language: str):
    page.open(Comfy__Locale=language)
    page.blank()
    translated = words.read(language)
    shown = page.page.evaluate(SHOWN, "OviSampler")
    assert shown["title"] == translated["nodes/OviSampler/display_name"]
    assert shown["labels"]["steps"] == translated["nodes/OviSampler/inputs/steps/name"]
    assert shown["outputs"] == [translated["nodes/OviSampler/outputs/0/name"]]
    assert plain(translated["examples/OviSampler"])[:20] in plain(page.help("OviSampler"))
