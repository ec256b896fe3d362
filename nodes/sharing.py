"""Routes for the page: files that a workflow names differently than this machine, the examples that it opens, and the
version it is saved with.

A workflow comes from anywhere, and so may a request. Each is checked and bounded before anything else looks at it, and
folders are read off the event loop.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import folder_paths
from aiohttp import http_exceptions, web
from server import PromptServer

from ..ovi_core.loading import contents, installed
from ..ovi_core.loading.folders import model_files
from ..ovi_core.loading.manifest import model_list
from ..ovi_core.loading.substitutes import FileInput, models, published, shared, stand_in
from ..ovi_core.spec import VARIANTS
from .loading.loaders import SAME_FILE
from .shared import examples

LARGEST_BODY = 4_000_000  # bytes
MOST_NODES = 1000
LONGEST_NAME = 1000  # characters
PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
# Inputs that name files, by node, from the node's first widget on.
INPUTS: dict[str, tuple[FileInput, ...]] = {
    "OviModelLoader": (
        FileInput("model_name", "diffusion_models", models()),
        FileInput("audio_model_name", "diffusion_models", without=SAME_FILE),
    ),
    "OviAudioVAELoader": (
        FileInput("vae_name", "vae", shared("audio VAE")),
        FileInput("vocoder_name", "vae", shared("vocoder"), without=SAME_FILE),
    ),
    "OviLoraLoader": (FileInput("lora_name", "loras"),),
}


def version() -> str:
    """The pack's, as in its project file."""
    found = re.search(r'^version = "(.+)"', PROJECT.read_text(encoding="utf-8"), re.MULTILINE)
    return found.group(1) if found else ""


class BadRequest(ValueError):
    """What is wrong with a request, as a sentence."""


def questions(body: bytes) -> list[tuple[str, list[Any]]]:
    """The loaders of a workflow: their node ids and values.

    Args:
        body: JSON, a list of objects with ``type`` and ``values``.

    Raises:
        BadRequest: it is anything else, or too much.
    """
    return [_question(number, node) for number, node in enumerate(_list(body, "nodes"))]


def _list(body: bytes, of: str) -> list[Any]:
    """The list that a body holds; ``of`` says of what, for the sentence."""
    try:
        asked = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise BadRequest("The body is not JSON.") from error
    if not isinstance(asked, list):
        raise BadRequest(f"The body is not a list of {of}.")
    if len(asked) > MOST_NODES:
        raise BadRequest(f"The body lists {len(asked)} {of}; at most {MOST_NODES} are answered.")
    return asked


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _question(number: int, node: Any) -> tuple[str, list[Any]]:
    kind, values = (node.get("type"), node.get("values")) if isinstance(node, dict) else (None, None)
    if not isinstance(kind, str) or kind not in INPUTS:
        raise BadRequest(f"Node {number} is none of {', '.join(sorted(INPUTS))}.")
    if not isinstance(values, list):
        raise BadRequest(f"Node {number} has no list of values.")
    for given, value in zip(INPUTS[kind], values, strict=False):
        if isinstance(value, str) and len(value) > LONGEST_NAME:
            raise BadRequest(f"Node {number} has a {given.name} of more than {LONGEST_NAME} characters.")
    return kind, values


def answers(body: bytes) -> list[dict[str, Any]]:
    """:func:`opened` for every node of a request; each combination of names is looked up once.

    Raises:
        BadRequest: as :func:`questions`.
    """
    found: dict[str, dict[str, Any]] = {}
    answered = []
    for kind, values in questions(body):
        names = values[: len(INPUTS[kind])]
        key = json.dumps([kind, names])
        if key not in found:
            found[key] = opened(kind, names)
        answered.append({**found[key], "values": found[key]["values"] + values[len(names) :]})
    return answered


