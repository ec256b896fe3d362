"""What the page asks when it opens a workflow: files under other names, and the version that it is saved with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import folder_paths
from aiohttp import web
from server import PromptServer

from ..ovi_core.loading.folders import model_files
from ..ovi_core.loading.substitutes import FileInput, models, published, shared, stand_in
from .loaders import SAME_FILE

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


def opened(kind: str, values: Sequence[Any]) -> dict[str, Any]:
    """What becomes of a node's file names on this machine.

    Args:
        kind: the node's id, one of :data:`INPUTS`.
        values: its ``widgets_values``.

    Returns:
        ``values`` with files that are here, ``told`` as sentences, and ``models``, where missing ones are published.
    """
    changed, told, wanted = list(values), [], []
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
        told.append(f"'{asked}' is not on this machine, so {given.name} is set to '{found}'.{where}")
    return {"values": changed, "told": told, "models": wanted}


def _files(folder: str) -> list[str]:
    return model_files() if folder == "diffusion_models" else folder_paths.get_filename_list(folder)


def offer(nodes: Iterable[str]) -> None:
    """Let the page ask; ``nodes`` are the ids of the pack's nodes."""
    server = getattr(PromptServer, "instance", None)
    if server is None:
        return
    about = {"version": version(), "nodes": sorted(nodes), "loaders": sorted(INPUTS)}

    @server.routes.get("/ovi_native")
    async def tell_about(_request: web.Request) -> web.Response:
        return web.json_response(about)

    @server.routes.post("/ovi_native/opened")
    async def tell_opened(request: web.Request) -> web.Response:
        asked = await request.json()
        return web.json_response([opened(node["type"], node["values"]) for node in asked])
