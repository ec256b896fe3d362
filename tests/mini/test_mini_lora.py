"""A LoRA teaches the small trained model what it has never seen: an orange wall."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ovi_native.ovi_core.conditioning import encode
from ovi_native.ovi_core.latents.joint import empty
from ovi_native.ovi_core.model import lora
from ovi_native.ovi_core.spec import FPS, ClipShape
from ovi_native.ovi_core.training import trainer
from safetensors.torch import save_file

from tools.mini.report.__main__ import MODELS
from tools.mini.report.studio import Made, Order, Studio, as_audio
from tools.mini.world.captions import caption
from tools.mini.world.casting import draw_scene
from tools.mini.world.render import render

WALL, GROUND = (0.95, 0.55, 0.15), (0.6, 0.34, 0.1)
CLIP = ClipShape.from_seconds(96, 96, 1)
CLIPS, STEPS = 6, 44
ORDER = Order(scene=7_100_000, kind="float", seconds=1.0, steps=8)


@pytest.fixture(scope="module")
def studio() -> Studio:
    return Studio(MODELS)


@pytest.fixture(scope="module")
@torch.inference_mode()  # as ComfyUI runs nodes
def taught(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA's file, trained on a few clips of balls before an orange wall."""
    latents, prompts = [], []
    for seed in range(CLIPS):
        scene = draw_scene(seed, CLIP, kind="float")
        clip = render(replace(scene, stage=replace(scene.stage, wall=WALL, ground=GROUND)))
        frames, sound = torch.from_numpy(clip.frames), as_audio(clip.sound)
        given = {"samples": empty(CLIP, 1, "video + audio")}
        latents.append(encode.encode_clip(studio.vae, studio.audio_vae, given, frames, sound, FPS)[0])
        prompts.append(studio._encoded(caption(scene, 0)))
    settings = trainer.Settings(
        steps=STEPS, learning_rate=3e-3, rank=8, seed=1, batch_size=1, audio_loss=0.0,
        training_dtype="fp32", gradient_checkpointing=False,  # a fifth of the time; test_lora_training.py tries both
    )  # fmt: skip
    trained = trainer.train(studio.model, latents, prompts, settings, None, lambda *_: None)
    assert trained.steps == STEPS
    file = tmp_path_factory.mktemp("lora") / "orange_wall.safetensors"
    save_file(trained.lora, file)
    return file


def made_with(studio: Studio, file: Path, strength: float) -> Made:
    """A clip of a prompt that says nothing of the wall, with the LoRA in the picture's tower."""
    teller = Studio(MODELS)
    teller.model = lora.with_lora(studio.model, str(file), strength, 0.0)[0]
    return teller.make(ORDER)


def orange(made: Made) -> float:
    """How far the picture's upper corners, where no ball floats, are from the taught wall, 0 to 1."""
    corners = np.concatenate((made.frames[4:, :12, :12], made.frames[4:, :12, -12:]), axis=2)
    return float(np.abs(np.median(corners, axis=(0, 1, 2)) - WALL).mean())


def test_a_few_steps_teach_a_new_wall_and_at_strength_0_nothing_changes(studio: Studio, taught: Path) -> None:
    plain, off, on = studio.make(ORDER), made_with(studio, taught, 0.0), made_with(studio, taught, 1.0)
    np.testing.assert_array_equal(off.frames, plain.frames)
    np.testing.assert_array_equal(off.sound, plain.sound)
    assert orange(plain) > 0.2  # it does not know such a wall
    assert orange(on) < 0.5 * orange(plain)
