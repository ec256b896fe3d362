"""What tests with a real ComfyUI server have in common."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from tools.dev.setup import ROOT, Installation
from tools.dev.workflow import Slot

COMFYUI = Path(os.environ.get("COMFYUI_PATH") or ROOT / ".comfyui" / "ComfyUI")
INSTALLATION = Installation(Path(sys.executable), COMFYUI)
"""The Python and the ComfyUI that the tests themselves run with."""


def is_valid(slot: Slot, value: Any) -> bool:
    """Whether the page would accept ``value`` in a widget."""
    config = slot.config
    if slot.kind in ("INT", "FLOAT"):
        number = isinstance(value, int if slot.kind == "INT" else (int, float)) and not isinstance(value, bool)
        return number and config.get("min", value) <= value <= config.get("max", value)
    if slot.kind == "DYNAMIC":
        return value in [option["key"] for option in config["options"]]
    if slot.kind == "COMBO":
        return value in config["options"]
    if slot.kind == "CONTROL":
        return value in ("fixed", "increment", "decrement", "randomize")
    return isinstance(value, bool if slot.kind == "BOOLEAN" else str)
