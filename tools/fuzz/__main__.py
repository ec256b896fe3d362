"""Tries random inputs on everything that reads what it does not trust: ``python3 dev.py fuzz --minutes 10``.

Each target runs in a process of its own, which may take 500 MB above its baseline and 10 s for one input. What is
neither taken nor refused with an OviError is a finding; its input is shortened and kept in ``output/fuzz/``.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from ..dev.setup import ROOT, say
from .targets import TARGETS
from .worker import COUNTS, CURRENT, FINDINGS, SHRINK_SECONDS, STATE

OUTPUT = ROOT / "output" / "fuzz"
LIMIT_SECONDS, LIMIT_MEGABYTES = 10.0, 500
START_SECONDS = 180.0  # until the first input: ComfyUI is imported


@dataclass
class Result:
    """What the runs of one target found.

    Attributes:
        inputs: how many were tried.
        refused: how many of them ended in an OviError.
        findings: how often each kind of failure occurred.
        most: bytes above the baseline.
        slowest: seconds of the slowest input.
    """

    target: str
    inputs: int = 0
    refused: int = 0
    findings: Counter[str] = field(default_factory=Counter)
    most: int = 0
    slowest: float = 0.0

    @property
    def good(self) -> bool:
        return not self.findings and self.slowest <= LIMIT_SECONDS and self.most <= LIMIT_MEGABYTES * 10**6


def fuzz(
    target: str, seconds: float, seed: int, output: Path = OUTPUT, worker: Sequence[str] = ("-m", "tools.fuzz.worker")
) -> Result:
    """Run a target for a time, in a new process after each one that hung or died.

    Args:
        seed: another one gives other inputs.
        output: folder for inputs that fail.
        worker: Python's arguments for the process.
    """
    result, until, start, starts = Result(target), time.monotonic() + seconds, 0, 0
    output.mkdir(parents=True, exist_ok=True)
    while time.monotonic() < until or not starts:
        starts += 1
        with tempfile.TemporaryDirectory(prefix="ovi-fuzz-") as work:
            (Path(work) / COUNTS).write_bytes(bytes(STATE.size))
            left = max(1.0, until - time.monotonic())
            arguments = [*worker, target, work, "--start", str(start), "--seconds", str(left), "--seed", str(seed)]
            ended = _watched(arguments, Path(work), start)
            begun, refused, most, slowest = STATE.unpack((Path(work) / COUNTS).read_bytes())
            result.inputs += max(0, begun - start)
            result.refused += refused
            result.most, result.slowest = max(result.most, most), max(result.slowest, slowest)
            _collect(result, Path(work), output)
            if ended:
                result.findings[ended] += 1
                _keep_current(target, Path(work), output, ended)
        if begun <= start:  # it does not even begin
            break
        start = begun
    return result


def _watched(arguments: list[str], work: Path, start: int) -> str:
    """Run one worker; what ended it if not the time: that it hangs, or how it died."""
    command = [sys.executable, *arguments, "--memory", str(LIMIT_MEGABYTES)]
    log = (work / "log").open("w+b")
    process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    try:
        last, began = start, Clock(process.pid)
        while process.poll() is None:
            time.sleep(0.2)
            begun = STATE.unpack((work / COUNTS).read_bytes())[0]
            if begun > last:
                last, began = begun, Clock(process.pid)
            patience = (
                LIMIT_SECONDS + SHRINK_SECONDS if last > start else START_SECONDS
            )  # shortening a finding takes seconds, too
            if began.elapsed() > patience:
                return f"hangs: one input takes more than {LIMIT_SECONDS:g} s"
    finally:
        process.kill()
        process.wait()
        log.seek(0)
        said = log.read().decode("utf-8", "replace")[-1500:]
        log.close()
    return "" if process.returncode == 0 else f"the process died ({process.returncode}): {said.strip()[-300:]}"


class Clock:
    """Time that a process has been busy since now; asleep it counts a tenth, for a busy machine makes it wait, too."""

    def __init__(self, pid: int):
        self._pid, self._began = pid, time.monotonic()
        self._busy = self._used()

    def _used(self) -> float:
        try:
            return sum(psutil.Process(self._pid).cpu_times()[:2])
        except psutil.Error:  # it has ended
            return 0.0

    def elapsed(self) -> float:
        """Seconds."""
        return max(self._used() - self._busy, (time.monotonic() - self._began) / 10)


def _collect(result: Result, work: Path, output: Path) -> None:
    findings = work / FINDINGS
    for line in findings.read_text(encoding="utf-8").splitlines() if findings.is_file() else ():
        found = json.loads(line)
        new = found["kind"] not in result.findings
        result.findings[found["kind"]] += 1
        if new and "file" in found:
            shutil.copyfile(work / found["file"], output / found["file"])
            text = (output / found["file"]).with_suffix(".txt")
            text.write_text(f"{found['kind']}\n\n{found['text']}\n", encoding="utf-8", errors="backslashreplace")


def _keep_current(target: str, work: Path, output: Path, ended: str) -> None:
    if (work / CURRENT).is_file():
        name = f"{target}-{time.time_ns()}"
        shutil.copyfile(work / CURRENT, output / f"{name}.input")
        (output / f"{name}.txt").write_text(ended + "\n", encoding="utf-8")


def table(results: list[Result]) -> str:
    """The results as a table in Markdown."""
    rows = [
        f"| {result.target} | {result.inputs:,} | {result.refused:,} | {sum(result.findings.values()):,} "
        f"| {result.slowest:.2f} s | {result.most / 1e6:.0f} MB |"
        for result in results
    ]
    total = f"| all | {sum(r.inputs for r in results):,} | {sum(r.refused for r in results):,} "
    total += f"| {sum(sum(r.findings.values()) for r in results):,} | {max(r.slowest for r in results):.2f} s "
    total += f"| {max(r.most for r in results) / 1e6:.0f} MB |"
    heading = "| target | inputs | refused | raw errors | slowest | most memory |\n|---|---:|---:|---:|---:|---:|"
    return "\n".join([heading, *rows, total])


def main() -> int:
    arguments = _arguments()
    targets = arguments.target or list(TARGETS)
    if arguments.replay:
        command = [sys.executable, "-m", "tools.fuzz.worker", targets[0], "--replay", str(arguments.replay)]
        with tempfile.TemporaryDirectory() as work:
            return subprocess.run([*command, work], cwd=ROOT, check=False).returncode
    seconds = arguments.minutes * 60 * arguments.jobs / len(targets)
    results = []
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for result in pool.map(lambda target: fuzz(target, seconds, arguments.seed), targets):
            results.append(result)
            say(f"{result.target}: {result.inputs:,} inputs, {len(result.findings)} kind(s) of raw errors")
            for kind, count in result.findings.most_common():
                say(f"  {count:,} x {kind}")
    print(table(results))
    if all(result.good for result in results):
        return 0
    print(f"What fails is kept in {OUTPUT}; see 'dev.py fuzz --replay FILE --target NAME'.")
    return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev.py fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=12, help="for all targets together (default: %(default)s)")
    parser.add_argument("--target", action="append", choices=TARGETS, help="one target alone; may be given repeatedly")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other inputs")
    parser.add_argument("--jobs", type=int, default=1, help="targets that run at the same time (default: %(default)s)")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="give a kept input to --target and print the error")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
