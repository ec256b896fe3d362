"""Runs the parts one after another, each in a process of its own, and saves what is known.

A part that crashes, or that takes more than its time, leaves that in the report; what it had measured stays, and the
next part runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
SECONDS = {
    "kernels": 45,
    "ceiling": 25,
    "attention": 25,
    "whole step": 165,
    "fp8": 50,
    "vae decode": 75,
    "caps": 95,
}
"""The parts in their order, and the most that each may take: 8 minutes in all."""
LEAST = 5.0
"""Seconds below which a part is not begun."""
Save = Callable[[], Any]
Start = Callable[[str, float, bool], Iterator[tuple[str, dict[str, Any]]]]


def command(part: str, toy: bool) -> list[str]:
    """What runs a part."""
    return [sys.executable, "-m", "tools.bench.card.worker", part, *(["--toy"] if toy else [])]


def in_process(part: str, limit: float, toy: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and results of a part, as soon as it knows them; the last may be an error."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(command(part, toy), cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True)
        timer = threading.Timer(limit, process.kill)
        timer.start()
        try:
            for line in process.stdout or ():
                if line.startswith('{"measured"'):
                    found = json.loads(line)
                    yield found["measured"], found["result"]
            process.wait()
        finally:
            timer.cancel()
            process.kill()
        if time.perf_counter() - began >= limit:
            yield "error", {"error": f"not done within {limit:.0f} s"}
        elif process.returncode:
            errors.seek(0)
            yield "error", {"error": f"it ended with {process.returncode}: {errors.read()[-1500:]}"}


def fill(
    report: dict[str, Any], save: Save, toy: bool = False, start: Start = in_process, total: float | None = None
) -> None:
    """Fill the report, and ``save`` it after everything that was measured.

    Args:
        toy: on a CPU, at the size of a toy.
        start: runs a part.
        total: seconds for all parts.
    """
    ends = time.perf_counter() + (sum(SECONDS.values()) if total is None else total)
    for part, seconds in SECONDS.items():
        results = report[part] = {}
        left = min(seconds, ends - time.perf_counter())
        if left < LEAST:
            results["error"] = {"error": "no time was left"}
            save()
            continue
        print(f"bench: {part}, at most {left:.0f} s ...", file=sys.stderr, flush=True)
        for name, result in start(part, left, toy):
            _put(results, name, result)
            print(f"bench: {part}: {name}: {json.dumps(result)}", file=sys.stderr, flush=True)
            save()
    report["compared"] = compared(report)
    save()


def _put(results: dict[str, Any], name: str, result: dict[str, Any]) -> None:
    """Under ``name``, which may be that of a clip and of a way, with a colon between them."""
    clip, colon, way = name.partition(": ")
    if colon:
        results.setdefault(clip, {})[way] = result
    else:
        results[name] = result


def compared(report: dict[str, Any]) -> dict[str, Any]:
    """What follows from two parts: shares of the sustained rate, and what a cap costs."""
    out: dict[str, Any] = {}
    for clip, steps in report.get("whole step", {}).items():
        ceiling = report.get("ceiling", {}).get(clip, {}).get("tflop_per_second")
        ways = {name: way for name, way in steps.items() if isinstance(way, dict) and "seconds_per_step" in way}
        found: dict[str, Any] = {}
        if ceiling:
            found["share_of_sustained_matmul_rate"] = {
                name: round(way["tflop_per_second"] / ceiling, 3)
                for name, way in ways.items()
                if way.get("tflop_per_second")
            }
        capped = report.get("caps", {}).get(clip, {}).get("seconds_per_step")
        if capped and ways:
            fastest = min(way["seconds_per_step"] for name, way in ways.items() if "compiled" not in name)
            found["capped / uncapped step"] = round(capped / fastest, 3)
        if found:
            out[clip] = found
    return out
