"""docs/architecture.md names files that exist, and every use of ComfyUI beyond its documented interface."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
INTERFACE = ROOT / "tests" / "test_comfyui_interface.py"
HEAD = "| file | uses |\n|---|---|\n"
REWRITE = "python3 dev.py test tests/test_architecture.py --rewrite"


def uses() -> dict[str, list[str]]:
    """Names of ComfyUI's by file of ours, as the tests of the interface list them."""
    found: dict[str, list[str]] = {}
    for name, file in re.findall(r'Use\(\s*"([\w.]+)",\s*"([\w/]+\.py)"', INTERFACE.read_text(encoding="utf-8")):
        found.setdefault(file, []).append(name)
    return found


def table() -> str:
    rows = [
        f"| `{file.removeprefix('ovi_core/')}` | {', '.join(f'`{n}`' for n in names)} |"
        for file, names in uses().items()
    ]
    return HEAD + "\n".join(rows) + "\n\n"


def test_the_list_of_uses_is_that_of_the_tests(request: pytest.FixtureRequest):
    page = PAGE.read_text(encoding="utf-8")
    start = page.index(HEAD)
    end = page.index("\n\n", start) + 2
    if request.config.getoption("--rewrite"):
        PAGE.write_text(page[:start] + table() + page[end:], encoding="utf-8")
    assert len(uses()) > 10
    assert PAGE.read_text(encoding="utf-8")[start:].startswith(table()), f"Run '{REWRITE}'."


def test_every_file_on_the_page_exists():
    page = PAGE.read_text(encoding="utf-8")
    for name in re.findall(r"`([\w/]+\.(?:py|js))`", page):
        assert [*ROOT.glob(name), *ROOT.glob(f"*/{name}"), *ROOT.glob(f"ovi_core/*/{name}")], name


def test_every_package_is_in_the_diagram():
    diagram = PAGE.read_text(encoding="utf-8").split("```")[1]
    packages = {folder.name for folder in (ROOT / "ovi_core").iterdir() if (folder / "__init__.py").is_file()}
    assert packages <= set(re.findall(r"^  (\w+)\[", diagram, re.MULTILINE))
