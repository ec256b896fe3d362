"""Cost of one forward, as ratios measured in one interleaved run (``python3 dev.py bench``).

On any machine: our forward of a positive and a negative prompt, against (a) the same done the straightforward way
(``plain_forward.py``) and (b) the bare matrix products, convolutions and attentions in it. On a CUDA card, at the
published size with random weights: ``--gpu`` measures what a step and a decode take and where the time goes, within 8
minutes (``card/``); ``--gpu --compare`` instead compares our step with the straightforward one, in seconds and memory.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from .. import pack
from . import gpu as gpu_module
from .card import run as card
from .cases import Case, Recorder, difference, interleaved
from .plain_forward import PlainTwin

CPU_MODEL = {"dim": 768, "ffn_dim": 3584, "num_layers": 4, "text_dim": 256}
CPU_CLIP = (256, 256, 13)


CARD_REPORT = Path("output") / "benchmark-gpu.json"


def main() -> int:
    arguments = _arguments()
    if arguments.toy:
        return _on_a_card(arguments)
    # On a CPU ComfyUI would take an attention made to save memory; cards get PyTorch's, as both sides do here.
    pack.load("--use-pytorch-cross-attention", *([] if arguments.gpu else ["--cpu"]))
    if arguments.gpu and not torch.cuda.is_available():
        print("bench --gpu needs a CUDA card, and PyTorch sees none.", file=sys.stderr)
        return 1
    if arguments.gpu and not arguments.compare:
        return _on_a_card(arguments)
    report: dict[str, Any] = {"date": datetime.date.today().isoformat(), "machine": _machine(arguments.gpu)}

    def save() -> None:
        if arguments.write:
            arguments.write.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    with torch.no_grad():
        if arguments.gpu:
            gpu_module.fill(report, arguments.repeats, arguments.seconds, save)
        else:
            report |= cpu_report(arguments.repeats)
    print(json.dumps(report, indent=1))
    save()
    return 0


def _on_a_card(arguments: argparse.Namespace) -> int:
    """The parts of ``card/``, each in a process of its own, which leaves the card to it."""
    file = arguments.write or CARD_REPORT
    file.parent.mkdir(parents=True, exist_ok=True)
    if arguments.toy:
        pack.load("--cpu")
    report: dict[str, Any] = {"date": datetime.date.today().isoformat(), "machine": _machine(not arguments.toy)}
    if arguments.toy:
        report["toy"] = "on a CPU, at the size of a toy: this shows that the script runs, and measures nothing"
    card.fill(report, lambda: file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8"), arguments.toy)
    print(json.dumps(report, indent=1))
    print(f"bench: the report is in {file}", file=sys.stderr)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev.py bench", description=__doc__.split("\n")[0])
    parser.add_argument("--gpu", action="store_true", help="the published size on a CUDA card")
    parser.add_argument("--compare", action="store_true", help="with --gpu: our step beside the straightforward one")
    parser.add_argument(
        "--toy", action="store_true", help="what --gpu does, on the CPU at the size of a toy: a rehearsal"
    )
    parser.add_argument("--repeats", type=int, default=9, help="rounds to take medians of (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=25, help="on a card, for the rounds of one clip (default: %(default)s)"
    )
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help="write the report there, part by part; --gpu does so in output/",
    )
    return parser.parse_args()


def _machine(gpu: bool) -> dict[str, Any]:
    import comfyui_version

    versions = {"python": platform.python_version(), "torch": torch.__version__, "comfyui": comfyui_version.__version__}
    if gpu:
        card = torch.cuda.get_device_properties(0)
        return {"gpu": card.name, "gpu_memory_gib": round(card.total_memory / 2**30, 1), **versions}
    model = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine()
    )
    return {"cpu": model, "threads": torch.get_num_threads(), **versions}


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def cpu_report(repeats: int) -> dict[str, Any]:
    """Ratios on the CPU in float32, at a size that takes about a second a forward."""
    case = Case(CPU_MODEL, CPU_CLIP, "cpu", torch.float32)
    twin = PlainTwin(case.transformer.state_dict())
    apart = difference(case.ours(), case.plain(twin))
    if apart > 1e-4:
        raise RuntimeError(f"The two forwards differ by {apart:.1e}: their times would compare different things.")
    with Recorder() as bare:
        case.ours()
    runs = {"ours": case.ours, "straightforward": lambda: case.plain(twin), "bare operations": bare.replay}
    medians = {name: taken.seconds for name, taken in interleaved(runs, repeats, "cpu").items()}
    return {
        "what": "one step (positive and negative prompt), float32",
        "model": CPU_MODEL,
        "clip": dict(zip(("width", "height", "video_steps"), CPU_CLIP, strict=True)),
        "relative_difference": apart,
        "median_seconds": {name: round(seconds, 4) for name, seconds in medians.items()},
        "ours / straightforward": round(medians["ours"] / medians["straightforward"], 3),
        "ours / bare operations": round(medians["ours"] / medians["bare operations"], 3),
    }


if __name__ == "__main__":
    sys.exit(main())
