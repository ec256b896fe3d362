"""Run by itself: loads each set of files named on the command line, and prints what that took, as JSON.

A process of its own, so that memory which earlier tests gave back is not taken for none. What counts is private memory:
pages of a mapped file are the system's, to drop when others need the room.
"""

from __future__ import annotations

import gc
import json
import re
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def private_bytes() -> int:
    kilobytes = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
    assert kilobytes is not None
    return int(kilobytes[1]) * 1024


class Watch(threading.Thread):
    """While it runs: ``peak``, most private memory that was seen."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.over = 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.001):
            self.peak = max(self.peak, private_bytes())


def main(cases: list[list]) -> None:
    sys.path.append(str(ROOT))
    from tools import pack

    pack.load("--cpu")
    from ovi_native.ovi_core.loading.loader import load_model

    taken = []
    for case in [cases[0], *cases]:  # the first time also loads code
        gc.collect()
        before, watch = private_bytes(), Watch()
        watch.start()
        model = load_model(*case)
        watch.over.set()
        watch.join()
        taken.append(max(watch.peak, private_bytes()) - before)
        del model
    print(json.dumps(taken[1:]))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
