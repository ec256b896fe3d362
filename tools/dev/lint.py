"""Style, lint and types: ``ruff check``, ``ruff format --check`` and mypy."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from .server import link_folder
from .setup import ROOT, Installation, say


def run(installation: Installation, root: Path = ROOT) -> int:
    """Run all three, even when the first fails; 0 when all are clean."""
    python = str(installation.python)
    failed = False
    for name, command in (
        ("ruff check", [python, "-m", "ruff", "check", "--output-format", "concise", "."]),
        ("ruff format --check", [python, "-m", "ruff", "format", "--check", "--quiet", "."]),
        ("mypy", [python, "-m", "mypy", *mypy_arguments(root)]),
    ):
        say(f"{name} ...")
        view = _named_view(root) if name == "mypy" else root
        failed |= subprocess.run(command, cwd=view, check=False, env=_environment(view)).returncode != 0
    say("There is something to mend." if failed else "All clean.")
    return 1 if failed else 0


def mypy_arguments(root: Path) -> list[str]:
    """What mypy checks, seen from the named view."""
    packages = ["-p", "ovi_native.ovi_core", "-p", "ovi_native.nodes", "-p", "tools", "-m", "dev"]
    return ["--config-file", str(root / "pyproject.toml"), "--cache-dir", str(root / ".mypy_cache"), *packages]


def _named_view(root: Path) -> Path:
    """A folder in which the checkout is the package ``ovi_native``.

    The root is a package (ComfyUI wants that) whose folder may have any name, even one that is no Python identifier,
    and mypy cannot follow relative imports through such a name. The view lasts, so that mypy's cache stays valid.
    """
    view = root / ".mypy_cache" / "view"
    view.mkdir(parents=True, exist_ok=True)
    link_folder(view / "ovi_native", root)
    link_folder(view / "tools", root / "tools")
    shutil.copyfile(root / "dev.py", view / "dev.py")
    return view


def _environment(view: Path) -> dict[str, str]:
    return {**os.environ, "MYPYPATH": str(view)}
