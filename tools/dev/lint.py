"""Style, layers and types: ``ruff check``, ``ruff format --check``, import-linter and mypy."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from .server import link_folder
from .setup import ROOT, Installation, say


def run(installation: Installation, root: Path = ROOT) -> int:
    """Run all four, even when the first fails.

    Returns:
        The exit status: 0 when all are clean, else 1.
    """
    failed = False
    for name, command in commands(str(installation.python), root):
        say(f"{name} ...")
        view = _named_view(root) if name == "mypy" else root
        failed |= subprocess.run(command, cwd=view, check=False, env=_environment(view)).returncode != 0
    say("There is something to fix." if failed else "All clean.")
    return 1 if failed else 0


def commands(python: str, root: Path) -> list[tuple[str, list[str]]]:
    """Name and command line of each check."""
    return [
        ("ruff check", [python, "-m", "ruff", "check", "--output-format", "concise", "."]),
        ("ruff format --check", [python, "-m", "ruff", "format", "--check", "--quiet", "."]),
        ("import-linter", import_linter(python, root)),
        ("mypy", [python, "-m", "mypy", *mypy_arguments(root)]),
    ]


def import_linter(python: str, root: Path) -> list[str]:
    """The command that checks the contracts in ``pyproject.toml``; import-linter has no ``-m`` of its own."""
    code = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    return [python, "-c", code, "--config", str(root / "pyproject.toml")]


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
