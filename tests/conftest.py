"""Loads a real ComfyUI and this pack in one process, the way ComfyUI itself loads a custom node."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMFYUI = Path(os.environ.get("COMFYUI_PATH") or ROOT / ".comfyui" / "ComfyUI")


def _load_host() -> None:
    if not (COMFYUI / "comfy").is_dir():
        raise RuntimeError(f"No ComfyUI at {COMFYUI}: run the tests with 'python3 dev.py test', or set COMFYUI_PATH.")
    sys.path.insert(0, str(COMFYUI))
    sys.argv = ["main.py", "--cpu"]  # comfy.options reads it on import
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.cli_args  # noqa: F401  (fixes the CPU choice before torch devices are looked up)


def _load_pack() -> None:
    """Register the checkout as package ``ovi_native``: its folder name is not a Python identifier."""
    spec = importlib.util.spec_from_file_location("ovi_native", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["ovi_native"] = module
    spec.loader.exec_module(module)


sys.path.insert(0, str(Path(__file__).parent))  # helper modules of the tests
_load_host()
_load_pack()
