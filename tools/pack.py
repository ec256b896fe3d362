"""Loads ComfyUI and this pack into the running Python, the way ComfyUI itself loads a custom node.

``python3 -m tools.pack MODULE ...`` runs a module after that, on the CPU.
"""

from __future__ import annotations

import importlib
import os
import runpy
import sys
from pathlib import Path

from . import PACK

ROOT = Path(__file__).resolve().parent.parent


def load(*flags: str) -> None:
    """Make ``comfy`` importable, with ComfyUI started as by ``main.py *flags``, and import ``ovi_native``.

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
    importlib.import_module(PACK)


def main() -> None:
    load("--cpu")
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
