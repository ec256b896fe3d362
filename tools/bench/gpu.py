"""The published size on a card: seconds a step and memory, beside the straightforward way and beside the estimate."""

from __future__ import annotations

import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from .cases import Case, Kernels, difference, gigabytes, interleaved, measured
from .plain_forward import PlainTwin

DEVICE = "cuda"
MODEL: dict[str, Any] = {}  # the published size
CLIPS = {"720x720_5s": (704, 704, 31), "960x960_10s": (960, 960, 61)}
CHUNKS = (8192, 4096)
ALIKE = 0.05
"""Relative difference above which the two forwards did not compute the same; bf16 alone makes about a hundredth."""
STREAMING_LIMIT = 150.0  # seconds


def fill(report: dict[str, Any], repeats: int, seconds: float, save: Callable[[], None]) -> None:
    """Fill the report part by part, and ``save`` it after each. A part that fails leaves its error in its place."""
    rates = _part(report, "rates", save, lambda: {"matmul_tflops": round(_matmul_rate() / 1e12, 1)})
    cases: list[Case] = []

    def make() -> dict[str, Any]:
        cases.append(Case(MODEL, next(iter(CLIPS.values())), DEVICE, torch.bfloat16))
        return {"gb": gigabytes(_weight_bytes(cases[0]))}

    _part(report, "weights", save, make)
    for name in CLIPS if cases else ():
        report[name] = {}
        step = partial(_step, cases[0], CLIPS[name], repeats, seconds, rates.get("matmul_tflops"))
        _part(report[name], "step", save, step)
        for chunk in CHUNKS:
            _part(report[name], f"low memory {chunk}", save, partial(_low_memory, cases[0], chunk))
    cases.clear()
    _tidy()
    _part(report, "streaming", save, _streaming)


def _part(into: dict[str, Any], name: str, save: Callable[[], None], work: Callable[[], dict[str, Any]]) -> dict:
    print(f"bench: {name} ...", file=sys.stderr, flush=True)
    start = time.perf_counter()
    try:
        into[name] = work()
    except Exception as error:
        into[name] = {"error": f"{type(error).__name__}: {error}"}
    into[name]["took_seconds"] = round(time.perf_counter() - start, 1)
    print(f"bench: {name}: {json.dumps(into[name])}", file=sys.stderr, flush=True)
    save()
    _tidy()
    return into[name]


def _tidy() -> None:
    gc.collect()
    if DEVICE == "cuda":
        torch.cuda.empty_cache()


def _weight_bytes(case: Case) -> int:
    return sum(weight.nbytes for weight in case.transformer.parameters())


def _lying() -> int:
    """Bytes that lie on the card between forwards."""
    return torch.cuda.memory_allocated() if DEVICE == "cuda" else 0


def _matmul_rate(size: int = 8192, repeats: int = 20) -> float:
    """Measured bf16 matmul rate of the card in FLOP/s."""
    a, b = (torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    seconds = [measured(lambda: a @ b, DEVICE)[0] for _ in range(repeats)]
    return 2 * size**3 / statistics.median(seconds)


def _step(case: Case, clip: tuple[int, int, int], repeats: int, seconds: float, rate: float | None) -> dict[str, Any]:
    """One step of both forwards, in turns."""
    from ovi_native.ovi_core.spec import ClipShape

    case.set_clip(ClipShape(*clip))
    bare = _lying()
    case.begin_run()
    lying, twin, counter = _lying(), PlainTwin(case.transformer.state_dict()), FlopCounterMode(display=False)
    with Kernels() as our_kernels, counter:
        outs = case.ours()
    with Kernels() as plain_kernels:
        apart = difference(outs, case.plain(twin))
    if not apart < ALIKE:
        raise RuntimeError(f"The two forwards differ by {apart:.1e}: their times would compare different things.")
    del outs
    runs = {"ours": case.ours, "straightforward": lambda: case.plain(twin)}
    taken = interleaved(runs, repeats, DEVICE, warm=True, budget=seconds)
    ours, plain = taken["ours"], taken["straightforward"]
    tflop = counter.get_total_flops() / 1e12
    estimate = _estimate(case)
    return {
        "clip": dict(zip(("width", "height", "video_steps"), clip, strict=True)),
        "tokens": dict(zip(("video", "audio"), case.tokens, strict=True)),
        "relative_difference": round(apart, 5),
        "rounds": ours.rounds,
        "seconds_per_step": {name: round(some.seconds, 4) for name, some in taken.items()},
        "ours / straightforward": round(ours.seconds / plain.seconds, 3),
        "tflop_per_step": round(tflop, 1),
        "share_of_matmul_rate": {name: _share(tflop, some.seconds, rate) for name, some in taken.items()},
        "attention": {"ours": sorted(our_kernels.names), "straightforward": sorted(plain_kernels.names)},
        "peak_gb": {name: gigabytes(some.peak) for name, some in taken.items()},
        "kept_for_the_run_gb": gigabytes(lying - bare),
        # of both: beside weights, inputs and what our run keeps, which lies there while either of them runs
        "beside_weights_gb": {name: gigabytes(some.peak - lying) for name, some in taken.items()},
        "estimate_gb": gigabytes(estimate),
        "ours / estimate": round((ours.peak - lying) / estimate, 3),
    }


def _share(tflop: float, seconds: float, rate: float | None) -> float | None:
    return round(tflop / seconds / rate, 3) if rate else None


def _estimate(case: Case, chunk: int = 0) -> int:
    from ovi_native.ovi_core.model.memory_estimate import activation_bytes

    return activation_bytes(case.transformer.config, 2, *case.tokens, case.dtype.itemsize, chunk)


def _low_memory(case: Case, chunk: int) -> dict[str, Any]:
    """The same clip as *Ovi Low Memory* runs it, once."""
    from ovi_native.ovi_core.network.layers import CHUNK_TOKENS

    case.begin_run()
    lying = _lying()
    seconds, peak = measured(lambda: case.ours(**{CHUNK_TOKENS: chunk}), DEVICE)
    estimate = _estimate(case, chunk)
    return {
        "seconds_per_step": round(seconds, 4),
        "beside_weights_gb": gigabytes(peak - lying),
        "estimate_gb": gigabytes(estimate),
        "ours / estimate": round((peak - lying) / estimate, 3),
    }


def _streaming() -> dict[str, Any]:
    """In a process of its own: what ComfyUI needs for it hooks into the card's driver."""
    root = Path(__file__).resolve().parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "tools.bench.streaming"],
        cwd=root, capture_output=True, text=True, check=False, timeout=STREAMING_LIMIT,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"it ended with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(next(line for line in reversed(done.stdout.splitlines()) if line.startswith("{")))
