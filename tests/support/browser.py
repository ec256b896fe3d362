"""ComfyUI's page in a real Chromium, driven as a user does."""

from __future__ import annotations

import base64
import json
import re
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, TimeoutError, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
ARGUMENTS += ["--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required"]
# What ComfyUI's page says of itself on any server that has no network and no settings yet.
NOISE = re.compile(r"404 \(Not Found\)|ERR_NAME_NOT_RESOLVED|Content Security Policy|graph accessed before init")
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Locale": "en",
    "Comfy.VueNodes.Enabled": False,
    "Comfy.Workflow.Persist": False,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.RightSidePanel.IsOpen": False,
    "Comfy.Validation.Workflows": True,
    "Comfy.Execution.PreviewMethod": "auto",
}
# The page loads its first graph last; what is done before that is lost.
READY = "window.app?.vueAppReady && app.extensionManager && app.canvas?.graph?.nodes.length"
WATCH = """() => {
  window.seen = {progress: {}, previews: 0, saved: [], cached: 0, end: null};
  app.api.addEventListener('progress_state', event => {
    for (const [key, state] of Object.entries(event.detail.nodes))
      (seen.progress[key] ??= []).push([state.value, state.max]);
  });
  app.api.addEventListener('executed', event => seen.saved.push(...(event.detail.output?.images ?? [])));
  app.api.addEventListener('execution_cached', event => { seen.cached = event.detail.nodes.length; });
  for (const kind of ['b_preview', 'b_preview_with_metadata'])
    app.api.addEventListener(kind, () => seen.previews++);
  for (const kind of ['execution_success', 'execution_error', 'execution_interrupted'])
    app.api.addEventListener(kind, event => { seen.end = [kind, event.detail]; });
}"""
ALL_NODES = "[app.graph, ...app.graph.subgraphs.values()].flatMap(graph => graph.nodes)"
PLAYING = """(() => { const videos = [...document.querySelectorAll('video')];
  return videos.length > 0 && videos.every(video => video.readyState >= 2); })()"""
SECONDS = 90  # for whatever the page is waited for; on a busy machine it is slow to open
MOST = 150_000  # bytes of an image for the documentation
# Of a widget on the canvas, where the mouse finds it.
MIDDLE = """([kind, name]) => { const node = app.graph.nodes.find(node => node.type === kind);
  const widget = node.widgets.find(widget => widget.name === name), box = app.canvas.canvas.getBoundingClientRect();
  const at = [node.pos[0] + node.size[0] / 2, node.pos[1] + (widget.last_y ?? widget.y) + 10];
  const [x, y] = app.canvas.ds.convertOffsetToCanvas(at);
  return [x + box.left, y + box.top]; }"""
FIELD = "document.activeElement?.matches('input[type=text], input:not([type])')"
DROP = """async ([bytes, name, type]) => {
  const file = new File([Uint8Array.from(atob(bytes), c => c.charCodeAt(0))], name, {type});
  const data = new DataTransfer();
  data.items.add(file);
  const canvas = document.querySelector('#graph-canvas'), box = canvas.getBoundingClientRect();
  const at = {clientX: box.right - 60, clientY: box.top + 200, dataTransfer: data, bubbles: true, cancelable: true};
  for (const kind of ['dragenter', 'dragover', 'drop']) canvas.dispatchEvent(new DragEvent(kind, at));
}"""


