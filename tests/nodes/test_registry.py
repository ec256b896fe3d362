"""The pack as the Comfy registry would take it and a user would get it."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import subprocess
import sys
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tools.dev.server import PACK_FOLDER, Server
from tools.dev.setup import ROOT, Installation

COMFYUI = Path(os.environ.get("COMFYUI_PATH") or ROOT / ".comfyui" / "ComfyUI")
LARGEST = 40e6  # bytes
SNAPSHOT = ROOT / "tests" / "snapshots" / "nodes.json"
HOST_MODULES = {path.stem for path in COMFYUI.iterdir() if path.suffix == ".py" or path.is_dir()}

tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads pyproject.toml by itself")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def listed(*options: str) -> set[str]:
    """Files that git lists."""
    listing = subprocess.run(["git", "ls-files", "-z", *options], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(listing.stdout.split("\0")) - {""}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive that is uploaded: what git tracks, less what .comfyignore names (``comfy node pack``)."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout: nothing says which files belong to the package")
    file = tmp_path_factory.mktemp("package") / "node.zip"
    chosen = listed() - listed("--cached", "--ignored", "--exclude-from=.comfyignore")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as package:
        for name in sorted(chosen):
            if (ROOT / name).is_file():
                package.write(ROOT / name, name)
    return file


@pytest.fixture(scope="module")
def installed(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive unpacked into the custom nodes of an empty working folder of ComfyUI."""
    folder = tmp_path_factory.mktemp("base") / "custom_nodes" / PACK_FOLDER
    with zipfile.ZipFile(archive) as package:
        package.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def server(installed: Path) -> Iterator[Server]:
    installation = Installation(Path(sys.executable), COMFYUI)
    with Server(installation, installed.parent.parent, pack=installed) as running:
        yield running


def get(server: Server, path: str) -> bytes:
    with urllib.request.urlopen(server.url + urllib.parse.quote(path)) as answer:
        return answer.read()


def test_the_package_is_small_and_holds_nothing_of_development(archive: Path):
    assert archive.stat().st_size < LARGEST
    with zipfile.ZipFile(archive) as package:
        names = package.namelist()
    assert {"__init__.py", "pyproject.toml", "requirements.txt", "LICENSE", "NOTICE"} <= set(names)
    assert {f"assets/{file.name}" for file in (ROOT / "assets").glob("ovi_example_*")} <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "tools/", ".ci/", "output/"))]


def test_a_clean_comfyui_gets_every_node_and_workflow_from_the_package(installed: Path, server: Server):
    assert not installed.is_symlink()
    info = json.loads(get(server, "/object_info"))
    ours = {name for name, node in info.items() if PACK_FOLDER in node["python_module"]}
    assert ours == json.loads(SNAPSHOT.read_text(encoding="utf-8")).keys()
    titles = json.loads(get(server, "/workflow_templates"))[PACK_FOLDER]
    assert set(titles) == {file.stem for file in (ROOT / "workflows").glob("*.json")}
    for title in titles:
        assert json.loads(get(server, f"/api/workflow_templates/{PACK_FOLDER}/{title}.json"))["nodes"]


def test_what_comfy_node_validate_warns_of_is_nowhere():
    """Its rules, with its command line: no exec, no eval, one statement a line."""
    command = [sys.executable, "-m", "ruff", "check", ".", "-q", "--select", "S102,S307,E702"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_the_pages_scripts_are_named_after_the_pack(project: dict[str, Any]):
    """All packs' extensions share one list, and the page refuses a name that is taken."""
    scripts = [file.read_text(encoding="utf-8") for file in (ROOT / "web").rglob("*.js")]
    names = [name for script in scripts for name in re.findall(r"registerExtension\(\{\s*name: '([^']+)'", script)]
    assert len(names) == len(set(names)) == len(scripts)
    assert all(name.startswith(project["project"]["name"] + ".") for name in names)


def test_nothing_has_to_be_installed_but_what_the_readme_gives_a_reason_for(project: dict[str, Any]):
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    needed = [line for line in lines if line and not line.startswith("#")]
    assert needed == project["project"]["dependencies"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.split("## Dependencies")[1].split("\n## ")[0]
    assert re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE) == [name_of(line) for line in needed]
    for extra in project["project"]["optional-dependencies"].values():
        assert all(f"`{name_of(line)}`" in table for line in extra)


def name_of(requirement: str) -> str:
    return re.split(r"[<>=!~\[; ]", requirement.strip(), maxsplit=1)[0].lower().replace("_", "-")


def install(names: set[str], there: set[str]) -> None:
    """Add packages and, without their extras, what they need to those that are ``there``."""
    for name in names - there:
        there.add(name)
        with contextlib.suppress(PackageNotFoundError):
            install({name_of(line) for line in requires(name) or [] if "extra ==" not in line}, there)


def imported(tree: ast.AST, within: bool = False) -> Iterator[tuple[str, bool]]:
    """Top-level names that code imports, and whether only within a function or under TYPE_CHECKING."""
    for child in ast.iter_child_nodes(tree):
        guard = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        later = within or guard or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
        if isinstance(child, ast.Import):
            yield from ((alias.name.split(".")[0], later) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.level == 0 and child.module:
            yield child.module.split(".")[0], later
        yield from imported(child, later)


def test_the_code_imports_only_what_comfyui_has_and_optional_packages_late(installed: Path, project: dict[str, Any]):
    requirements = (COMFYUI / "requirements.txt").read_text(encoding="utf-8").splitlines()
    requirements += project["project"]["dependencies"]
    there: set[str] = set()
    install({name_of(line) for line in requirements if line and not line.startswith("#")}, there)
    optional = {name_of(line) for extra in project["project"]["optional-dependencies"].values() for line in extra}
    optional.add("cryptography")  # comes with c2pa-python
    owners = packages_distributions()
    strangers = set()
    for file in installed.rglob("*.py"):
        for module, late in imported(ast.parse(file.read_text(encoding="utf-8"))):
            if module in sys.stdlib_module_names or module in HOST_MODULES:
                continue
            owner = {name.lower().replace("_", "-") for name in owners.get(module, [module])}
            if not owner & (there | (optional if late else set())):
                strangers.add((file.relative_to(installed).as_posix(), module))
    assert strangers == set()


def test_the_registry_is_told_what_it_asks_for(project: dict[str, Any]):
    told, comfy = project["project"], project["tool"]["comfy"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", told["version"])
    assert f"## {told['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.fullmatch(r">=\d+\.\d+\.\d+", comfy["requires-comfyui"])
    assert all(told[key] for key in ("name", "description", "license", "requires-python"))
    assert all(comfy[key] for key in ("PublisherId", "DisplayName"))
    assert told["name"] == PACK_FOLDER
    icon, banner = (ElementTree.parse(ROOT / comfy[key]).getroot().attrib for key in ("Icon", "Banner"))
    assert int(icon["width"]) == int(icon["height"]) <= 400
    assert int(banner["width"]) * 9 == int(banner["height"]) * 21


def test_workflows_name_the_pack_that_their_nodes_come_from(project: dict[str, Any]):
    ours = json.loads(SNAPSHOT.read_text(encoding="utf-8")).keys()
    for file in (ROOT / "workflows").glob("*.json"):
        for node in json.loads(file.read_text(encoding="utf-8"))["nodes"]:
            if node["type"] in ours:
                assert node["properties"]["cnr_id"] == project["project"]["name"], (file.name, node["type"])
