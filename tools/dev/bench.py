"""Cost of one forward, as ratios measured in one interleaved run (``python3 dev.py bench``).

On any machine: our forward of a positive and a negative prompt, against (a) the same done the straightforward way
(``plain_forward.py``) and (b) the bare matrix products, convolutions and attentions in it. With ``--gpu``: the
published size with random weights, in seconds and memory, and as share of the card's measured matmul rate.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from tqdm import trange

from . import pack
from .plain_forward import PlainTwin

CPU_MODEL = {"dim": 768, "ffn_dim": 3584, "num_layers": 4, "text_dim": 256}
CPU_CLIP, GPU_CLIPS = (256, 256, 13), {"720x720_5s": (704, 704, 31), "960x960_10s": (960, 960, 61)}
HEAVY = (
    "mm",
    "addmm",
    "bmm",
    "baddbmm",
    "convolution",
    "_scaled_dot_product",
    "_flash_attention",
    "_efficient_attention",
)


def main() -> int:
    arguments = _arguments()
    # On a CPU the host would take an attention made to save memory; cards get PyTorch's, as both sides do here.
    pack.load("--use-pytorch-cross-attention", *([] if arguments.gpu else ["--cpu"]))
    if arguments.gpu and not torch.cuda.is_available():
        print("bench --gpu needs a CUDA card, and PyTorch sees none.", file=sys.stderr)
        return 1
    with torch.no_grad():
        report = gpu_report(arguments.repeats) if arguments.gpu else cpu_report(arguments.repeats)
    report = {"date": datetime.date.today().isoformat(), "machine": _machine(arguments.gpu), **report}
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.write:
        arguments.write.write_text(text + "\n", encoding="utf-8")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev.py bench", description=__doc__.split("\n")[0])
    parser.add_argument("--gpu", action="store_true", help="the published size on a CUDA card")
    parser.add_argument("--repeats", type=int, default=9, help="rounds to take medians of (default: %(default)s)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the report there as JSON, too")
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


class Case:
    """A transformer of given sizes with random weights, and inputs for a positive and a negative prompt."""

    def __init__(
        self, model: dict[str, Any], clip: tuple[int, int, int], device: str, dtype: torch.dtype, seed: int = 0
    ):
        import comfy.ops
        from ovi_native.ovi_core.spec import Clip
        from ovi_native.ovi_core.transformer import OviTransformer

        torch.manual_seed(seed)
        self.transformer = OviTransformer(
            dtype=dtype, device=device, operations=comfy.ops.disable_weight_init, **model
        ).requires_grad_(False)
        for name, weight in self.transformer.state_dict().items():
            fan_in = weight[0].numel() if weight.ndim > 1 else 0
            if fan_in:
                weight.normal_(std=fan_in**-0.5)
            else:
                weight.fill_(0.0 if name.endswith("bias") else 1.0)
        self.set_clip(Clip(*clip), device, dtype)

    def set_clip(self, clip: Any, device: str, dtype: torch.dtype) -> None:
        from ovi_native.ovi_core.run import Run

        text_dim = self.transformer.config.text_dim
        self.video = torch.randn(clip.video_shape(), device=device, dtype=dtype).repeat(2, 1, 1, 1, 1)
        self.audio = torch.randn(clip.audio_shape(), device=device, dtype=dtype).repeat(2, 1, 1)
        self.text = torch.randn(2, 512, text_dim, device=device, dtype=dtype)
        self.timestep = torch.full((2,), 700.0, device=device)
        self.options = {Run.KEY: Run(), "uuids": ["positive", "negative"], "cond_or_uncond": [0, 1]}

    def ours(self) -> list[torch.Tensor]:
        """One step of a run: both prompts as one batch."""
        return self.transformer(
            [self.video, self.audio],
            self.timestep,
            self.text,
            self.options,
            audio_context=self.text,
            keep_text_keys=True,
        )

    def plain(self, twin: PlainTwin) -> list[torch.Tensor]:
        outs = []
        for row in (slice(0, 1), slice(1, 2)):
            texts = (self.text[row], self.text[row])
            outs.append(twin(self.video[row], self.audio[row], self.timestep[row], texts))
        return [torch.cat(parts) for parts in zip(*outs, strict=True)]


class Recorder(TorchDispatchMode):
    """Collects every heavy operation of what runs under it, to run them again bare."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable, tuple, dict]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func.__name__.split(".")[0].startswith(HEAVY):
            self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))

    def replay(self) -> None:
        for func, args, kwargs in self.calls:
            func(*args, **kwargs)


