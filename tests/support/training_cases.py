"""Train Ovi LoRA with short settings, and ways to end it early."""

from __future__ import annotations

from collections.abc import Callable

import torch
from native_cases import drawn, text
from ovi_native.nodes.training import OviTrainLora
from ovi_native.ovi_core.latents import joint
from ovi_native.ovi_core.training import trainer

DEFAULTS = {
    input.id: input.default for input in OviTrainLora.GET_SCHEMA().inputs if getattr(input, "default", None) is not None
}
QUICK = {"steps": 4, "learning_rate": 0.02, "rank": 4, "training_dtype": "fp32", "lora_dtype": "fp32", "seed": 3}


def clip(seed: int = 0, frames: int = 2, steps: int = 10, batch: int = 1) -> dict:
    """A joint LATENT as VAEs give it."""
    video, audio = drawn(batch, 48, frames, 4, 4, seed=seed), drawn(batch, 20, steps, seed=seed + 50)
    return {"samples": joint.join(video, audio)}


def train(model, data=None, positive=None, **settings):
    """The node's outputs: LoRA, losses, steps."""
    given = DEFAULTS | QUICK | settings
    inputs = {name: [value] for name, value in given.items()}
    with torch.inference_mode():  # as ComfyUI runs nodes
        data, positive = data or [clip()], positive or [text(1)]
        return OviTrainLora.execute([model], data, positive, **inputs).result


def stop_after(monkeypatch, steps: int, what: Callable) -> None:
    """Let ``what`` happen in the step after so many."""
    original, taken = trainer.Training._errors, []

    def errors(self, source):
        taken.append(source)
        if len(taken) > steps:
            what()
        return original(self, source)

    monkeypatch.setattr(trainer.Training, "_errors", errors)
