"""Runs one target in a process of its own: input after input, with what each costs (``python3 -m tools.fuzz.worker``).

What is counted lies in a file that the parent reads while this process runs, hangs, or has been killed.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import importlib
import io
import json
import logging
import mmap
import os
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import ModuleType, TracebackType
from typing import NamedTuple

STATE = struct.Struct("<QQQd")
"""Inputs begun, inputs refused, most bytes above the baseline, seconds of the slowest input."""
CURRENT, FINDINGS, COUNTS = "current", "findings.jsonl", "counts"
LONGEST_MESSAGE = 4000  # characters of an OviError
SHRINK_RUNS, SHRINK_SECONDS = 400, 5.0
WARM_UP = 30
"""Inputs before the baseline is taken: imports and caches of libraries are not what an input costs."""


class Finding(NamedTuple):
    """What one input did wrong.

    Attributes:
        kind: exception and place, equal for inputs that fail the same way.
        text: traceback or sentence.
    """

    kind: str
    text: str


def load(target: str) -> ModuleType:
    """The target's module, once ComfyUI and the pack are loaded."""
    from .. import pack

    pack.load("--cpu")
    return importlib.import_module(f"{__package__}.targets.{target}")


def source(target: str, seed: int, index: int) -> Random:
    """The numbers that draw one input."""
    return Random(f"{target} {seed} {index}")


def attempt(module: ModuleType, data: bytes, folder: Path) -> tuple[bool, Finding | None]:
    """Give one input to the target: whether it was refused, and what is wrong if something is."""
    from ovi_native.ovi_core.errors import OviError

    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            module.run(data, folder)
    except OviError as error:
        said = str(error)
        if len(said.splitlines()) != 1 or len(said) > LONGEST_MESSAGE:
            return True, Finding("the message is not one line of a readable length", said[:LONGEST_MESSAGE])
        return True, None
    except Exception as error:
        return False, Finding(
            f"{type(error).__name__} in {_place(error.__traceback__)}", traceback.format_exc()[-6000:]
        )
    return False, None


def _place(trace: TracebackType | None) -> str:
    """The last line of ours that an exception came through."""
    frames = [
        frame for frame in traceback.extract_tb(trace) if "ovi_core" in frame.filename or "nodes" in frame.filename
    ]
    return f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "another library"


def shrunk(module: ModuleType, data: bytes, folder: Path, kind: str) -> bytes:
    """A shorter input of the same kind of failure, as far as a few seconds go."""
    until, runs, step = time.monotonic() + SHRINK_SECONDS, 0, max(1, len(data) // 2)
    while step and runs < SHRINK_RUNS and time.monotonic() < until:
        at, before = 0, len(data)
        while at < len(data) and runs < SHRINK_RUNS and time.monotonic() < until:
            shorter = data[:at] + data[at + step :]
            runs += 1
            found = attempt(module, shorter, folder)[1]
            if found and found.kind == kind:
                data = shorter
            else:
                at += step
        if len(data) == before:
            step //= 2
    return data


class Worker:
    """Counts and findings of one target, kept in ``work``."""

    def __init__(self, module: ModuleType, target: str, seed: int, work: Path):
        self.module, self.target, self.seed, self.work = module, target, seed, work
        self.known: set[str] = set()
        self.refused, self.most, self.slowest = 0, 0, 0.0
        with (work / COUNTS).open("r+b") as file:
            self._state = mmap.mmap(file.fileno(), STATE.size)
        self._current = (work / CURRENT).open("wb", buffering=0)

    def run(self, start: int, seconds: float, memory: int) -> None:
        """Inputs from number ``start`` on, for ``seconds``; ``memory``: bytes that one may take above the baseline."""
        until, index = time.monotonic() + seconds, start
        with tempfile.TemporaryDirectory(prefix="ovi-fuzz-") as folder:
            while time.monotonic() < until:
                if index == start + WARM_UP:
                    gc.collect()
                    _reset_peak()
                    baseline, self.slowest = _peak(), 0.0
                    _limit(memory)
                self._one(index, Path(folder))
                if index > start + WARM_UP and index % 16 == 0:
                    self.most = max(self.most, _peak() - baseline)
                index += 1

    def _one(self, index: int, folder: Path) -> None:
        data = self.module.make(source(self.target, self.seed, index))
        self._current.seek(0)
        self._current.truncate()
        self._current.write(data)
        STATE.pack_into(self._state, 0, index + 1, self.refused, self.most, self.slowest)
        began = time.process_time()  # of this process alone: another that is busy makes no input slow
        refused, finding = attempt(self.module, data, folder)
        self.slowest = max(self.slowest, time.process_time() - began)
        self.refused += refused
        if finding:
            self._keep(data, finding, folder)

    def _keep(self, data: bytes, finding: Finding, folder: Path) -> None:
        """Note a finding; the first of its kind with a short input."""
        if new := finding.kind not in self.known:
            self.known.add(finding.kind)
            data = shrunk(self.module, data, folder, finding.kind)
            name = f"{self.target}-{hashlib.sha256(data).hexdigest()[:10]}{self.module.SUFFIX}"
            (self.work / name).write_bytes(data)
        with (self.work / FINDINGS).open("a", encoding="utf-8") as file:
            entry = {"kind": finding.kind} | ({"file": name, "text": finding.text} if new else {})
            file.write(json.dumps(entry) + "\n")


def _reset_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """Most bytes that were resident since the last reset; 0 where the system does not say."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0


def _limit(memory: int) -> None:
    """Let this process have ``memory`` bytes more than it has, where the system can hold it to that."""
    with contextlib.suppress(ImportError, OSError, StopIteration):
        import resource

        with open("/proc/self/status", encoding="ascii") as status:
            has = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
        resource.setrlimit(resource.RLIMIT_DATA, (has + memory, resource.RLIM_INFINITY))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("work", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--memory", type=int, default=500)
    parser.add_argument("--replay", type=Path)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    module = load(arguments.target)
    if arguments.replay:
        refused, finding = attempt(module, arguments.replay.read_bytes(), arguments.work)
        print(finding.text if finding else "refused with an OviError" if refused else "taken")
        return 1 if finding else 0
    with _quiet():
        Worker(module, arguments.target, arguments.seed, arguments.work).run(
            arguments.start, arguments.seconds, arguments.memory * 10**6
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
