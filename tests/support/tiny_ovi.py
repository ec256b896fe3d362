"""A tiny Ovi in this process and what a run of it needs, for tests of ComfyUI's own nodes and mechanisms."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import comfy.sample
import comfy.utils
import torch
from comfy.ldm.modules.attention import attention_pytorch
from comfy.nested_tensor import NestedTensor
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_context_windows import ContextWindowsManualNode
from comfy_extras.nodes_custom_sampler import CFGGuider, SamplerCustomAdvanced
from fusion_cases import published_weights, seeded, write_model
from ovi_native.nodes.conditioning import OviDualConditioning
from ovi_native.nodes.latents import EmptyOviLatent
from ovi_native.nodes.sampling.sampler import OviGuider, OviSamplerSelect, OviScheduler
from ovi_native.ovi_core.latents import denoise_mask
from ovi_native.ovi_core.loading.loader import load_model
from torch import Tensor

SIZES = {"dim": 128, "ffn_dim": 256, "num_layers": 3, "text_dim": 64}
STEPS = 4
SHIFT = 5.0


def load(folder: Path, num_layers: int = SIZES["num_layers"]) -> Any:
    """A MODEL of tiny weights."""
    return load_model(str(write_model(folder, published_weights({**SIZES, "num_layers": num_layers}))))


def with_pytorch_attention(model: Any) -> Any:
    """The MODEL with the attention that graphics cards use; the CPU's asks for free memory in every call."""
    model = model.clone()
    options = model.model_options["transformer_options"]
    options["optimized_attention_override"] = lambda function, *args, **more: attention_pytorch(*args, **more)
    return model


def empty_latent(batch: int = 1, seconds: float = 0.4) -> dict:
    """A LATENT of 96x64 pixels; 0.4 s are 3 latent frames and 10 audio steps."""
    return EmptyOviLatent.execute(96, 64, seconds, batch).result[0]


def drawn_latent(seed: int, batch: int = 1, seconds: float = 0.4) -> dict:
    """A LATENT that something was encoded to, as image-to-video and a second stage start from."""
    latent = empty_latent(batch, seconds)
    return {**latent, "samples": noise_for(latent, seed)}


def first_frame_kept(latent: dict, items: tuple[bool, ...] = (True,)) -> dict:
    """The LATENT with a noise mask that keeps the first frame of those batch ``items`` that are True."""
    video, audio = latent["samples"].unbind()
    mask = torch.ones(len(items), 1, video.shape[2], 1, 1)
    for i, kept in enumerate(items):
        mask[i, :, 0] = 0.0 if kept else 1.0
    return denoise_mask.with_parts(latent, video, audio, mask)


def noise_for(latent: dict, seed: int = 1) -> NestedTensor:
    return comfy.sample.prepare_noise(latent["samples"], seed)


def text(name: str, positions: int = 12) -> Tensor:
    """Text as an encoder of the tiny width gives it, [1, positions, 64]."""
    return torch.from_numpy(seeded.draw(name, (1, positions, SIZES["text_dim"]), 11)).float()


def positive() -> list:
    return [[text("positive"), {}]]


def negative() -> list:
    """Another text for each tower."""
    return OviDualConditioning.execute([[text("video negative"), {}]], [[text("audio negative"), {}]]).result[0]


class GivenNoise:
    """A NOISE that is already there, for SamplerCustomAdvanced."""

    seed = 0

    def __init__(self, noise: NestedTensor):
        self.noise = noise

    def generate_noise(self, latent: dict) -> NestedTensor:
        return self.noise


def guider(model: Any, video_cfg: float = 4.0, audio_cfg: float = 3.0, skip_layers: str = "1", **more: Any) -> Any:
    conditionings = more.pop("positive", positive()), more.pop("negative", negative())
    return OviGuider.execute(model, *conditionings, video_cfg, audio_cfg, skip_layers, **more).result[0]


