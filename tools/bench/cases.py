"""What the benchmarks have in common: a transformer with random weights, inputs for it, and ways of measuring."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm import tqdm

from .plain_forward import PlainTwin

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


def gigabytes(size: float) -> float:
    """Bytes as GB (1e9), to two digits."""
    return round(size / 1e9, 2)


class Case:
    """A transformer of given sizes with random weights, and inputs for a positive and a negative prompt.

    Args:
        weights_on: where the weights lie, if not on ``device``, which the inputs are on.
    """

    def __init__(
        self,
        model: dict[str, Any],
        clip: tuple[int, int, int],
        device: str,
        dtype: torch.dtype,
        seed: int = 0,
        weights_on: str | None = None,
    ):
        import comfy.ops
        from ovi_native.ovi_core.network.transformer import OviTransformer
        from ovi_native.ovi_core.spec import ClipShape

        torch.manual_seed(seed)
        self.device, self.dtype = device, dtype
        self.transformer = OviTransformer(
            dtype=dtype, device=weights_on or device, operations=comfy.ops.disable_weight_init, **model
        ).requires_grad_(False)
        for name, weight in self.transformer.state_dict().items():
            fan_in = weight[0].numel() if weight.ndim > 1 else 0
            if fan_in:
                weight.copy_(torch.empty_like(weight, device=device).normal_(std=fan_in**-0.5))
            else:
                weight.fill_(0.0 if name.endswith("bias") else 1.0)
        self.set_clip(ClipShape(*clip))

    def set_clip(self, clip: Any) -> None:
        """Draw inputs for ``clip``, and begin a new run."""
        from ovi_native.ovi_core.network.run_cache import RunCache

        draw, text_dim = torch.randn, self.transformer.config.text_dim
        self.video = draw(clip.video_shape(), device=self.device, dtype=self.dtype).repeat(2, 1, 1, 1, 1)
        self.audio = draw(clip.audio_shape(), device=self.device, dtype=self.dtype).repeat(2, 1, 1)
        self.text = draw(2, 512, text_dim, device=self.device, dtype=self.dtype)
        self.timestep = torch.full((2,), 700.0, device=self.device)
        self.options: dict[str, Any] = {
            RunCache.KEY: RunCache(),
            "uuids": ["positive", "negative"],
            "cond_or_uncond": [0, 1],
        }

    @property
    def tokens(self) -> tuple[int, int]:
        """Video and audio tokens of a row."""
        from ovi_native.ovi_core.model.memory_estimate import tokens_of

        shapes = self.video.shape, self.audio.shape
        return tokens_of((2, 1, sum(part[0].numel() for part in (self.video, self.audio))), shapes)

    def ours(self, **options: Any) -> list[torch.Tensor]:
        """One step of a run: both prompts as one batch."""
        return self.transformer(
            [self.video, self.audio],
            self.timestep,
            self.text,
            {**self.options, **options},
            audio_context=self.text,
            keep_text_keys=True,
        )

    def plain(self, twin: PlainTwin) -> list[torch.Tensor]:
        outs = []
        for row in (slice(0, 1), slice(1, 2)):
            texts = (self.text[row], self.text[row])
            outs.append(twin(self.video[row], self.audio[row], self.timestep[row], texts))
        return [torch.cat(parts) for parts in zip(*outs, strict=True)]

    def begin_run(self) -> None:
        """Let the run keep what it keeps for all steps, by a forward of a clip as small as can be."""
        video, audio = self.video, self.audio
        self.video, self.audio = video[:, :, :1, :2, :2], audio[:, :, :1]
        try:
            self.ours()
        finally:
            self.video, self.audio = video, audio


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


class Kernels(TorchDispatchMode):
    """``names`` of the attention kernels of what runs under it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name = func.__name__.split(".")[0]
        if name.startswith(("_scaled_dot_product", "_flash_attention", "_efficient_attention")):
            self.names.add(name)
        return func(*args, **(kwargs or {}))


class Taken(NamedTuple):
    """Median seconds, and most bytes that lived on the card at once (0 on a CPU)."""

    seconds: float
    peak: int
    rounds: int


def difference(a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
    """How far a is from b in relation to it: the larger one of picture and sound."""
    return max(float((x.float() - y.float()).norm() / y.float().norm()) for x, y in zip(a, b, strict=True))


def measured(run: Callable[[], Any], device: str) -> tuple[float, int]:
    """Seconds and peak bytes of one call."""
    if device != "cuda":
        start = time.perf_counter()
        run()
        return time.perf_counter() - start, 0
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - start, torch.cuda.max_memory_allocated()


def interleaved(
    runs: dict[str, Callable[[], Any]], repeats: int, device: str, warm: bool = False, budget: float = float("inf")
) -> dict[str, Taken]:
    """Median of each, taken in turns so that a slow moment of the machine meets all alike.

    Args:
        warm: whether all have run before.
        budget: seconds after which no further round begins, if there were two.
    """
    for run in {} if warm else runs.values():
        run()
    taken: dict[str, list[tuple[float, int]]] = {name: [] for name in runs}
    start, rounds = time.perf_counter(), 0
    with tqdm(total=repeats, desc="rounds", file=sys.stderr) as progress:
        while rounds < repeats and (rounds < 2 or (time.perf_counter() - start) * (rounds + 1) / rounds < budget):
            for name, run in runs.items():
                taken[name].append(measured(run, device))
            rounds += 1
            progress.update()
    return {
        name: Taken(statistics.median(seconds for seconds, _ in some), max(peak for _, peak in some), rounds)
        for name, some in taken.items()
    }
