"""Programs for people who work on the pack; ComfyUI never imports them.

The checkout is a package (ComfyUI wants that) whose folder may have any name, even one that is no Python identifier.
Here it is importable as ``ovi_native``.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

PACK = "ovi_native"


class PackFinder:
    """Finds the checkout under its name; what of it needs no ComfyUI can be used without one."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name != PACK:
            return None
        root = Path(__file__).resolve().parent.parent
        return importlib.util.spec_from_file_location(
            PACK, root / "__init__.py", submodule_search_locations=[str(root)]
        )


if not any(getattr(finder, "__name__", "") == PackFinder.__name__ for finder in sys.meta_path):
    sys.meta_path.append(PackFinder)
