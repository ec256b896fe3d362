"""The rules of the house: sizes, words, and imports without cycles."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from tools.dev import lint
from tools.dev.setup import ROOT

FOLDERS = [ROOT / name for name in ("ovi_core", "nodes", "tools")]
FILES = sorted(file for folder in FOLDERS for file in folder.rglob("*.py"))
FILE_LINES, FUNCTION_LINES, PACKAGE_FILES = 400, 60, 14


def long_functions(file: Path) -> list[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, functions)]
    return [node.name for node in found if (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES]


def test_no_file_and_no_function_is_long():
    found = [str(file) for file in FILES if len(file.read_text(encoding="utf-8").splitlines()) > FILE_LINES]
    found += [f"{file}: {name}" for file in FILES for name in long_functions(file)]
    assert found == [], f"At most {FILE_LINES} lines in a file and {FUNCTION_LINES} in a function: split them."


def test_a_function_over_the_limit_is_found(tmp_path: Path):
    file = tmp_path / "long.py"
    body = "\n".join(["    pass"] * FUNCTION_LINES)
    file.write_text(f"def fits():\n{body[: body.rindex(chr(10))]}\n\n\ndef too_long():\n{body}\n", encoding="utf-8")
    assert long_functions(file) == ["too_long"]


def test_no_package_has_many_files():
    folders = {file.parent for file in FILES}
    counts = {folder: sum(file.name != "__init__.py" for file in folder.glob("*.py")) for folder in folders}
    assert {str(folder): count for folder, count in counts.items() if count > PACKAGE_FILES} == {}


def test_comfyui_is_called_by_its_name():
    """The word stays free for what it means elsewhere: a machine, a memory, a part of an address."""
    other = re.compile(r"host (memory|name)|host\.invalid|to host\b|\bhost[=:]|127\.0\.0\.1", re.IGNORECASE)
    lines = [(file, line) for file in FILES for line in file.read_text(encoding="utf-8").splitlines()]
    found = [
        f"{file}: {line.strip()}" for file, line in lines if re.search(r"\bhost\b", line) and not other.search(line)
    ]
    assert found == []


def test_tools_import_each_other_without_cycles():
    graph = grimp.build_graph("tools", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    packages = {module for module in graph.modules if graph.find_children(module)}
    order = graphlib.TopologicalSorter({module: found - packages for module, found in imports.items()})
    order.prepare()  # raises CycleError, which names the cycle


@pytest.mark.parametrize("package", ["tests", "test_"])
def test_no_test_imports_another(package: str):
    pattern = re.compile(rf"^\s*(from|import) {package}", re.MULTILINE)
    files = (ROOT / "tests").rglob("*.py")
    assert [str(file) for file in files if pattern.search(file.read_text(encoding="utf-8"))] == []


def test_a_breach_of_a_contract_fails_the_lint(tmp_path: Path):
    """The same command as ``dev.py lint``, on a tree whose lowest layer imports its highest."""
    package = tmp_path / "ovi_core"
    for layer, text in (("story", ""), ("errors", "from ..story import film\n")):
        (package / layer).mkdir(parents=True)
        (package / layer / "__init__.py").write_text(text, encoding="utf-8")
    (package / "story" / "film.py").touch()
    (package / "__init__.py").touch()
    contract = '[[tool.importlinter.contracts]]\nname = "layers"\ntype = "layers"\ncontainers = ["ovi_core"]\n'
    settings = f'[tool.importlinter]\nroot_packages = ["ovi_core"]\n\n{contract}layers = ["story", "errors"]\n'
    (tmp_path / "pyproject.toml").write_text(settings, encoding="utf-8")

    def run() -> subprocess.CompletedProcess[str]:
        command = lint.import_linter(sys.executable, tmp_path)
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    broken = run()
    assert broken.returncode == 1
    assert "ovi_core.errors is not allowed to import ovi_core.story" in " ".join(broken.stdout.split())
    (package / "errors" / "__init__.py").write_text("", encoding="utf-8")
    assert run().returncode == 0


def test_lint_runs_the_contracts():
    commands = dict(lint.commands(sys.executable, ROOT))
    assert commands["import-linter"] == lint.import_linter(sys.executable, ROOT)
    assert {"ruff check", "ruff format --check", "mypy"} < commands.keys()