def stock_guider(model: Any, cfg: float = 4.0) -> Any:
    """ComfyUI's own guider for positive and negative."""
    return CFGGuider.execute(model, positive(), negative(), cfg).result[0]


def sigmas(solver: str = "euler", steps: int = STEPS) -> Tensor:
    return OviScheduler.execute(solver, steps, SHIFT).result[0]


def run_both(guider: Any, latent: dict | None = None, noise: NestedTensor | None = None, **more: Any) -> tuple:
    """Outputs of SamplerCustomAdvanced: the sampled LATENT and the denoised one."""
    latent = latent or empty_latent()
    solver = more.get("solver", "euler")
    return SamplerCustomAdvanced.execute(
        GivenNoise(noise_for(latent) if noise is None else noise),
        guider,
        more.get("sampler") or OviSamplerSelect.execute(solver).result[0],
        sigmas(solver, more.get("steps", STEPS)),
        latent,
    ).result


def run(guider: Any, latent: dict | None = None, noise: NestedTensor | None = None, **more: Any) -> tuple:
    """Sampled video [B, 48, T, H, W] and audio [B, 20, L]."""
    return tuple(run_both(guider, latent, noise, **more)[0]["samples"].unbind())


def differences(a: Any, b: Any) -> list[float]:
    """Relative difference of two results, ‖a - b‖ / ‖b‖, for video and audio."""
    a, b = ([*x.unbind()] if hasattr(x, "unbind") else x for x in (a, b))
    return [float((ours - theirs).norm() / theirs.norm()) for ours, theirs in zip(a, b, strict=True)]


def same(a: Any, b: Any, tolerance: float = 1e-5) -> bool:
    return max(differences(a, b)) <= tolerance


def both_differ(a: Any, b: Any, by: float = 1e-3) -> bool:
    return min(differences(a, b)) > by


def finite(result: Any) -> bool:
    return all(bool(part.isfinite().all()) for part in result)


class Forwards:
    """Counts what reaches the transformer: a DIFFUSION_MODEL wrapper, as other packs add it.

    ``rows`` holds the batch size of every forward, ``roles`` its conditionings (0 positive, 1 negative).
    """

    def __init__(self, model: Any):
        self.model = model.clone()
        self.rows: list[int] = []
        self.roles: list[list[int]] = []
        self.model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "forwards", self._count)

    def _count(self, executor: Any, x: list, timestep: Tensor, context: Tensor, options: dict, **more: Any) -> Any:
        self.rows.append(timestep.shape[0])
        self.roles.append(list(options["cond_or_uncond"]))
        return executor(x, timestep, context, options, **more)


class Predictions:
    """What every step predicts, as ComfyUI hands it to post-CFG patches: parts of positive, negative and result."""

    def __init__(self, model):
        self.model = model.clone()
        self.steps: list[dict] = []
        self.model.set_model_sampler_post_cfg_function(self._note)

    def _note(self, args: dict) -> torch.Tensor:
        shapes = args["model"].sampling_run.latent_shapes
        names = {"cond_denoised": "positive", "uncond_denoised": "negative", "denoised": "guided"}
        self.steps.append({name: comfy.utils.unpack_latents(args[key], shapes) for key, name in names.items()})
        return args["denoised"]


def windowed(model, length: int, overlap: int, schedule: str = "standard_static", **more):
    """The MODEL with stock context windows of ``length`` latent frames."""
    settings = {
        "context_stride": 1, "closed_loop": False, "fuse_method": "pyramid", "dim": 2, "freenoise": False,
        "causal_window_fix": False,
    }  # fmt: skip
    return ContextWindowsManualNode.execute(model, length, overlap, schedule, **{**settings, **more}).result[0]


def turn(table: torch.Tensor, token: int) -> float:
    """Angle by which a rope table turns the first pair of head dimensions; it is the token's time."""
    rotation = table[0, token, 0, 0]
    return math.atan2(rotation[1, 0], rotation[0, 0])
