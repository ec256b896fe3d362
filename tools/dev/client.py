"""Queues a prompt on a ComfyUI server and follows it to its end, with progress on the terminal."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any, TextIO

import aiohttp
from tqdm import tqdm

from .problems import DevError

LINE_SECONDS = 5.0
BAR = "    {percentage:3.0f}%|{bar}| {n:g} of {total:g} [{elapsed}<{remaining}]"


class ConnectionLost(DevError):
    """The server went away while a prompt was running."""


def object_info(url: str) -> dict[str, Any]:
    """All node types of the server with their inputs, as ``/object_info`` lists them."""

    async def get() -> dict[str, Any]:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/object_info") as answer:
            return await answer.json()

    return asyncio.run(get())


def run_prompt(url: str, prompt: dict[str, Any], workflow: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run a prompt (API format) and return its history entry (``outputs``, ``status``).

    Args:
        url: the server, such as ``http://127.0.0.1:8188``.
        workflow: the saved workflow the prompt was made from; it travels into the metadata of what is saved.

    Raises:
        DevError: the server refused the prompt, or a node failed; the message names the node.
        ConnectionLost: the server went away.
    """
    try:
        return asyncio.run(_run(url, prompt, workflow))
    except aiohttp.ClientError as error:
        raise ConnectionLost(f"The connection to ComfyUI at {url} was lost: {error}") from None


async def _run(url: str, prompt: dict[str, Any], workflow: dict[str, Any] | None) -> dict[str, Any]:
    client = uuid.uuid4().hex
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{url}/ws?clientId={client}", max_msg_size=0) as socket,
    ):
        body: dict[str, Any] = {"prompt": prompt, "client_id": client}
        if workflow is not None and "nodes" in workflow:
            body["extra_data"] = {"extra_pnginfo": {"workflow": workflow}}
        async with session.post(f"{url}/prompt", json=body) as answer:
            prompt_id = _accepted(answer.status, await answer.text(), prompt)
        titles = {key: _title(prompt, key) for key in prompt}
        with Progress(titles) as progress:
            await _follow(socket, prompt_id, prompt, progress)
        async with session.get(f"{url}/history/{prompt_id}") as answer:
            return (await answer.json())[prompt_id]


def _accepted(status: int, text: str, prompt: dict[str, Any]) -> str:
    """The prompt's id, or the server's objections as one message."""
    try:
        answer = json.loads(text)
    except json.JSONDecodeError:
        raise DevError(f"ComfyUI answered the workflow with status {status}: {text[:300]}") from None
    # With one good and one bad output the status is 200, and only the good part would run.
    problems = [
        f"{_title(prompt, key)} (node {key}): {': '.join(filter(None, (error['message'], error.get('details'))))}"
        for key, node in (answer.get("node_errors") or {}).items()
        for error in node["errors"]
    ]
    if not problems and "error" in answer:
        error = answer["error"] if isinstance(answer["error"], dict) else {"message": answer["error"]}
        problems = [f"{error['message']} {error.get('details', '')}"]
    if problems:
        raise DevError("ComfyUI refused the workflow. " + "; ".join(problem.strip() for problem in problems))
    return answer["prompt_id"]


async def _follow(
    socket: aiohttp.ClientWebSocketResponse, prompt_id: str, prompt: dict[str, Any], progress: Progress
) -> None:
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.TEXT:
            continue  # previews
        event = json.loads(message.data)
        kind, data = event["type"], event.get("data") or {}
        if data.get("prompt_id") != prompt_id:
            continue
        if kind == "executing":
            if data["node"] is None:  # sent last, when the history entry is there
                return
            progress.begin(data["node"])
        elif kind == "progress_state":
            for key, state in data["nodes"].items():
                if state["state"] == "running":
                    progress.update(key, state["value"], state["max"])
        elif kind == "execution_error":
            raise DevError(_failure(data, _title(prompt, data["node_id"])))
        elif kind == "execution_interrupted":
            raise DevError("The run was interrupted on the server.")
    raise ConnectionLost("ComfyUI closed the connection before the run was finished.")


def _failure(data: dict[str, Any], title: str) -> str:
    """What a node said when it failed. The pack's errors name their node, others get its name in front."""
    said = data["exception_message"].strip()
    if said.startswith(title):
        return said
    return f"{title} (node {data['node_id']}) failed: {data['exception_type'].split('.')[-1]}: {said}"


def _title(prompt: dict[str, Any], key: str) -> str:
    node = prompt.get(key, {})
    return (node.get("_meta") or {}).get("title") or node.get("class_type") or "a node"


class Progress:
    """One bar per node that reports steps; plain lines where the output is not a terminal.

    Args:
        titles: what to call each node, by node id.
    """

    def __init__(self, titles: dict[str, str], out: TextIO | None = None, clock: Callable[[], float] = time.monotonic):
        self._titles, self._clock = titles, clock
        self._out = out or sys.stderr
        self._node = ""
        self._bar: tqdm[Any] | None = None
        self._next_line = 0.0
        self._said = 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_bar()

    def begin(self, node: str) -> None:
        """A node starts to run."""
        if node == self._node:
            return
        self._close_bar()
        self._node, self._next_line, self._said = node, self._clock() + LINE_SECONDS, 0.0
        print(f"  {self._name(node)}", file=self._out, flush=True)

    def update(self, node: str, value: float, maximum: float) -> None:
        """A node reports that ``value`` of ``maximum`` steps are done."""
        self.begin(node)
        if maximum <= 1:
            return
        if self._out.isatty():
            if self._bar is None:
                columns, rows = shutil.get_terminal_size()  # tqdm itself shows nothing where a terminal says 0
                self._bar = tqdm(total=maximum, file=self._out, bar_format=BAR, ncols=columns, nrows=rows)
            self._bar.n = value
            self._bar.refresh()
        elif value != self._said and (self._clock() >= self._next_line or value == maximum):
            self._next_line, self._said = self._clock() + LINE_SECONDS, value
            print(f"  {self._name(node)}: {value:g} of {maximum:g}", file=self._out, flush=True)

    def _name(self, node: str) -> str:
        return self._titles.get(node, f"node {node}")

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