def _seconds(run: Callable[[], Any], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _interleaved(runs: dict[str, Callable[[], Any]], repeats: int, device: str) -> dict[str, float]:
    """Median seconds of each, taken in turns so that a slow moment of the machine meets all alike."""
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in trange(repeats, desc="bench", file=sys.stderr):
        for name, run in runs.items():
            times[name].append(_seconds(run, device))
    return {name: statistics.median(taken) for name, taken in times.items()}


def cpu_report(repeats: int) -> dict[str, Any]:
    """Ratios on the CPU in float32, at a size that takes about a second a forward."""
    case = Case(CPU_MODEL, CPU_CLIP, "cpu", torch.float32)
    twin = PlainTwin(case.transformer.state_dict())
    difference = max(float((a - b).norm() / b.norm()) for a, b in zip(case.ours(), case.plain(twin), strict=True))
    if difference > 1e-4:
        raise RuntimeError(f"The two forwards differ by {difference:.1e}: their times would compare different things.")
    with Recorder() as bare:
        case.ours()
    runs = {"ours": case.ours, "straightforward": lambda: case.plain(twin), "bare operations": bare.replay}
    medians = _interleaved(runs, repeats, "cpu")
    return {
        "what": "one step (positive and negative prompt), float32",
        "model": CPU_MODEL,
        "clip": dict(zip(("width", "height", "video_steps"), CPU_CLIP, strict=True)),
        "relative_difference": difference,
        "median_seconds": {name: round(seconds, 4) for name, seconds in medians.items()},
        "ours / straightforward": round(medians["ours"] / medians["straightforward"], 3),
        "ours / bare operations": round(medians["ours"] / medians["bare operations"], 3),
    }


def _matmul_rate(size: int = 8192, repeats: int = 20) -> float:
    """Measured bf16 matmul rate of the card in FLOP/s."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    seconds = [_seconds(lambda: a @ b, "cuda") for _ in range(repeats)]
    return 2 * size**3 / statistics.median(seconds)


def gpu_report(repeats: int) -> dict[str, Any]:
    """Seconds, memory and share of the matmul rate of one step at the published size, random bf16 weights."""
    from ovi_native.ovi_core.spec import Clip

    rate = _matmul_rate()
    case = Case({}, GPU_CLIPS["720x720_5s"], "cuda", torch.bfloat16)
    weights = torch.cuda.memory_allocated()
    report: dict[str, Any] = {
        "what": "one step (positive and negative prompt) of the published size, random bf16 weights",
        "matmul_tflops": round(rate / 1e12, 1),
        "weights_gib": round(weights / 2**30, 2),
    }
    for variant, clip in GPU_CLIPS.items():
        case.set_clip(Clip(*clip), "cuda", torch.bfloat16)
        gc.collect()
        torch.cuda.empty_cache()
        with FlopCounterMode(display=False) as counter:
            case.ours()
        torch.cuda.reset_peak_memory_stats()
        seconds = _interleaved({"ours": case.ours}, repeats, "cuda")["ours"]
        report[variant] = {
            "seconds_per_step": round(seconds, 4),
            "seconds_per_forward": round(seconds / 2, 4),
            "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
            "tflop_per_step": round(counter.get_total_flops() / 1e12, 1),
            "share_of_matmul_rate": round(counter.get_total_flops() / seconds / rate, 3),
        }
    return report


if __name__ == "__main__":
    sys.exit(main())
