"""The templates as they open in ComfyUI's page: large enough, with all text shown, right for the variant they get."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from browser import own_inputs
from ovi_native.ovi_core.loading.manifest import model_list
from ovi_native.ovi_core.spec import VARIANTS

from tools.dev.setup import ROOT
from tools.dev.workflow import to_prompt
from tools.workflows import catalogue

if TYPE_CHECKING:
    from browser import Studio

    from tools.dev.server import Server

TEMPLATES = {
    file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted((ROOT / "workflows").glob("*.json"))
}
APPS = [title for title, graph in TEMPLATES.items() if "linearData" in graph["extra"]]
LEAST_ZOOM = 0.7
OTHER = "720x720_5s"  # set in every template that has a variant of Ovi
# Once the previews have their size: what is seen of each node, in pixels of the graph, and texts that are cut.
LOOK = """() => {
  const { ds } = app.canvas, ctx = document.createElement('canvas').getContext('2d');
  const cut = [], boxes = [], newer = LiteGraph.vueNodesMode;
  const short = (element, where) => {
    if (element.scrollHeight > element.clientHeight + 3 || element.scrollWidth > element.clientWidth + 3)
      cut.push(`${where}: ${(element.value ?? element.innerText).slice(0, 40)}`);
  };
  for (const node of app.graph.nodes) {
    if (newer) {
      const drawn = document.querySelector(`[data-node-id="${node.id}"]`);
      const box = drawn.getBoundingClientRect();
      boxes.push([node.title, box.left, box.top, box.right, box.bottom]);
      for (const text of drawn.querySelectorAll('textarea, .comfy-markdown-content, .truncate'))
        if (text.offsetParent && !text.closest('[aria-hidden=true]')) short(text, node.title);
    } else {
      const [x, y, width, height] = node.boundingRect;
      const [left, top] = ds.convertOffsetToCanvas([x, y]);
      boxes.push([node.title, left, top, left + width * ds.scale, top + height * ds.scale]);
      ctx.font = `${LiteGraph.NODE_TEXT_SIZE - 2}px ${LiteGraph.NODE_FONT}`;
      for (const widget of node.widgets ?? []) {
        const text = widget.element?.matches?.('textarea') ? widget.element
          : widget.element?.querySelector?.('.tiptap');
        if (text?.offsetParent) short(text, node.title);
        else if (!widget.element && typeof widget.value === 'string' && !widget.hidden) {
          const wide = ctx.measureText(widget.value).width + ctx.measureText(widget.label ?? widget.name).width;
          if (wide + 60 > node.size[0]) cut.push(`${node.title}: ${widget.value}`);
        }
      }
    }
  }
  return { zoom: ds.scale, boxes, cut, screen: [innerWidth, innerHeight] };
}"""
SETTLED = """() => { const media = [...document.querySelectorAll('video, audio')];
  return media.every(each => each.readyState >= 1) && app.graph.nodes.every(node =>
    !['LoadImage', 'LoadVideo'].includes(node.type) || node.imgs?.length || node.videoContainer
      || document.querySelector(`[data-node-id="${node.id}"] :is(img, video)`)); }"""
RED = "app.graph.nodes.some(node => !!node.has_errors)"
TEN = "960x960_10s"
# In the order in which they are chosen; the small model comes with the pack.
VARIANT_FILES = {TEN: f"model_{TEN}.safetensors", OTHER: f"ovi_{OTHER}.safetensors", "mini": ""}
VARIANT_FILES |= {"960x960_5s": "model_960x960.safetensors"}
EMPTY: dict[str, Any] = {"size": [400, 200], "flags": {}, "order": 0, "mode": 0, "properties": {}}
TITLE = 30  # pixels of a node's title, above the frame that its position counts from


@pytest.fixture(scope="module")
def wide(page: Studio) -> Studio:
    page.page.set_viewport_size({"width": 1600, "height": 1000})
    return page


@pytest.mark.parametrize("newer", [False, True], ids=["classic", "nodes 2.0"])
def test_every_template_opens_large_with_all_text_shown_and_its_variant_sets_all(
    wide: Studio, page_nodes: dict[str, Any], newer: bool
):
    wide.open(Comfy__VueNodes__Enabled=newer)
    for title, graph in TEMPLATES.items():
        if title in catalogue.CHAINS and not newer:
            continue  # of the same nodes outside
        wide.load(graph, title, source="template")
        wide.page.wait_for_function(SETTLED)
        wide.page.wait_for_timeout(150)  # in which a node takes the size of its preview
        seen = wide.page.evaluate(LOOK)
        assert seen["zoom"] >= LEAST_ZOOM, title
        assert seen["cut"] == [], title
        assert overlaps(seen["boxes"]) == [], title
        width, height = seen["screen"]
        hidden = [name for name, *box in seen["boxes"] if min(box[:2]) < 0 or box[2] > width or box[3] > height]
        assert hidden == [], title
        if "variant" in values_of(graph) and title not in catalogue.PEOPLE:
            wide.set_widgets({"variant": OTHER})
            graph = with_variant(graph)
        meant = {key: node["inputs"] for key, node in to_prompt(graph, page_nodes).items()}
        assert {key: own_inputs(node["inputs"]) for key, node in wide.prompt().items()} == meant, title
        assert set(wide.complaints()) <= {node_of(graph)["type"], "OviPipelineLoader"}, title  # whose files are missing


def overlaps(boxes: list[list[Any]]) -> list[tuple[str, str]]:
    """Names of nodes that cover one another by more than their frames."""
    return [
        (one, other)
        for index, (one, *a) in enumerate(boxes)
        for other, *b in boxes[:index]
        if min(a[2], b[2]) - max(a[0], b[0]) > 2 and min(a[3], b[3]) - max(a[1], b[1]) > 2
    ]


def node_of(graph: dict[str, Any]) -> dict[str, Any]:
    (subgraph,) = graph["definitions"]["subgraphs"]
    return next(node for node in graph["nodes"] if node["type"] == subgraph["id"])


def values_of(graph: dict[str, Any]) -> list[str]:
    """Names of the widgets outside."""
    return [entry["name"] for entry in node_of(graph)["inputs"] if "widget" in entry]


def with_variant(graph: dict[str, Any]) -> dict[str, Any]:
    graph = json.loads(json.dumps(graph))
    node_of(graph)["widgets_values"][values_of(graph).index("variant")] = OTHER
    return graph


@pytest.mark.parametrize("newer", [False, True], ids=["classic, a loader alone", "nodes 2.0, a subgraph"])
def test_files_that_a_variant_lacks_are_offered_by_the_pages_own_dialog(wide: Studio, page_server: Server, newer: bool):
    wide.draw_with(newer)
    graph = TEMPLATES["01 Text to video"]
    kind = node_of(graph)["type"] if newer else "OviPipelineLoader"
    wide.load(graph if newer else alone(kind, ["960x960_10s", "bf16", False, False]), "files", source="template")
    for variant, file in VARIANT_FILES.items():
        if variant != TEN:
            wide.choose(kind, "variant", variant)
        wide.page.locator('[data-testid="error-overlay"]').wait_for(state="visible" if file else "hidden")
        wide.page.wait_for_function(f"red => {RED} === red", arg=bool(file))
        assert set(wide.complaints()) == ({kind, "OviPipelineLoader"} if file else set())
        if file:
            wide.page.locator('[data-testid="error-overlay"]').get_by_text("View details").click()
            panel = wide.page.locator('[data-testid="properties-panel"]')
            panel.get_by_text(file).first.wait_for()
            shown = panel.inner_text()
            assert [name for name in VARIANT_FILES.values() if name and name in shown] == [file]
            assert "diffusion_models" in shown
            wide.page.evaluate("app.extensionManager.setting.set('Comfy.RightSidePanel.IsOpen', false)")
    if newer:
        wide.load(TEMPLATES["00 Try it now - text to video"], "small", source="template")
        wide.page.locator('[data-testid="error-overlay"]').wait_for(state="hidden")
        assert wide.complaints() == []
    else:
        assert wide.graph()["nodes"][0]["size"] == EMPTY["size"]
        assert page_server.models
        needed = (page_server.models / each["directory"] / each["name"] for each in model_list(VARIANTS[variant]))
        files = [path for path in needed if not path.exists()]
        for path in files:  # as if a run had downloaded them
            path.parent.mkdir(exist_ok=True)
            path.touch()
        wide.add("OviCheck")
        wide.run()
        try:
            wide.page.wait_for_function(f"!{RED}", timeout=20_000)
        finally:
            for path in files:
                path.unlink()


def alone(kind: str, values: list[Any]) -> dict[str, Any]:
    node = {"id": 1, "type": kind, "pos": [500, 300], "widgets_values": values, **EMPTY}
    return {"version": 0.4, "last_node_id": 1, "last_link_id": 0, "nodes": [node], "links": []}


def test_app_mode_shows_what_is_asked_of_the_four_commonest_jobs_and_runs(wide: Studio):
    assert {title[3:].removeprefix("Try it now - ").capitalize() for title in APPS} == {
        "Text to video",
        "Image to video",
        "Sound for a silent clip",
        "Extend a clip",
    }
    wide.open(Comfy__VueNodes__Enabled=True)
    for title in APPS:
        graph = TEMPLATES[title]
        wide.load(graph, title, source="template")
        wide.command("Comfy.ToggleLinear")
        items = wide.page.locator('[data-testid="app-mode-widget-item"]')
        wanted = graph["extra"]["linearData"]["inputs"]
        wide.page.wait_for_function(
            "count => document.querySelectorAll('[data-testid=app-mode-widget-item]').length === count", arg=len(wanted)
        )
        shown = [text.split("\n")[0].strip() for text in items.all_inner_texts()]
        assert shown == [name for _, name in wanted], title
        assert wide.page.locator('[data-testid="linear-run-button"] button').last.is_enabled()
        wide.command("Comfy.ToggleLinear")
        items.first.wait_for(state="hidden")
