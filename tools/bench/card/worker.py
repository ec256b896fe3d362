"""One part in its own process: ``python3 -m tools.bench.card.worker PART [--toy]``. A line of JSON for each result."""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from ... import pack
from . import attention, caps, fp8, kernels, steps, vae_decode
from .size import FULL, TOY, Measure, Size

PARTS: dict[str, Callable[[Size], Iterator[tuple[str, Measure]]]] = {
    "kernels": kernels.kernels,
    "ceiling": kernels.ceiling,
    "attention": attention.attention,
    "whole step": steps.whole_step,
    "fp8": fp8.fp8,
    "vae decode": vae_decode.vae_decode,
    "caps": caps.caps,
}


def results(part: str, size: Size) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and results of a part. What fails has its error for a result, and the rest goes on."""
    try:
        for name, measure in PARTS[part](size):
            began = time.perf_counter()
            try:
                result = measure()
            except Exception as error:
                result = failed(error)
            result["took_seconds"] = round(time.perf_counter() - began, 2)
            yield name, result
            _tidy(size)
    except Exception as error:
        yield "error", failed(error)


def failed(error: Exception) -> dict[str, Any]:
    """The error as a result, its text shortened."""
    return {"error": f"{type(error).__name__}: {error}"[:600]}


def _tidy(size: Size) -> None:
    gc.collect()
    if size.device == "cuda":
        torch.cuda.empty_cache()


def main() -> int:
    part, toy = sys.argv[1], "--toy" in sys.argv
    if part == "caps" and not toy:
        caps.prepare()
    pack.load("--use-pytorch-cross-attention", *(["--cpu"] if toy else []))
    with torch.no_grad():
        for name, result in results(part, TOY if toy else FULL):
            print(json.dumps({"measured": name, "result": result}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
