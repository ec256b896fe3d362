"""The card's clocks, where the time of a step goes by class of kernel, and the rate that matrix products sustain."""

from __future__ import annotations

import re
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch.profiler import ProfilerActivity, profile

from ..cases import Case, interleaved
from .size import Measure, Size, tflop_per_second

QUERIES = (
    "name",
    "driver_version",
    "clocks.sm",
    "clocks.max.sm",
    "clocks.mem",
    "power.draw",
    "power.limit",
    "temperature.gpu",
    "clocks_throttle_reasons.active",
)
CLASSES = {
    "attention": r"attention|flash|fmha|sdpa|softmax",
    "matrix products": r"gemm|nvjet|cutlass|xmma|cublas|::mm|addmm|bmm|conv[0-9o]|implicit_convolve|mkldnn",
    "norms": r"norm|adaln",
    "rope": r"rope",
    "copies and casts": r"copy|memcpy|memset|::to\b|fill",
    "GELU": r"gelu",
    "other elementwise": r"",
}
"""Of kernels and, on a CPU, of operations: the first that is found in the name."""
LONGEST = 15


def kernels(size: Size) -> Iterator[tuple[str, Measure]]:
    """Clocks; then for each clip the kernels of a few block pairs, and what each of comfy_kitchen's backends takes."""
    yield "clocks", clocks
    case = Case(size.few_pairs, next(iter(size.clips.values())), size.device, size.dtype)
    for name, clip in size.clips.items():
        set_clip(case, clip)
        yield name, partial(_by_class, case)
        yield f"{name}, comfy_kitchen", partial(_backends, case)
    yield "clocks after", clocks


def set_clip(case: Case, clip: tuple[int, int, int]) -> None:
    """Inputs of a clip for the case, and the results that a run keeps."""
    from ovi_native.ovi_core.spec import ClipShape

    case.set_clip(ClipShape(*clip))
    case.begin_run()


def clocks() -> dict[str, Any]:
    """What ``nvidia-smi`` says of the first card."""
    command = ["nvidia-smi", "-i", "0", f"--query-gpu={','.join(QUERIES)}", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    return dict(zip(QUERIES, (part.strip() for part in done.stdout.strip().split(",")), strict=False))


def _by_class(case: Case) -> dict[str, Any]:
    for _ in range(2):
        case.ours()
    on_card = case.device == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_card else ProfilerActivity.CPU]) as profiled:
        case.ours()
        if on_card:
            torch.cuda.synchronize()
    times: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    longest = []
    for event in profiled.key_averages():
        taken = event.self_device_time_total if on_card else event.self_cpu_time_total  # µs
        if not taken:
            continue
        kind = class_of(event.key)
        times[kind] += taken / 1e3
        counts[kind] += event.count
        longest.append((taken / 1e3, event.count, event.key[:160]))
    longest.sort(reverse=True)
    return {
        "block_pairs": case.transformer.config.num_layers,
        "milliseconds": {kind: round(times[kind], 3) for kind in CLASSES},
        "kernels": {kind: counts[kind] for kind in CLASSES},
        "longest": [
            {"milliseconds": round(ms, 3), "calls": calls, "name": name} for ms, calls, name in longest[:LONGEST]
        ],
    }


def class_of(name: str) -> str:
    """The class of a kernel or an operation, by its name."""
    return next(kind for kind, words in CLASSES.items() if re.search(words, name, re.IGNORECASE))


def _backends(case: Case) -> dict[str, Any]:
    """Seconds of the same block pairs with each backend of comfy_kitchen, or why there is none."""
    import comfy_kitchen
    from ovi_native.ovi_core.network import layers

    out: dict[str, Any] = {}
    for name, backend in sorted(comfy_kitchen.list_backends().items()):
        if not backend["available"] or (backend["disabled"] and name != "triton"):
            out[name] = {"not there": str(backend["unavailable_reason"] or "disabled by ComfyUI")[:200]}
            continue
        was_disabled = backend["disabled"]
        if was_disabled:
            comfy_kitchen.enable_backend(name)
        fused = name != "eager"
        try:
            with (
                comfy_kitchen.use_backend(name),
                patch.object(layers, "FUSED_NORM", fused and "adaln" in backend["capabilities"]),
                patch.object(layers, "FUSED_ROPE", fused and "apply_rope1" in backend["capabilities"]),
            ):
                out[name] = {"seconds": round(interleaved({name: case.ours}, 3, case.device)[name].seconds, 5)}
        except Exception as error:
            out[name] = {"error": f"{type(error).__name__}: {error}"[:300]}
        finally:
            if was_disabled:
                comfy_kitchen.disable_backend(name)
    return out


def ceiling(size: Size) -> Iterator[tuple[str, Measure]]:
    """For each clip the rate of the video tower's matrix products of a block pair, back to back for some seconds."""
    from ovi_native.ovi_core.network.transformer import OviConfig

    config = OviConfig(**size.model)
    for name, clip in size.clips.items():
        yield name, partial(_sustained, size, products_of(config, 2 * _video_tokens(clip)))
    if size.device == "cuda":
        yield "clocks", clocks


def products_of(config: Any, tokens: int) -> list[tuple[int, int, int]]:
    """(rows, inner, columns) of the products in a block pair that the video's ``tokens`` of both prompts go through.

    q, k, v, o; q and o of cross-attention; the keys and values for the audio tower; the feed-forward.
    """
    square = (tokens, config.dim, config.dim)
    return [square] * 8 + [(tokens, config.dim, config.ffn_dim), (tokens, config.ffn_dim, config.dim)]


def _video_tokens(clip: tuple[int, int, int]) -> int:
    width, height, frames = clip
    return frames * (width // 32) * (height // 32)


def _sustained(size: Size, products: list[tuple[int, int, int]]) -> dict[str, Any]:
    def drawn(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, device=size.device, dtype=size.dtype)

    inputs = {(rows, inner): drawn(rows, inner) for rows, inner, _ in products}
    weights = [drawn(inner, columns) for _, inner, columns in products]
    flop = sum(2 * rows * inner * columns for rows, inner, columns in products)

    def all_products() -> None:
        for (rows, inner, _), weight in zip(products, weights, strict=True):
            torch.mm(inputs[rows, inner], weight)

    all_products()
    _wait(size)
    began, rounds, rates = time.perf_counter(), 0, []
    while time.perf_counter() - began < size.seconds:
        start = time.perf_counter()
        all_products()
        _wait(size)
        rounds += 1
        rates.append(flop / (time.perf_counter() - start) / 1e12)
    seconds = time.perf_counter() - began
    return {
        "shapes": sorted(set(products)),
        "seconds": round(seconds, 2),
        "rounds": rounds,
        "tflop_per_second": tflop_per_second(rounds * flop / 1e12, seconds),
        "first_round_tflop_per_second": round(rates[0], 2),
        "last_round_tflop_per_second": round(rates[-1], 2),
    }


def _wait(size: Size) -> None:
    if size.device == "cuda":
        torch.cuda.synchronize()
