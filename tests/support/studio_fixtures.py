"""A server with the small model and the examples for all tests that need no other, and a page of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from servers import INSTALLATION

from tools.dev import client
from tools.dev.server import Server
from tools.dev.setup import ROOT
from tools.workflows.advanced import WRITER
from tools.workflows.chains import FILES
from tools.workflows.results import write_lora

if TYPE_CHECKING:
    from browser import Studio


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server with Ovi mini, which the pack brings, a LoRA for it, and the pack's examples to open.

    Of the weights that others made only names are there, as the templates have them.
    """
    models = tmp_path_factory.mktemp("models")
    write_lora(models / "loras")
    others = [(folder, name) for name, (folder, _) in FILES.items()]
    for folder, name in [*others, (WRITER["directory"], WRITER["name"])]:
        (models / folder).mkdir(exist_ok=True)
        (models / folder / name).touch()
    with Server(INSTALLATION, tmp_path_factory.mktemp("base"), models=models) as running:
        for media in (ROOT / "assets").iterdir():
            shutil.copy(media, running.base / "input")
        yield running


@pytest.fixture(scope="session")
def page_server(shared_server: Server) -> Server:
    """The server whose page is opened."""
    from browser import find

    if find() is None:
        assert not os.environ.get("OVI_NEED_BROWSER"), "There is no Chromium, and OVI_NEED_BROWSER asks for one."
        pytest.skip("no Chromium on this machine: NOTHING of the page was tested (Debian: apt install chromium)")
    return shared_server


@pytest.fixture(scope="session")
def shared_nodes(shared_server: Server) -> dict[str, Any]:
    """The server's ``/object_info``."""
    return client.object_info(shared_server.url)


@pytest.fixture(scope="session")
def page_nodes(page_server: Server, shared_nodes: dict[str, Any]) -> dict[str, Any]:
    """The same, for tests of the page."""
    return shared_nodes


@pytest.fixture(scope="module")
def page(page_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A browser with the server's page."""
    from browser import find, studio

    chromium = find()
    assert chromium
    with studio(chromium, page_server.url, tmp_path_factory.mktemp("profile")) as opened:
        yield opened
