"""Loads ComfyUI and this pack into the running Python, the way ComfyUI itself loads a custom node."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = "ovi_native"
"""Package name of the checkout: its folder's need not be a Python identifier."""


def load(*flags: str) -> None:
    """Make ``comfy`` and ``ovi_native`` importable, with ComfyUI started as by ``main.py *flags``.

    The ComfyUI is that of ``COMFYUI_PATH``, else the pinned copy.

    Raises:
        RuntimeError: there is none.
    """
    comfyui = Path(os.environ.get("COMFYUI_PATH") or ROOT / ".comfyui" / "ComfyUI")
    if not (comfyui / "comfy").is_dir():
        raise RuntimeError(f"No ComfyUI at {comfyui}: start with 'python3 dev.py', or set COMFYUI_PATH.")
    # ComfyUI first: its module `nodes` and our folder of that name must not be confused.
    sys.path.insert(0, str(comfyui))
    arguments, sys.argv = sys.argv, ["main.py", *flags]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.cli_args  # reads the flags now, before torch devices are looked up

    sys.argv = arguments
    register()


def register() -> None:
    """Make ``ovi_native`` importable; what of it needs no ComfyUI can be used without one."""
    if NAME in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(NAME, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
