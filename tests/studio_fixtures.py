"""A server with the small model and the examples, and a page of it, for all tests of the page."""

from __future__ import annotations

import json
import os
import shutil
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tools.dev.server import Server
from tools.dev.setup import ROOT, Host

if TYPE_CHECKING:
    from browser import Studio

HOST = Host(Path(sys.executable), Path(os.environ.get("COMFYUI_PATH") or ROOT / ".comfyui" / "ComfyUI"))
MINI = ROOT / "models" / "ovi-mini"
LORA_KEY = "diffusion_model.blocks.0.self_attn.q"


@pytest.fixture(scope="session")
def page_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server with Ovi mini and a LoRA for it; the pack's example media are in its input folder."""
    from browser import find

    if find() is None:
        assert not os.environ.get("OVI_NEED_BROWSER"), "There is no Chromium, and OVI_NEED_BROWSER asks for one."
        pytest.skip("no Chromium on this machine: NOTHING of the page was tested (Debian: apt install chromium)")
    models = tmp_path_factory.mktemp("models")
    for folder in MINI.iterdir():
        if folder.is_dir():
            (models / folder.name).symlink_to(folder, target_is_directory=True)
    _write_lora(models / "loras")
    with Server(HOST, tmp_path_factory.mktemp("base"), models=models) as running:
        for media in (ROOT / "assets").iterdir():
            shutil.copy(media, running.base / "input")
        yield running


def _write_lora(folder: Path) -> None:
    """The LoRA that the workflows name: one matrix of the small model's video tower."""
    import torch
    from safetensors.torch import save_file

    from tools.workflows.shelf import LORA

    folder.mkdir()
    down, up = torch.full((1, 256), 0.01), torch.full((256, 1), 0.01)
    save_file({f"{LORA_KEY}.lora_A.weight": down, f"{LORA_KEY}.lora_B.weight": up}, folder / LORA)


@pytest.fixture(scope="session")
def page_nodes(page_server: Server) -> dict[str, Any]:
    """The server's ``/object_info``."""
    with urllib.request.urlopen(f"{page_server.url}/object_info") as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def page(page_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A browser with the server's page."""
    from browser import find, studio

    chromium = find()
    assert chromium
    with studio(chromium, page_server.url, tmp_path_factory.mktemp("profile")) as opened:
        yield opened
