"""The pack in ComfyUI's page, in a real Chromium on a real server with stand-in weights.

Without a Chromium these tests are skipped, unless OVI_NEED_BROWSER is set, as continuous integration does.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browser import Studio, find, studio

from tools.dev import help_pages, standins, words
from tools.dev.server import PACK_FOLDER, Server
from tools.dev.setup import ROOT, Host
from tools.dev.workflow import to_prompt

HOST = Host(Path(sys.executable), Path(os.environ.get("COMFYUI_PATH") or ROOT / ".comfyui" / "ComfyUI"))
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
# These two are run in the page; the others are opened there, and tests/test_workflows.py asks a server about them.
QUEUED = [file for file in WORKFLOWS if file.stem in ("Ovi picture to video", "Ovi text to video")]
SCREENS = ROOT / "docs" / "screens"
# Instead of the shipped values, so that a run takes seconds; --rewrite takes the shipped ones, for its pictures.
SMALL = [("EmptyOviLatent", {"width": 64, "height": 64, "seconds": 0.6}), (None, {"steps": 2})]
WORDS = {
    "lip sync": {"OviLockAudio", "OviSampler"},
    "foley": {"OviLockVideo"},
    "talking": {"OviTextEncode"},
    "sound for video": {"OviLockVideo"},
    "save mp4": {"OviSaveVideo"},
}

SHOWN = """kind => { const node = LiteGraph.createNode(kind); return {title: node.title,
  labels: Object.fromEntries(node.widgets.map(widget => [widget.name, widget.label])),
  outputs: node.outputs.map(output => output.localized_name ?? output.label ?? output.name)}; }"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server with stand-in weights; the pack's example media are in its input folder."""
    if find() is None:
        assert not os.environ.get("OVI_NEED_BROWSER"), "There is no Chromium, and OVI_NEED_BROWSER asks for one."
        pytest.skip("no Chromium on this machine: NOTHING of the page was tested (Debian: apt install chromium)")
    models = tmp_path_factory.mktemp("models")
    standins.make(models)
    with Server(HOST, tmp_path_factory.mktemp("base"), models=models) as running:
        for media in (ROOT / "assets").iterdir():
            shutil.copy(media, running.base / "input")
        yield running


@pytest.fixture(scope="module")
def names(server: Server) -> dict[str, str]:
    """Display names of the pack's nodes by id."""
    with urllib.request.urlopen(f"{server.url}/object_info") as answer:
        info = json.load(answer)
    return {name: node["display_name"] for name, node in info.items() if PACK_FOLDER in node["python_module"]}


