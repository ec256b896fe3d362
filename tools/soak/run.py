"""Runs orders one after the other on a server, interrupts some, and checks what comes out of each."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import threading
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from ..dev import client
from ..dev.clip_check import check_clip, read_clip
from ..dev.demo import saved_videos
from ..dev.problems import DevError
from ..dev.server import Server
from ..dev.setup import ROOT, say
from ..workflows.results import write_lora
from .prompts import Order, orders
from .watch import State, state

INTERRUPTED = "The run was interrupted on the server."
BROKEN_LORA = "broken.safetensors"
START_SECONDS = 30.0  # in which a prompt that is to be interrupted has to begin


@dataclass
class Report:
    """What a run of many prompts showed.

    Attributes:
        ends: how many prompts ended how: done, interrupted, refused.
        wrong: what was not as it should be, in words.
        states: of the server, after each prompt.
    """

    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    clips: int = 0


def prepare(base: Path, models: Path) -> None:
    """Lay out the server's folders: the examples that the workflows open, a LoRA that fits and one that does not."""
    (base / "input").mkdir(parents=True, exist_ok=True)
    (base / "tmp").mkdir(exist_ok=True)
    for media in (ROOT / "assets").glob("ovi_example*"):
        shutil.copy(media, base / "input")
    write_lora(models / "loras")
    (models / "loras" / BROKEN_LORA).write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")


def soak(server: Server, count: int, seed: int) -> Report:
    """Run ``count`` prompts on a running server; ``seed``: another gives other prompts."""
    report, nodes = Report(), client.object_info(server.url)
    folders = [server.base / "tmp", server.base / "temp"]
    for number, order in enumerate(islice(orders(nodes, seed), count), 1):
        began = time.monotonic()
        end = _run(server, order, report)
        report.ends[end] += 1
        report.states.append(state(server.pid, folders))
        say(f"{number:4} {order.title}: {end}, {time.monotonic() - began:.1f} s, {report.states[-1]}")
    return report


def _run(server: Server, order: Order, report: Report) -> str:
    """Run one order; how it ended. What is not as ordered goes into the report."""
    stop = threading.Timer(order.interrupt, _interrupt, [server.url]) if order.interrupt is not None else None
    if stop:
        stop.start()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            history = client.run_prompt(server.url, order.prompt)
    except client.ConnectionLost:
        raise server.died() from None
    except DevError as error:
        return _failed(order, str(error), report)
    finally:
        if stop:
            stop.cancel()
            stop.join()
    if order.refused:
        report.wrong.append(f"{order.title}: a wrong {order.refused} was taken")
    videos = list(saved_videos(history, server.base))
    if not videos:
        report.wrong.append(f"{order.title}: no video was saved")
    for video in videos:
        report.clips += 1
        found = check_clip(read_clip(video), order.frames, order.size)
        report.wrong += [f"{order.title}: {row.name} {row.found}, wanted {row.wanted}" for row in found if not row.ok]
        video.unlink()
    return "done"


def _failed(order: Order, said: str, report: Report) -> str:
    if said == INTERRUPTED and order.interrupt is not None:
        return "interrupted"
    if order.refused and order.refused in said:
        return "refused"
    report.wrong.append(f"{order.title}: {said}")
    return "failed"


def _interrupt(url: str) -> None:
    """Interrupt the prompt that runs now, once one does, and no later one."""
    until = time.monotonic() + START_SECONDS
    with contextlib.suppress(OSError):
        while time.monotonic() < until:
            with urllib.request.urlopen(f"{url}/queue") as answer:
                running = json.load(answer)["queue_running"]
            for entry in running:
                body = json.dumps({"prompt_id": entry[1]}).encode()
                request = urllib.request.Request(f"{url}/interrupt", body, {"Content-Type": "application/json"})
                urllib.request.urlopen(request).close()
                return
            time.sleep(0.05)