def placed(body: bytes) -> dict[str, Any]:
    """Put the example files that a workflow names into the input folder.

    Args:
        body: JSON, a list of names.

    Returns:
        ``placed``, the files that were not there, and ``notes`` as sentences.

    Raises:
        BadRequest: it is anything else, or too much.
    """
    asked = _list(body, "names")
    wanted = [name for name in asked if isinstance(name, str)]
    if len(wanted) < len(asked):
        raise BadRequest("The body lists what is no name.")
    new, notes = examples.place(wanted)
    return {"placed": new, "notes": notes}


def lacking(body: bytes) -> dict[str, list[dict[str, str]]]:
    """Where the files of variants that are not on this machine are published, for ComfyUI's own dialog.

    Args:
        body: JSON, a list of variants; what is none is left out.

    Raises:
        BadRequest: it is anything else, or too much.
    """
    asked = {name for name in _list(body, "variants") if isinstance(name, str)}
    answer, files = {}, installed.listed()
    for variant in [variant for name, variant in VARIANTS.items() if name in asked]:
        missing = {part.saved_as for part in contents.find(variant, files).missing}
        answer[variant.name] = [model for model in model_list(variant) if model["name"] in missing]
    return answer


def opened(kind: str, values: Sequence[Any]) -> dict[str, Any]:
    """What becomes of a node's file names on this machine.

    Args:
        kind: the node's id, one of :data:`INPUTS`.
        values: its ``widgets_values``.

    Returns:
        ``values`` with files that are here, ``notes`` as sentences, and ``models``, where missing ones are published.
    """
    changed, notes, wanted = list(values), [], []
    for index, given in enumerate(INPUTS[kind][: len(values)]):
        asked, files = values[index], _files(given.folder)
        if not isinstance(asked, str) or asked in files or asked == given.without:
            continue
        found = stand_in(asked, files, given.parts) or given.without
        source = published(asked)
        if found is None:
            wanted += [source] if source else []
            continue
        changed[index] = found
        where = f" It is published at {source['url']}." if source else ""
        notes.append(f"'{asked}' is not on this machine, so {given.name} is set to '{found}'.{where}")
    return {"values": changed, "notes": notes, "models": wanted}


def _files(folder: str) -> list[str]:
    return model_files() if folder == "diffusion_models" else folder_paths.get_filename_list(folder)


def offer(nodes: Iterable[str]) -> None:
    """Add the routes; ``nodes`` are the ids of the pack's nodes."""
    server = getattr(PromptServer, "instance", None)
    if server is None:
        return
    about = {"version": version(), "nodes": sorted(nodes), "loaders": sorted(INPUTS), "variants": list(VARIANTS)}

    @server.routes.get("/ovi_native")
    async def send_about(_request: web.Request) -> web.Response:
        return web.json_response(about)

    @server.routes.post("/ovi_native/opened")
    async def send_opened(request: web.Request) -> web.Response:
        return await _answered(request, answers)

    @server.routes.post("/ovi_native/missing")
    async def send_missing(request: web.Request) -> web.Response:
        return await _answered(request, lacking)

    @server.routes.post("/ovi_native/examples")
    async def send_examples(request: web.Request) -> web.Response:
        return await _answered(request, placed)


async def _answered(request: web.Request, answer: Callable[[bytes], Any]) -> web.Response:
    try:
        body = await _body(request)
        found = await asyncio.get_running_loop().run_in_executor(None, answer, body)
    except BadRequest as error:
        return web.json_response({"error": str(error)}, status=400)
    return web.json_response(found)


async def _body(request: web.Request) -> bytes:
    """The body of a request.

    Raises:
        BadRequest: it is over :data:`LARGEST_BODY`, or does not arrive whole.
    """
    body = bytearray()
    try:
        async for piece in request.content.iter_any():
            body += piece
            if len(body) > LARGEST_BODY:
                raise BadRequest(f"The body is over {LARGEST_BODY:,} bytes.")
    except (OSError, web.HTTPException, http_exceptions.HttpProcessingError) as error:
        raise BadRequest("The body did not arrive.") from error
    return bytes(body)