@pytest.fixture(scope="module")
def page(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    chromium = find()
    assert chromium
    with studio(chromium, server.url, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module", params=[False, True], ids=["classic", "nodes 2.0"])
def drawn(page: Studio, request: pytest.FixtureRequest) -> bool:
    """The page opened anew with one of the two renderers; True for the newer one."""
    page.open(Comfy__VueNodes__Enabled=request.param)
    return request.param


@dataclass(frozen=True)
class Run:
    """What was seen when a workflow was opened and run in the page."""

    graph: dict[str, Any]
    seen: dict[str, Any]
    complaints: list[str]
    videos: list[dict[str, Any]]
    saved: Path


@pytest.fixture(scope="module", params=QUEUED, ids=lambda file: file.stem)
def run(page: Studio, drawn: bool, server: Server, request: pytest.FixtureRequest) -> Run:
    """A workflow opened and queued with the Run button."""
    rewrite = request.config.getoption("--rewrite")
    page.load(json.loads(request.param.read_text(encoding="utf-8")), request.param.stem)
    for kind, values in [] if rewrite else SMALL:
        page.set_widgets(values, kind)
    graph = page.graph()
    seen = page.run(seconds=600 if rewrite else 120)
    assert seen["end"], (seen["refused"], page.complaints())
    assert seen["end"][0] == "execution_success", seen["end"]
    videos = page.videos()
    if rewrite and drawn:
        page.picture(SCREENS / f"{request.param.stem}.jpg")
    (saved,) = [image for image in seen["saved"] if image["filename"].endswith(".mp4")]
    file = server.base / saved["type"] / saved["subfolder"] / saved["filename"]
    return Run(graph, seen, page.complaints(), videos, file)


def test_a_workflow_opens_and_runs_without_a_missing_node_or_an_error(run: Run):
    assert run.complaints == []


def test_every_workflow_opens_with_all_its_links(page: Studio, drawn: bool, server: Server):
    with urllib.request.urlopen(f"{server.url}/object_info") as answer:
        info = json.load(answer)
    for file in WORKFLOWS:
        graph = json.loads(file.read_text(encoding="utf-8"))
        page.load(graph, file.stem)
        seen = page.page.evaluate("async () => (await app.graphToPrompt()).output")
        meant = {key: node["inputs"] for key, node in to_prompt(graph, info).items()}
        assert {key: own_inputs(node["inputs"]) for key, node in seen.items()} == meant, file.stem
    assert page.complaints() == []


def own_inputs(inputs: dict[str, Any]) -> dict[str, Any]:
    """Without those that the page adds for its players."""
    return {name: value for name, value in inputs.items() if name not in ("video-preview", "audioUI", "upload")}


def test_progress_is_shown_and_the_end_is_a_video_that_plays(run: Run):
    samplers = {str(node["id"]) for node in run.graph["nodes"] if node["type"] == "OviSampler"}
    steps = [state for key in samplers for state in run.seen["progress"].get(key, [])]
    cached = run.seen["cached"] >= len(run.graph["nodes"]) - 2  # the other renderer has run it already
    assert [value for value, most in steps if 0 < value < most] or cached
    assert run.seen["previews"] or cached
    assert all(video["width"] > 0 and video["seconds"] > 0.3 for video in run.videos)
    assert run.saved.stat().st_size > 1000


def test_the_saved_clip_brings_its_workflow_back_when_dropped(run: Run, page: Studio):
    page.blank()
    page.drop(run.saved.read_bytes(), run.saved.name, "video/mp4")
    page.holds([node["type"] for node in run.graph["nodes"]])
    back = page.graph()
    assert content(back) == content(run.graph)
    assert page.complaints() == []


def content(graph: dict[str, Any]) -> tuple[list, list]:
    """What a graph means, without how it looks."""
    nodes = [(node["id"], node["type"], node.get("widgets_values")) for node in graph["nodes"]]
    return sorted(nodes), sorted(graph["links"])


def test_nodes_are_drawn_by_the_newer_renderer(run: Run, page: Studio, drawn: bool):
    assert page.page.locator("[data-node-id]").count() == (len(run.graph["nodes"]) if drawn else 0)


def test_a_changed_widget_survives_save_and_load(page: Studio, server: Server):
    page.open()
    page.load(json.loads(WORKFLOWS[0].read_text(encoding="utf-8")), "as shipped")
    changed = {"steps": 7, "video_cfg": 2.5, "solver": "euler", "prompt": "<S>Ça va?<E>\n(one) {two|three}"}
    page.set_widgets(changed)
    graph = page.graph()
    page.command("Comfy.SaveWorkflowAs")
    page.type_into_dialog("changed")
    page.page.keyboard.press("Enter")
    page.page.get_by_text("changed", exact=True).first.wait_for()
    assert content(json.loads((server.base / "user/default/workflows/changed.json").read_text("utf-8"))) == content(
        graph
    )
    page.open()
    page.command("Workspace.ToggleSidebarTab.workflows")
    page.page.get_by_text("changed", exact=True).first.click()
    page.holds([node["type"] for node in graph["nodes"]])
    assert content(page.graph()) == content(graph)
    assert changed.items() <= page.widgets("OviSampler", "OviTextEncode").items()


def test_the_template_browser_shows_every_workflow_with_its_picture(page: Studio):
    page.open()
    page.command("Comfy.BrowseTemplates")
    page.page.locator('[data-testid="template-workflows-content"]').wait_for()
    page.page.get_by_text(PACK_FOLDER, exact=True).first.click()
    for file in WORKFLOWS:
        card = page.page.locator(f'[data-testid="template-workflow-{file.stem}"]')
        card.scroll_into_view_if_needed()
        picture = card.locator("img").first.element_handle()
        page.page.wait_for_function("image => image.complete && image.naturalWidth >= 254", arg=picture)
        assert file.stem in card.inner_text()
    card.click()
    page.holds([node["type"] for node in json.loads(file.read_text(encoding="utf-8"))["nodes"]])
    assert page.complaints() == []


@pytest.fixture(scope="module")
def blank(page: Studio) -> Studio:
    page.open()
    page.blank()
    return page


@pytest.mark.parametrize(("words", "nodes"), WORDS.items(), ids=WORDS)
def test_search_finds_nodes_by_what_an_artist_types(blank: Studio, names: dict[str, str], words: str, nodes: set[str]):
    found = "\n".join(blank.search(words)[:10])
    assert {name for name in nodes if names[name] not in found} == set()


def test_help_opens_for_every_node(blank: Studio, names: dict[str, str], request: pytest.FixtureRequest):
    if request.config.getoption("--rewrite"):
        blank.open(Comfy__VueNodes__Enabled=True)
        for name in names:
            blank.portrait(name, help_pages.picture(name))
    examples = {name: words.read("en")[f"examples/{name}"] for name in names}
    said = {name: blank.help(name) for name in names}
    assert {name for name in names if plain(examples[name])[:60] not in plain(said[name])} == set()
    assert blank.complaints() == []


def plain(text: str) -> str:
    """Letters and digits alone: the page shows quotes, emphasis and code in its own way."""
    return "".join(character for character in text if character.isalnum())


@pytest.mark.parametrize("language", words.TRANSLATIONS)
def test_the_page_speaks_the_artists_language(page: Studio, language: str):
    page.open(Comfy__Locale=language)
    page.blank()
    translated = words.read(language)
    shown = page.page.evaluate(SHOWN, "OviSampler")
    assert shown["title"] == translated["nodes/OviSampler/display_name"]
    assert shown["labels"]["steps"] == translated["nodes/OviSampler/inputs/steps/name"]
    assert shown["outputs"] == [translated["nodes/OviSampler/outputs/0/name"]]
    assert plain(translated["examples/OviSampler"])[:20] in plain(page.help("OviSampler"))