def find() -> str | None:
    """The Chromium of this machine, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Studio:
    """A page of a running server; ``errors`` holds what its console complained of since :meth:`open`."""

    def __init__(self, page: Page, url: str):
        self.page, self.url = page, url
        page.set_default_timeout(1000 * SECONDS)
        self.errors: list[str] = []
        self._newer: bool | None = None
        page.on("console", lambda said: self._heard(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self._heard(str(error)))
        page.on("dialog", lambda dialog: dialog.accept())  # whether to leave an unsaved workflow

    def _heard(self, text: str) -> None:
        if not NOISE.search(text):
            self.errors.append(text)

    def open(self, **settings: Any) -> None:
        """Reload the page with ``settings`` (dots written as ``__``) on top of :data:`SETTINGS`."""
        chosen = SETTINGS | {key.replace("__", "."): value for key, value in settings.items()}
        self._newer = None if settings.keys() - {"Comfy__VueNodes__Enabled"} else chosen["Comfy.VueNodes.Enabled"]
        for key, value in chosen.items():
            body = json.dumps(value).encode()
            urllib.request.urlopen(urllib.request.Request(f"{self.url}/settings/{key}", body, method="POST")).close()
        self.page.goto(self.url, wait_until="domcontentloaded")
        self.page.wait_for_function(READY)
        self.page.evaluate(WATCH)
        self.errors.clear()

    def draw_with(self, newer: bool) -> None:
        """Have the page open with one of its two renderers and nothing else set, reloading it only if need be."""
        if self._newer is not newer:
            self.open(Comfy__VueNodes__Enabled=newer)

    def command(self, name: str) -> None:
        """Start one of the page's commands; it may go on after this returns."""
        self.page.evaluate("name => { app.extensionManager.command.execute(name); }", name)

    def load(self, graph: dict[str, Any], name: str, source: str | None = None) -> None:
        """Open a workflow; ``source``: where the page is to think it comes from, such as ``template``."""
        self.errors.clear()
        code = "([graph, name, openSource]) => app.loadGraphData(graph, true, true, name, {openSource})"
        self.page.evaluate(code, [graph, name, source])
        self.holds([node["type"] for node in graph["nodes"]])

    def holds(self, types: list[str]) -> None:
        """Wait until the graph has nodes of just these types."""
        code = "types => JSON.stringify(app.graph.nodes.map(node => node.type).sort()) === types"
        self.page.wait_for_function(code, arg=json.dumps(sorted(types), separators=(",", ":"), ensure_ascii=False))

    def has(self, kind: str) -> bool:
        return self.page.evaluate("kind => app.graph.nodes.some(node => node.type === kind)", kind)

    def blank(self) -> None:
        self.command("Comfy.NewBlankWorkflow")
        self.holds([])

    def graph(self) -> dict[str, Any]:
        return self.page.evaluate("app.graph.serialize()")

    def prompt(self) -> dict[str, Any]:
        """What the page would queue, by node."""
        return self.page.evaluate("async () => (await app.graphToPrompt()).output")

    def complaints(self) -> list[str]:
        """What the page says is wrong: nodes missing or red, errors in its console or shown on top."""
        red = f"{ALL_NODES}.filter(n => n.has_errors || !LiteGraph.registered_node_types[n.type]).map(n => n.type)"
        toasts = "[...document.querySelectorAll('.p-toast-message-error')].map(toast => toast.innerText)"
        return [*self.errors, *self.page.evaluate(red), *self.page.evaluate(toasts)]

    def set_widgets(self, values: dict[str, Any], kind: str | None = None) -> None:
        """Set every widget of these names, on nodes of one type or on all."""
        code = """([values, kind]) => { for (const node of app.graph.nodes) for (const widget of node.widgets ?? [])
          if (widget.name in values && (!kind || node.type === kind)) widget.value = values[widget.name]; }"""
        self.page.evaluate(code, [values, kind])

    def choose(self, kind: str, name: str, value: str) -> None:
        """Choose from the list of the widget ``name`` on the first node of a type, with the mouse."""
        for _ in range(10):  # a list that opens while the page is busy closes at once
            with suppress(TimeoutError):
                if self._newer:
                    row = self.page.locator('[data-testid="node-widget"]')
                    row = row.filter(has=self.page.get_by_text(name, exact=True))
                    row.locator("button, [role=combobox]").last.click(timeout=5000)
                    self.page.get_by_role("option", name=value, exact=True).click(timeout=2000)
                else:
                    self.page.mouse.click(*self.page.evaluate(MIDDLE, [kind, name]))
                    self.page.locator(".litemenu-entry").get_by_text(value, exact=True).click(timeout=2000)
                return

    def set_inside(self, values: dict[str, dict[str, Any]]) -> None:
        """Set widgets of nodes within subgraphs, by type and name; what they were linked to is cut."""
        code = """values => { for (const graph of app.graph.subgraphs.values()) for (const node of graph.nodes)
          for (const [name, value] of Object.entries(values[node.type] ?? {})) {
            const slot = node.inputs.findIndex(input => input.name === name && input.link !== null);
            if (slot >= 0) node.disconnectInput(slot);
            node.widgets.find(widget => widget.name === name).value = value; } }"""
        self.page.evaluate(code, values)

    def run(self, seconds: float = 120) -> dict[str, Any]:
        """Press Run and wait for the end; returns what was seen on the way."""
        self.page.evaluate("() => Object.assign(seen, {progress: {}, previews: 0, saved: [], cached: 0, end: null})")
        self.page.locator('[data-testid="queue-button"]').first.click()
        over = """seen.end || document.querySelector('[data-testid="error-overlay"]')"""
        self.page.wait_for_function(over, timeout=1000 * seconds)
        return self.page.evaluate("({...seen, refused: app.lastNodeErrors})")

    def videos(self) -> list[dict[str, Any]]:
        """Video elements of the page, once all of them play."""
        self.page.wait_for_function(PLAYING)
        code = "[...document.querySelectorAll('video')].map(v => ({width: v.videoWidth, seconds: v.duration}))"
        return self.page.evaluate(code)

    def drop(self, data: bytes, name: str, kind: str) -> None:
        """Drop a file on an empty place of the canvas."""
        self.page.evaluate(DROP, [base64.b64encode(data).decode(), name, kind])

    def widgets(self, *kinds: str) -> dict[str, Any]:
        """Values of the widgets on the first node of each of these types, by name."""
        code = """kinds => Object.fromEntries(kinds.flatMap(kind =>
          app.graph.nodes.find(node => node.type === kind).widgets.map(widget => [widget.name, widget.value])))"""
        return self.page.evaluate(code, list(kinds))

    def type_into_dialog(self, text: str) -> None:
        """Type into the text field that has just come up; before it has the focus, keys are shortcuts."""
        self.page.wait_for_function(FIELD)
        self.page.keyboard.press("Control+a")
        self.page.keyboard.type(text)

    def search(self, words: str) -> list[str]:
        """Texts of the results that a search from an empty place of the canvas gives."""
        self._open_search()
        self.type_into_dialog(words)
        results = self.page.locator('[data-testid="result-item"]')
        results.first.wait_for()
        self.page.wait_for_timeout(400)  # the list follows the typing
        texts = results.all_inner_texts()
        self.page.keyboard.press("Escape")
        results.first.wait_for(state="hidden")
        return texts

    def place(self, title: str) -> int:
        """Search for a node or blueprint, put the first result in the middle; its id."""
        before = self.page.evaluate("app.graph.nodes.map(node => node.id)")
        self._open_search()
        self.type_into_dialog(title)
        self.page.locator('[data-testid="result-item"]').first.get_by_text(title, exact=True).first.wait_for()
        self.page.keyboard.press("Enter")
        self.page.locator('[data-testid="result-item"]').first.wait_for(state="hidden")
        self.page.mouse.move(690, 290)
        self.page.mouse.click(700, 300)
        code = "before => app.graph.nodes.find(node => !before.includes(node.id))?.id"
        return self.page.wait_for_function(code, arg=before).json_value()

    def add(self, kind: str, first: Any = None) -> int:
        """A new node of this type, with a value for its first widget; its id."""
        code = """([kind, first]) => { const node = LiteGraph.createNode(kind); app.graph.add(node);
          if (first !== null) node.widgets[0].value = first; return node.id; }"""
        return self.page.evaluate(code, [kind, first])

    def connect(self, start: int, output: int, end: int, slot: int) -> None:
        code = """([start, output, end, slot]) =>
          { app.graph.getNodeById(start).connect(output, app.graph.getNodeById(end), slot); }"""
        self.page.evaluate(code, [start, output, end, slot])

    def _open_search(self) -> None:
        for _ in range(10):  # two clicks that a busy page sees far apart are no double click
            self.page.locator("#graph-canvas").dblclick(position={"x": 1300, "y": 600})
            with suppress(TimeoutError):
                self.page.wait_for_function(FIELD, timeout=2000)
                return

    def help(self, kind: str) -> str:
        """Text of the help that the info button shows for a new node of this type."""
        self.alone(kind)
        button = self.page.locator('[data-testid="info-button"]').first
        for _ in range(10):  # a page just opened shows the toolbox of a node without its buttons
            self.page.evaluate("() => { app.canvas.deselectAll(); app.canvas.selectItems(app.graph.nodes); }")
            with suppress(TimeoutError):
                button.wait_for(timeout=2000)
                break
        button.click()
        content = self.page.locator(".node-help-content")
        content.wait_for()
        self.page.wait_for_function("document.querySelector('.node-help-content').innerText.length > 100")
        return content.inner_text()

    def alone(self, kind: str) -> None:
        """A new node of this type as the only one."""
        # With an id of its own: the newer renderer shows texts of the node before under the same id.
        code = """kind => { app.graph.clear(); const node = LiteGraph.createNode(kind); node.pos = [400, 200];
          node.id = window.lastAlone = (window.lastAlone ?? 0) + 1; app.graph.add(node); app.canvas.ds.reset(); }"""
        self.page.evaluate(code, kind)

    def portrait(self, kind: str, file: Path) -> None:
        """An image of a node of this type, drawn by the newer renderer."""
        self.alone(kind)
        node = self.page.locator("[data-node-id]").first
        node.wait_for()
        self.page.wait_for_timeout(300)
        file.parent.mkdir(parents=True, exist_ok=True)
        node.screenshot(path=str(file), type="jpeg", quality=80)

    def picture(self, file: Path) -> None:
        """An image of the whole graph and nothing else."""
        self.command("Workspace.ToggleFocusMode")
        self.command("Comfy.Canvas.FitView")
        self.page.add_style_tag(content='.p-toast,[data-testid="error-overlay"]{display:none!important}')
        self.page.wait_for_timeout(1000)
        self.photograph(file)
        self.command("Workspace.ToggleFocusMode")

    def photograph(self, file: Path) -> None:
        """What the page shows, as a JPEG of less than :data:`MOST` bytes."""
        file.parent.mkdir(parents=True, exist_ok=True)
        for quality in (85, 75, 65, 55, 45):
            if len(data := self.page.screenshot(type="jpeg", quality=quality)) < MOST:
                file.write_bytes(data)
                return
        raise AssertionError(f"{file.name} has {len(data)} bytes even so.")


@contextmanager
def studio(chromium: str, url: str, profile: Path) -> Iterator[Studio]:
    """A :class:`Studio` in a new browser."""
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(profile),
            executable_path=chromium,
            headless=True,
            args=ARGUMENTS,
            viewport={"width": 1600, "height": 900},
            timeout=1000 * SECONDS,
        )
        try:
            yield Studio(context.pages[0], url)
        finally:
            context.close()


def own_inputs(inputs: dict[str, Any]) -> dict[str, Any]:
    """Without those that the page adds for its players."""
    return {name: value for name, value in inputs.items() if name not in ("video-preview", "audioUI", "upload")}
