"""Notes to the user that are no errors: under the node and in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from comfy_api.latest import io
from server import PromptServer


def node_id(node: type[io.ComfyNode]) -> str | None:
    """The id that the running graph gives ``node``; None outside a run, or where its schema does not ask for it."""
    return node.hidden.unique_id if node.hidden else None


def warn(node: type[io.ComfyNode], notes: Iterable[str]) -> None:
    """Write ``notes`` to the log as warnings of ``node`` and show them under it."""
    notes = list(notes)
    if notes:
        name = node.define_schema().display_name
        for note in notes:
            logging.warning("%s: %s", name, note)
        show(node, "\n\n".join(notes))


def below(node: type[io.ComfyNode], notes: Iterable[str]) -> Callable[[str], None]:
    """A function that shows a line under ``node``, below ``notes`` that stay."""
    above = "".join(f"{note}\n\n" for note in notes)
    return lambda line: show(node, above + line)


def show(node: type[io.ComfyNode], text: str) -> None:
    """Show ``text`` under ``node`` while it runs."""
    server, number = getattr(PromptServer, "instance", None), node_id(node)
    if server is not None and number is not None:
        server.send_progress_text(text, number)
