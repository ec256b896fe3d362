"""A tiny Ovi model and what the tests of ComfyUI's own mechanisms do with it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import comfy.ldm.wan.model
import comfy.model_management
import comfy.sd
import torch
from fusion_cases import published_weights, write_model
from ovi_native.nodes.sampling.sampler import OviSampler
from ovi_native.ovi_core.latents import joint
from ovi_native.ovi_core.vae.audio_vae import load_audio_vae
from ovi_native.ovi_core.vae.video_vae import load_video_vae
from ovi_native.tools import standins
from torch import Tensor

TINY = {"dim": 128, "ffn_dim": 256, "num_layers": 2, "text_dim": 64}
CPU = torch.device("cpu")


@functools.cache
def tiny_weights(seed: int = 11, **sizes: int) -> dict[str, Tensor]:
    """Published names, float32. Shared between tests: copy before changing."""
    return published_weights({**TINY, **sizes}, seed)


def write_tiny(folder: Path, seed: int = 11, name: str = "tiny.safetensors", **sizes: int) -> str:
    return str(write_model(folder, tiny_weights(seed, **sizes), name))


def tiny_wan(seed: int = 100) -> dict[str, Tensor]:
    """A plain Wan 2.2 5B of the tiny model's size, but text of 4096: ComfyUI gives every Wan that one."""
    sizes = {"dim": TINY["dim"], "ffn_dim": TINY["ffn_dim"], "num_layers": TINY["num_layers"], "num_heads": 1}
    network = comfy.ldm.wan.model.WanModel(
        model_type="t2v", in_dim=48, out_dim=48, operations=torch.nn, device="meta", **sizes
    )
    shapes = {key: weight.shape for key, weight in network.state_dict().items()}
    return {key: drawn(*shape, seed=seed + i) / 16 for i, (key, shape) in enumerate(shapes.items())}


@functools.cache
def small_vaes() -> tuple[Any, Any]:
    """The stand-ins for the video and the audio VAE. Shared between tests."""
    return load_video_vae(standins.video_vae(0)), load_audio_vae(standins.audio_vae(0))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def text(seed: int = 0, words: int = 9, width: int = TINY["text_dim"]) -> list:
    """A CONDITIONING of ``words`` positions."""
    return [[drawn(1, words, width, seed=seed), {}]]


def empty_latent(batch: int = 1, frames: int = 2, height: int = 4, width: int = 4, steps: int = 10) -> dict:
    """A joint LATENT of zeros, sizes in latent cells and steps."""
    return {"samples": joint.join(torch.zeros(batch, 48, frames, height, width), torch.zeros(batch, 20, steps))}


def loaded(patcher: Any) -> Any:
    """The patcher, its weights and patches put in place by ComfyUI."""
    comfy.model_management.load_models_gpu([patcher], force_full_load=True)
    return patcher


def forward(patcher: Any, width: int = TINY["text_dim"]) -> list[Tensor]:
    """Velocity of both latents for fixed inputs in the type the model computes in."""
    dtype = patcher.model.get_dtype_inference()
    inputs = (drawn(1, 48, 2, 4, 4, seed=1), drawn(1, 20, 10, seed=2), drawn(1, 512, width, seed=3))
    video, audio, context = (x.to(dtype) for x in inputs)
    with torch.no_grad():
        return patcher.model.diffusion_model([video, audio], torch.tensor([700.0]), context)


def sample(
    patcher: Any, latent: dict | None = None, positive: Any = None, negative: Any = None, **settings: Any
) -> Any:
    """The samples of a run through Ovi's all-in-one sampler node; two steps unless ``settings`` say otherwise."""
    chosen = {"seed": 1, "steps": 2, "video_cfg": 4.0, "audio_cfg": 3.0, "shift": 5.0, "solver": "unipc"}
    chosen |= {"skip_layers": "1"} | settings
    latent = empty_latent() if latent is None else latent
    out = OviSampler.execute(patcher, positive or text(5), negative or text(6), latent, **chosen)
    return out.result[0]["samples"]


def with_lora(patcher: Any, lora: dict[str, Tensor], strength: float = 1.0) -> Any:
    return comfy.sd.load_lora_for_models(patcher, None, lora, strength, 0)[0]


def error(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The larger relative error of the two parts."""
    return max(float((a.double() - b.double()).norm() / b.double().norm()) for a, b in zip(ours, theirs, strict=True))


def finite(samples: Any) -> bool:
    return all(bool(torch.isfinite(part).all()) for part in samples.unbind())


def small_lora(scale=1.0, key="blocks.0.self_attn.q"):
    up, down = torch.ones(128, 4), torch.ones(4, 128) * scale
    return {f"diffusion_model.{key}.lora_B.weight": up, f"diffusion_model.{key}.lora_A.weight": down}
