"""Training a LoRA on joint latents, by the objective Ovi was trained with.

Rectified flow: of clean latents x and noise e the model is shown (1 - s) x + s e and asked for e - x. The level s is
that of a random place in the model's own schedule. A first frame that is given clean has level and timestep 0, as in
image to video. The model's weights stay as they are; the adapters of :mod:`.adapters` are trained.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from tqdm.auto import trange

from ..errors import OviError
from ..model.base_model import Ovi, require_ovi
from ..model.lora import read_lora
from ..network.run_cache import RunCache
from ..network.timesteps import TimestepShares
from ..weights.files import Weights
from . import comfyui
from .adapters import Adapters, adapters_of, matrices, new_adapters
from .samples import Sample, by_size, samples_of, together

OPTIMIZERS: dict[str, Any] = {
    "AdamW": torch.optim.AdamW,
    "Adam": torch.optim.Adam,
    "SGD": torch.optim.SGD,
    "RMSprop": torch.optim.RMSprop,
}
LOSSES: dict[str, Callable[..., Tensor]] = {
    "MSE": F.mse_loss,
    "L1": F.l1_loss,
    "Huber": F.huber_loss,
    "SmoothL1": F.smooth_l1_loss,
}
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "none": None}


@dataclass(frozen=True)
class Settings:
    """How to train; names and meaning as on ComfyUI's Train LoRA node where it has them.

    Attributes:
        training_dtype, lora_dtype: keys of :data:`DTYPES`; what the model computes in, what the LoRA is handed out in.
        video_loss, audio_loss: what a tower's error counts; with 0 the tower is not trained either.
        first_frame: share of clips whose first frame is given clean.
    """

    steps: int
    learning_rate: float
    rank: int
    seed: int
    batch_size: int = 1
    grad_accumulation_steps: int = 1
    optimizer: str = "AdamW"
    loss_function: str = "MSE"
    algorithm: str = "LoRA"
    training_dtype: str = "bf16"
    lora_dtype: str = "bf16"
    gradient_checkpointing: bool = True
    offloading: bool = False
    video_loss: float = 1.0
    audio_loss: float = 1.0
    first_frame: float = 0.5


class Trained(NamedTuple):
    """The LoRA, its losses (one a step), and how many steps it has been trained in all."""

    lora: Weights
    losses: dict[str, list[float]]
    steps: int


def train(
    patcher: comfy.model_patcher.ModelPatcher,
    latents: Sequence[dict],
    positive: Sequence[list],
    settings: Settings,
    existing: str | None,
    keep: Callable[[Weights, int], None],
) -> Trained:
    """Train a LoRA. The MODEL stays as it is; LoRAs on it are part of what is trained on.

    Everything random in a step follows from the seed and the number of the step, whatever the device.

    Args:
        latents, positive: as :func:`~.samples.samples_of` takes them.
        existing: file of a LoRA to go on from; its name may tell its steps, as ComfyUI's Save LoRA Weights writes it.
        keep: takes the LoRA and its steps when training ends early, by an interrupt or an error, before that goes on.

    Raises:
        OviError: inputs that do not fit, or losses that are no numbers any more.
    """
    config = require_ovi(patcher).diffusion_model.config
    if not settings.video_loss and not settings.audio_loss:
        raise OviError(
            input="video_loss",
            found="0, as for audio_loss",
            accepted="a number above 0 for the tower that is to learn, or for both",
            remedy="Set video_loss, audio_loss or both to 1.",
        )
    with torch.inference_mode(False):  # ComfyUI runs nodes in it; what is made in it has no gradients
        samples = samples_of(patcher.model, latents, positive)
        names = matrices(config, settings.video_loss > 0, settings.audio_loss > 0)
        adapters, done = new_adapters(config, names, settings.algorithm, settings.rank, settings.seed), 0
        if existing is not None:
            name = os.path.basename(existing)
            adapters = adapters_of(read_lora(existing, "existing_lora")[0], config, adapters, name)
            done = int(([0, *re.findall(r"(\d+)_steps_", name)])[-1])
        patcher = patcher.clone(force_deepcopy=True)
        computed_in = DTYPES[settings.training_dtype]
        if computed_in is not None:
            patcher.set_model_compute_dtype(computed_in)
        training = Training(patcher.model, samples, adapters, settings)
        with adapters.attached(patcher), comfyui.in_training(patcher, settings.offloading):
            try:
                training.run(done)
            except BaseException:
                _keep(training, adapters, done, keep)
                raise
    dtype = DTYPES[settings.lora_dtype] or torch.float32
    return Trained(adapters.weights(dtype), training.losses, done + training.steps)


def _keep(training: Training, adapters: Adapters, done: int, keep: Callable[[Weights, int], None]) -> None:
    """Hand out what has been learned; what goes wrong with that does not replace the reason why training ends."""
    if training.steps:
        try:
            keep(adapters.weights(torch.float32), done + training.steps)
        except Exception:
            logging.exception("What training has learned could not be saved.")


class Training:
    """A run of training on its way.

    Attributes:
        losses: of each step done: ``loss``, what is minimised, and the error of each tower.
    """

    def __init__(self, model: Ovi, samples: Sequence[Sample], adapters: Adapters, settings: Settings):
        self.model, self.groups, self.settings = model, by_size(samples), settings
        self.parameters = adapters.parameters
        self.optimizer = OPTIMIZERS[settings.optimizer](self.parameters, lr=settings.learning_rate)
        self.losses: dict[str, list[float]] = {"loss": [], "video": [], "audio": []}
        self._options = _options(model.num_layers if settings.gradient_checkpointing else 0)

    @property
    def steps(self) -> int:
        return len(self.losses["loss"])

    def run(self, done: int) -> None:
        """Take the steps that follow the first ``done``."""
        bar = comfy.utils.ProgressBar(self.settings.steps)
        silent = not comfy.utils.PROGRESS_BAR_ENABLED
        for step in trange(self.settings.steps, desc="Training LoRA", smoothing=0.01, disable=silent):
            comfy.model_management.throw_exception_if_processing_interrupted()
            self._step(done + step)
            bar.update(1)

    def _step(self, step: int) -> None:
        """One step of the optimiser, over ``grad_accumulation_steps`` batches."""
        batches, figures = self.settings.grad_accumulation_steps, dict.fromkeys(self.losses, 0.0)
        self.optimizer.zero_grad()
        for i in range(batches):
            video, audio = self._errors(_source(self.settings.seed, step * batches + i))
            loss = self.settings.video_loss * video + self.settings.audio_loss * audio
            comfyui.check_reached(self.parameters, loss)
            (loss / batches).backward()
            for name, value in (("loss", loss), ("video", video), ("audio", audio)):
                figures[name] += float(value.detach()) / batches
        if not torch.isfinite(torch.nn.utils.clip_grad_norm_(self.parameters, float("inf"))):
            raise OviError(
                input="learning_rate",
                found=f"{self.settings.learning_rate:g}, with which step {step + 1} has no finite gradient",
                accepted="a rate with which the loss stays a number",
                remedy="Train again with a third of it. What was learned before this step is kept.",
            )
        self.optimizer.step()
        for name, value in figures.items():
            self.losses[name].append(value)

    def _errors(self, source: torch.Generator) -> tuple[Tensor, Tensor]:
        """Error of both towers on a batch that is drawn from ``source``."""
        batch = together(_pick(self.groups, self.settings.batch_size, source))
        count, frames = batch.video.shape[0], batch.video.shape[2]
        sampling = self.model.model_sampling
        places = torch.rand(count, generator=source).tolist()
        levels = torch.tensor([float(sampling.percent_to_sigma(place)) for place in places])
        free = torch.ones(count, frames)
        free[:, 0] = (torch.rand(count, generator=source) >= self.settings.first_frame).float()
        noises = [torch.randn(part.shape, generator=source) for part in (batch.video, batch.audio)]
        device = comfy.model_management.get_torch_device()
        frees = [part.to(device) for part in (free, torch.ones(count, 1))]
        clean, noises = ([part.to(device) for part in parts] for parts in (batch[:2], noises))
        mixed = [_mixed(*parts, levels.to(device)) for parts in zip(clean, noises, frees, strict=True)]
        found = self._velocities(mixed, sampling.timestep(levels).to(device), batch, frees[0])
        criterion = LOSSES[self.settings.loss_function]
        video, audio = (
            _error(criterion, velocity, e - x, part)
            for velocity, x, e, part in zip(found, clean, noises, frees, strict=True)
        )
        return video, audio

    def _velocities(self, mixed: list[Tensor], timesteps: Tensor, batch: Sample, free: Tensor) -> list[Tensor]:
        """What the model says of noised latents; ``free`` [B, T] is 0 for frames that are clean."""
        dtype = self.model.get_dtype_inference()
        texts = [text.to(mixed[0].device, dtype) for text in batch[2:]]
        shares = None if bool(free.all()) else TimestepShares(torch.tensor([0.0, 1.0]), free.long())
        return self.model.diffusion_model(
            [part.to(dtype) for part in mixed],
            timesteps,
            texts[0],
            self._options,
            audio_context=texts[1],
            video_shares=shares,
        )


def _options(checkpointed: int) -> dict[str, Any]:
    """Transformer options of training; the first ``checkpointed`` block pairs keep no activations but their inputs."""

    def attention(_inner: Callable, *args: Any, **kwargs: Any) -> Tensor:
        return comfyui.attention_with_gradients(
            *args, **kwargs
        )  # others, which ComfyUI may be set to, have no gradients

    def block_pair(args: dict, extra: dict) -> dict:
        options = dict(args["transformer_options"])  # the block's number in it changes before it is computed again

        def run(*tokens: Tensor) -> tuple[Tensor, ...]:
            return extra["original_block"]({**args, "img": tokens, "transformer_options": options})["img"]

        return {"img": checkpoint(run, *args["img"], use_reentrant=False)}

    replaced = {("double_block", i): block_pair for i in range(checkpointed)}
    return {"optimized_attention_override": attention, "patches_replace": {"dit": replaced}, RunCache.KEY: RunCache()}


def _source(seed: int, number: int) -> torch.Generator:
    """Of everything random in one batch."""
    digest = hashlib.blake2b(f"{seed} {number}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


def _pick(groups: list[list[Sample]], count: int, source: torch.Generator) -> list[Sample]:
    """``count`` different samples of one size, or all there are of it; every sample is as likely as the others."""
    sizes = torch.tensor([float(len(group)) for group in groups])
    group = groups[int(torch.multinomial(sizes, 1, generator=source))]
    return [group[i] for i in torch.randperm(len(group), generator=source)[:count].tolist()]


def _mixed(clean: Tensor, noise: Tensor, free: Tensor, levels: Tensor) -> Tensor:
    """Latents at their levels [B]; ``free`` [B, T or 1] along the third axis, 0 for what stays clean."""
    return torch.lerp(clean, noise, _along(levels[:, None] * free, clean.ndim))


def _error(criterion: Callable[..., Tensor], found: Tensor, wanted: Tensor, free: Tensor) -> Tensor:
    """Mean error over what is not clean."""
    errors = criterion(found.float(), wanted, reduction="none").mean(dim=1, keepdim=True)
    weights = _along(free, errors.ndim).expand_as(errors)
    return (errors * weights).sum() / weights.sum().clamp(min=1)


def _along(values: Tensor, axes: int) -> Tensor:
    """Values [B, T] as [B, 1, T, 1, ...] of so many axes."""
    return values.view(values.shape[0], 1, -1, *[1] * (axes - 3))
