"""A real headless ComfyUI with this checkout as its only custom node, started and stopped without traces."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from .problems import DevError, port_taken
from .setup import ROOT, Installation, say

PACK_FOLDER = "comfyui-ovi-native"
START_SECONDS = 300
STOP_SECONDS = 10


def _environment() -> dict[str, str]:
    """The server's: its log comes line by line, and its threads sleep while they wait for each other.

    Threads that wait by spinning make a step several times slower as soon as another program wants a core.
    """
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONUNBUFFERED": "1"}


class Server:
    """A ComfyUI process in a process group of its own. Use it as a context manager.

    Args:
        installation: the Python and the ComfyUI to run.
        base: working directory; ``custom_nodes``, ``models``, ``input``, ``output``, ``user`` and ``temp`` are in it.
        port: TCP port on 127.0.0.1; None takes any free one.
        models: folder laid out like ComfyUI's ``models/``; None for the one inside ``base``.
        pack: the custom node to load.

    Raises:
        DevError: the port is taken, the process died, or ComfyUI could not import a node file.
    """

    def __init__(
        self,
        installation: Installation,
        base: Path,
        port: int | None = None,
        models: Path | None = None,
        pack: Path = ROOT,
    ):
        self.installation, self.base, self.models, self.pack = installation, base, models, pack
        self.port = free_port() if port is None else port
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = base / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id, which is also the id of the process group."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process and return once the server answers."""
        require_free(self.port)
        prepare_base(self.base, self.pack, self.models)
        try:
            with self.log.open("wb") as log:
                self._process = subprocess.Popen(
                    self._command(),
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    env=_environment(),
                    start_new_session=True,  # the terminal's Ctrl-C reaches only dev.py, which then stops the group
                )
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the process and everything it started; returns once they are gone."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            _signal_group(process, signal.SIGTERM)
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # The group may outlive its leader, and a second Ctrl-C may have cut the wait short.
            _signal_group(process, getattr(signal, "SIGKILL", signal.SIGTERM))
            process.wait()

    def leave_running(self) -> None:
        """Let the server outlive this object and this process."""
        self._process = None

    def follow(self) -> None:
        """Copy the log to the terminal until the server ends."""
        with self.log.open("r", encoding="utf-8", errors="replace") as log:
            while True:
                text = log.read()
                if text:
                    sys.stderr.write(text)
                    sys.stderr.flush()
                elif not self.running:
                    return
                else:
                    time.sleep(0.2)

    def died(self) -> DevError:
        """The paragraph for a server that ended by itself, with the end of its log."""
        return DevError(f"ComfyUI ended by itself. The end of its log ({self.log}):\n{self._log_tail()}")

    def _command(self) -> list[str]:
        main = str(self.installation.comfyui / "main.py")
        command = [str(self.installation.python), main, "--port", str(self.port), "--base-directory", str(self.base)]
        command += ["--disable-api-nodes", "--database-url", "sqlite:///:memory:"]
        return command if has_gpu(self.installation.python) else [*command, "--cpu"]

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if not self.running:
                raise self.died()
            if time.monotonic() > deadline:
                raise DevError(f"ComfyUI did not answer within {START_SECONDS} s. Its log:\n{self._log_tail()}")
            time.sleep(0.2)
        log = self._read_log()
        if "IMPORT FAILED" in log:
            raise DevError(f"ComfyUI could not import a node file. From its log ({self.log}):\n{import_failure(log)}")

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + "/system_stats", timeout=5):
                return True
        except OSError:  # URLError is one
            return False

    def _log_tail(self, lines: int = 30) -> str:
        return "\n".join(self._read_log().splitlines()[-lines:])

    def _read_log(self) -> str:
        return re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text(encoding="utf-8", errors="replace"))


def import_failure(log: str) -> str:
    """The lines of a server's log that say why a node file could not be imported: tracebacks and their summaries."""
    lines = log.splitlines()
    last = max(index for index, line in enumerate(lines) if "IMPORT FAILED" in line)
    start = next((index for index, line in enumerate(lines) if line.startswith("Traceback")), last)
    causes = [line for line in lines[:start] if "Error while calling" in line or "Cannot import" in line]
    return "\n".join([*causes, *lines[start : last + 1]][-60:])


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    if os.name == "nt":
        process.terminate()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@functools.cache
def has_gpu(python: Path) -> bool:
    """Whether that Python's PyTorch can use a CUDA (or ROCm) device."""
    if python == Path(sys.executable) and "torch" in sys.modules:
        return sys.modules["torch"].cuda.is_available()
    code = "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 1)"
    return subprocess.run([str(python), "-c", code], stderr=subprocess.DEVNULL, check=False).returncode == 0


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def require_free(port: int) -> None:
    """Raise :class:`DevError` when a program listens on the port, or it cannot be used at all."""
    with socket.socket() as probe:
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port just given back is free
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            raise DevError(
                f"Port {port} needs administrator rights. Choose one above 1023, such as --port 8199"
            ) from None
        except (OSError, OverflowError):
            raise port_taken(port) from None


def prepare_base(base: Path, pack: Path, models: Path | None) -> None:
    """Lay out a working directory whose only custom node is ``pack`` and whose models are those of ``models``."""
    nodes = base / "custom_nodes"
    for folder in (nodes, base / "input", base / "output"):
        folder.mkdir(parents=True, exist_ok=True)
    strangers = sorted(entry.name for entry in nodes.iterdir() if entry.name not in (PACK_FOLDER, "__pycache__"))
    if strangers:
        raise DevError(f"{nodes} must hold this checkout alone, and also holds {', '.join(strangers)}. Take that out.")
    link_folder(nodes / PACK_FOLDER, pack)
    if models is not None:
        link_folder(base / "models", models)
    elif not (base / "models").exists():
        (base / "models").unlink(missing_ok=True)
        (base / "models").mkdir()


def link_folder(link: Path, target: Path) -> None:
    """Make ``link`` a link to the folder ``target``, replacing an older link, unless it is that folder itself."""
    if link.resolve() == target.resolve():
        return
    if link.is_symlink():
        link.unlink()
    elif link.is_dir() and not any(link.iterdir()):
        link.rmdir()
    elif link.exists():
        raise DevError(f"{link} should be a link to {target}, and there is something else. Move it away and try again.")
    link.symlink_to(target.resolve(), target_is_directory=True)


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Within it, SIGTERM and SIGHUP end the program as Ctrl-C does, so that ``finally`` blocks run."""

    def leave(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    names = [signal.SIGTERM] + ([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])
    heeded = [number for number in names if signal.getsignal(number) != signal.SIG_IGN]  # nohup ignores SIGHUP
    before = {number: signal.signal(number, leave) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def serve(installation: Installation, base: Path, port: int, models: Path | None) -> int:
    """Run a server in the foreground until Ctrl-C; its log goes to the terminal."""
    with stopped_by_signals(), Server(installation, base, port, models) as server:
        say(f"ComfyUI is running at {server.url} (Ctrl-C stops it)")
        server.follow()
        raise server.died()
