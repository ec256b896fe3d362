"""Notes to the artist that are no errors: on the node itself and in the log."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from server import PromptServer


def tell(node: str, node_id: Any, notes: Iterable[str]) -> None:
    """Show ``notes`` under the node with ``node_id`` and write them to the log as warnings of ``node``."""
    notes = list(notes)
    for note in notes:
        logging.warning("%s: %s", node, note)
    server = getattr(PromptServer, "instance", None)
    if notes and server is not None and node_id is not None:
        server.send_progress_text("\n\n".join(notes), node_id)
