"""The loop that all networks are trained by: resumable after a kill, and the same in one go or in ten.

Everything random in a step follows from the seed, the stage and the number of the step, so a run that is taken up from
a checkpoint goes on as if it had never stopped.
"""

from __future__ import annotations

import json
import os
import signal
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from . import data_parallel
from .config import Config, Learning
from .cuda_graphs import Graphed
from .muon import Muon, groups_of
from .workers import made_ahead

LOG_EVERY = 20  # steps
FIT_EVERY, MOST = 50, 1_000_000  # steps between two looks at the time that is left; more than there ever are
START = "start.pt"  # in a stage's folder: weights to start from instead of random ones


class Stage(Protocol):
    """One network to train.

    Attributes:
        name: of its folder.
        module: holds every weight that learns.
        mixed: whether the stage may compute in 16 bits where the device is fast at them.
    """

    name: str
    mixed: bool
    learning: Learning
    module: nn.Module

    @property
    def make_batch(self) -> Callable[[int], Any]:
        """From the number of a step to what ``loss`` takes; runs in other processes, so it needs no network."""
        ...

    def loss(self, step: int, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """What the step minimises, and figures for the log."""
        ...

    def preview(self, file: Path) -> dict[str, float]:
        """Draw what the network can do by now as PNG, and measure it."""
        ...

    def trained(self) -> dict[str, Tensor]:
        """The weights as later stages and the export take them."""
        ...


@runtime_checkable
class Recordable(Stage, Protocol):
    """A stage whose step can be recorded on a card: ``loss`` is ``errors`` of ``inputs``."""

    def inputs(self, step: int, batch: Any) -> tuple[Tensor, ...]:
        """All that a step needs, on the device."""
        ...

    def errors(self, *inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and figures for the log; waits for nothing but the card."""
        ...


@dataclass(frozen=True)
class Options:
    """How a run goes, as far as it does not change its result.

    Attributes:
        folder: of all stages; each has a folder of its own in it.
        minutes: stop after this time, with a checkpoint.
        preview_minutes, save_minutes: time between two previews, two checkpoints.
        workers: processes that make batches; 0 makes them in this one.
        mixed: compute in 16 bits where a stage may.
    graphs: record a step as a CUDA graph, where a stage can be.
    fit_minutes: set the number of steps again and again so that the run ends after this time: where a card is rented
        for minutes, and not for steps. None keeps what the configuration says.
    """

    folder: Path
    device: str = "cpu"
    minutes: float = float("inf")
    preview_minutes: float = 10.0
    save_minutes: float = 5.0
    workers: int = 1
    mixed: bool = True
    graphs: bool = False
    fit_minutes: float | None = None
    until: int | None = None  # stop at this step


def generator(config: Config, stage: str, step: int, share: int = 0, device: str = "cpu") -> torch.Generator:
    """A source of what is random in one step, or in one share of it."""
    return torch.Generator(device).manual_seed(seed_of(config, f"{stage} {share}" if share else stage, step))


def seed_of(config: Config, stage: str, step: int) -> int:
    """A seed of 32 bits for one step of one stage."""
    return zlib.crc32(f"{config.seed} {stage} {step}".encode())


def rate_at(learning: Learning, step: int) -> float:
    """Learning rate of a step."""
    up = (step + 1) / max(learning.warm_up, 1)
    down = (learning.steps - step) / max(learning.descent * learning.steps, 1)
    return learning.rate * max(0.0, min(1.0, up, down))


class Average:
    """A running average of a module's weights, young runs over their whole length."""

    def __init__(self, module: nn.Module, decay: float):
        self.module, self.decay, self.updates = module, decay, 0
        self.weights = {name: weight.detach().clone() for name, weight in module.named_parameters()}

    @torch.no_grad()
    def update(self) -> None:
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 10))
        torch._foreach_lerp_(list(self.weights.values()), list(self.module.parameters()), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While this lasts the module has the averaged weights."""
        own = {name: weight.detach().clone() for name, weight in self.module.named_parameters()}
        self._put(self.weights)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, weights: dict[str, Tensor]) -> None:
        for name, weight in self.module.named_parameters():
            weight.copy_(weights[name])


class Run:
    """A stage on its way: its optimiser, its average, its files."""

    def __init__(self, config: Config, stage: Stage, options: Options):
        self.config, self.stage, self.options = config, stage, options
        learning = stage.learning
        self.optimizer = Muon(groups_of(stage.module, learning.weight_decay, learning.vector_scale))
        self.average = Average(stage.module, learning.averaging)
        self.graphed: Graphed | None = None
        if options.graphs and isinstance(stage, Recordable):
            self.graphed = Graphed(stage.errors, stage.module)
        self.step = 0
        self.seconds = 0.0
        self.folder = options.folder / stage.name
        self.folder.mkdir(parents=True, exist_ok=True)
        (options.folder / ".gitignore").write_text("*\n", encoding="utf-8")
        if self.checkpoint.exists():
            self._resume()

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def finished(self) -> bool:
        return self.step >= self.stage.learning.steps

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, map_location=self.options.device, weights_only=True)
        self.stage.module.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.weights, self.average.updates = state["average"], state["updates"]
        self.step, self.seconds = state["step"], state["seconds"]
        if state["config"] != json.dumps(self.config.as_dict()):
            self.log({"config": self.config.as_dict()})

    def save(self) -> None:
        """Write the checkpoint, then the trained weights; a kill at any moment leaves a whole file of each."""
        state = {
            "weights": self.stage.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.weights,
            "updates": self.average.updates,
            "step": self.step,
            "seconds": self.seconds,
            "config": json.dumps(self.config.as_dict()),
        }
        write(state, self.checkpoint)
        with self.average.in_place(), torch.no_grad():
            write(self.stage.trained(), self.folder / "trained.pt")

    def preview(self) -> None:
        with self.average.in_place(), torch.no_grad():
            self.log(self.stage.preview(self.folder / "preview.png"))

    def log(self, figures: dict[str, Any]) -> None:
        entry = {"step": self.step, "seconds": round(self.seconds, 1), **figures}
        with open(self.folder / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def advance(self, batch: Any, stop: bool = False) -> tuple[dict[str, Tensor], bool]:
        """One optimiser step; returns figures for the log, and whether this process or one beside it wants to stop.

        The figures stay on the device: to read them would wait for it in every step.
        """
        learning = self.stage.learning
        self.optimizer.set_rate(rate_at(learning, self.step))
        figures = self._gradients(batch)
        stop = data_parallel.agree(self.stage.module.parameters(), stop)
        figures["norm"] = nn.utils.clip_grad_norm_(self.stage.module.parameters(), learning.clip_norm)
        if self.graphed is not None or torch.isfinite(figures["norm"]):  # to ask that of a card is to wait for it
            self.optimizer.step()
        self.average.update()
        self.step += 1
        return {name: value.detach() for name, value in figures.items()}, stop

    def _gradients(self, batch: Any) -> dict[str, Tensor]:
        if self.graphed is not None and isinstance(self.stage, Recordable):
            return self.graphed(self.stage.inputs(self.step, batch))
        with torch.autocast(self.options.device, torch.bfloat16, enabled=self.stage.mixed and self.options.mixed):
            loss, figures = self.stage.loss(self.step, batch)
        self.optimizer.zero_grad()
        loss.backward()
        return {"loss": loss, **figures}

    def fit(self, seconds: float, pace: float) -> None:
        """Plan as many steps as can be made in what is left of the time, ``pace`` seconds each."""
        steps = self.step + max(1, int(seconds / pace))
        self.stage.learning = replace(self.stage.learning, steps=steps)


def train(config: Config, stage: Stage, options: Options) -> bool:
    """Train until the stage's last step, or until time is up or the program is asked to stop; True if finished."""
    run = Run(config, stage, options)
    first = data_parallel.share()[0] == 0  # only the first of several processes writes
    if options.fit_minutes:
        stage.learning = replace(stage.learning, steps=MOST)
    last = min(stage.learning.steps, options.until or stage.learning.steps)
    start = saved = drawn = fitted = time.monotonic()
    sums: dict[str, list[Tensor]] = {}
    bar = tqdm(total=stage.learning.steps, initial=run.step, desc=stage.name, dynamic_ncols=True, disable=not first)
    steps = range(run.step, last)
    with _asked_to_stop() as stop, made_ahead(stage.make_batch, steps, options.workers) as batches, bar:
        for _, batch in batches:
            began = time.monotonic()
            figures, ended = run.advance(batch, stop() or began - start > 60 * options.minutes)
            for name, value in figures.items():
                sums.setdefault(name, []).append(value)
            now = time.monotonic()
            run.seconds += now - began
            bar.update()
            if first and (run.step % LOG_EVERY == 0 or run.step == last):
                means = {name: round(float(sum(values)) / len(values), 5) for name, values in sums.items()}
                run.log(means)
                bar.set_postfix({name: f"{value:.4f}" for name, value in means.items()})
                sums = {}
            if options.fit_minutes and run.step % FIT_EVERY == 0:
                run.fit(*data_parallel.means(60 * options.fit_minutes - (now - start), (now - fitted) / FIT_EVERY))
                fitted, bar.total = now, stage.learning.steps
            ended = ended or run.finished
            if first and now - drawn > 60 * options.preview_minutes:
                run.preview()
                drawn = time.monotonic()
            if first and now - saved > 60 * options.save_minutes:
                run.save()
                saved = time.monotonic()
            if ended:
                break
    if first:
        run.save()
        if options.preview_minutes < float("inf"):
            run.preview()
    return run.finished


def trained_weights(folder: Path, stage: str) -> dict[str, Tensor]:
    """What a stage has learned so far.

    Raises:
        FileNotFoundError: it has not run yet; the message says so.
    """
    file = folder / stage / "trained.pt"
    if not file.exists():
        raise FileNotFoundError(f"There is no {file}: train the stage '{stage}' first.")
    return torch.load(file, map_location="cpu", weights_only=True)


def copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of each weight a copy on the CPU in 32 bits that learns no more."""
    return {key: value.detach().float().cpu().clone() for key, value in weights.items()}


def start_from(module: nn.Module, folder: Path, stage: str, device: str) -> None:
    """Give a stage's module the weights that are laid down for it to start from, where there are any."""
    file = folder / stage / START
    if file.exists():
        module.load_state_dict(torch.load(file, map_location=device, weights_only=True))


def write(state: Any, file: Path) -> None:
    """Save whole or not at all."""
    partial = file.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, file)


@contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """While this lasts Ctrl-C and a polite kill are remembered instead of obeyed: the step is finished and saved."""
    asked: list[int] = []
    before = {number: signal.signal(number, lambda n, _: asked.append(n)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
