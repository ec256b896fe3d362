"""Runs many mixed prompts on one server with the small model, and watches what grows (``dev.py soak --prompts 300``).

Every clip is checked; some prompts are interrupted, some are wrong and have to be refused. Growth of memory,
descriptors, threads or temporary files beyond a bound fails the run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path

from ..dev.problems import DevError
from ..dev.server import Server, stopped_by_signals
from ..dev.setup import ROOT, Installation, say
from . import watch
from .run import Report, prepare, soak

OUTPUT = ROOT / "output" / "soak.json"


def main() -> int:
    arguments = _arguments()
    installation = Installation(Path(sys.executable), Path(os.environ["COMFYUI_PATH"]))
    try:
        with stopped_by_signals(), tempfile.TemporaryDirectory(prefix="ovi-soak-") as work:
            base, models = Path(work, "base"), Path(work, "models")
            prepare(base, models)
            os.environ["TMPDIR"] = str(base / "tmp")  # of the server, which inherits it
            say("Starting ComfyUI ...")
            with Server(installation, base, models=models) as server:
                report = soak(server, arguments.prompts, arguments.seed)
    except DevError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return shown(report)


def shown(report: Report) -> int:
    """Print the report and write it to ``output/``; 1 when something is wrong, else 0."""
    grown = watch.growth(report.states, len(report.states) // 5)
    wrong = report.wrong + watch.complaints(grown)
    OUTPUT.parent.mkdir(exist_ok=True)
    told = {"ends": report.ends, "clips": report.clips, "growth": grown, "wrong": wrong}
    told["states"] = [dataclasses.asdict(state) for state in report.states]
    OUTPUT.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(watch.table(report.states))
    print(f"memory  {watch.curve([state.memory for state in report.states])}")
    print(", ".join(f"{count} {end}" for end, count in report.ends.items()) + f"; {report.clips} clips checked")
    print("growth after the warm-up: " + ", ".join(f"{name} {by:+,}" for name, by in grown.items()))
    for line in wrong:
        print(f"WRONG {line}")
    return 1 if wrong else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev.py soak", description=__doc__.split("\n")[0])
    parser.add_argument("--prompts", type=int, default=300, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other prompts")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
