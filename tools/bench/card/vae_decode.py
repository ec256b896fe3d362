"""The video VAE's decode of random latents: as it is, channels last, and with its decoder compiled."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
import torch._dynamo
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..cases import gigabytes, measured
from .size import Measure, Size, tflop_per_second

MOST_GRAPHS = 64
"""One for each size of residual block and each kind of frame; PyTorch would stop at 8."""


def vae_decode(size: Size) -> Iterator[tuple[str, Measure]]:
    """A few latent frames in each way, and the whole shorter clip as it is."""
    from ovi_native.ovi_core.vae.video_vae import build_network

    torch.manual_seed(0)
    with torch.device(size.device):
        network = build_network(size.vae).to(size.dtype).eval().requires_grad_(False)
    draw(network.state_dict())
    width, height, frames = next(iter(size.clips.values()))
    latent = torch.randn(1, 48, frames, height // 16, width // 16, device=size.device, dtype=size.dtype)
    few = latent[:, :, : size.frames]
    wanted: list[torch.Tensor] = []
    yield "plain", partial(_decoded, network, few, size, wanted)
    yield "plain, the whole clip", partial(_decoded, network, latent, size, [])
    yield "channels last", partial(_channels_last, network, few, size, wanted)
    yield "channels last, the whole clip", partial(_channels_last, network, latent, size, [])
    yield "compiled", partial(_compiled, network, few, size, wanted)  # the last: it takes longest


def draw(weights: dict[str, torch.Tensor]) -> None:
    """Random weights that neither vanish nor grow on their way through the network."""
    for name, weight in weights.items():
        if name.endswith(("gamma", "bias")):
            weight.fill_(float(name.endswith("gamma")))
        else:
            weight.normal_(std=weight[0].numel() ** -0.5)


def _decoded(network: nn.Module, latent: torch.Tensor, size: Size, wanted: list[torch.Tensor]) -> dict[str, Any]:
    """Seconds of a decode; its result becomes ``wanted``, or is compared with it."""
    each = [_flop(network, latent[:, :, :frames]) for frames in (1, 2)]  # also what the kernels need once
    tflop = (each[0] + (each[1] - each[0]) * (latent.shape[2] - 1)) / 1e12
    lying = torch.cuda.memory_allocated() if size.device == "cuda" else 0
    kept: list[torch.Tensor] = []
    seconds, peak = measured(lambda: kept.append(network.decode(latent)), size.device)
    result: dict[str, Any] = {
        "latent_frames": latent.shape[2],
        "seconds": round(seconds, 4),
        "tflop": round(tflop, 2),
        "tflop_per_second": tflop_per_second(tflop, seconds),
        "peak_gb": gigabytes(peak - lying) if lying else None,
    }
    if wanted:
        exact = wanted[0].float()
        result["relative_difference"] = float((kept[0].float() - exact).norm() / exact.norm())
    else:
        wanted.append(kept[0])
    return result


def _flop(network: nn.Module, latent: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        network.decode(latent)
    return counter.get_total_flops()


def _compiled(network: nn.Module, latent: torch.Tensor, size: Size, wanted: list[torch.Tensor]) -> dict[str, Any]:
    """With the decoder's residual blocks compiled: one graph each, where the decoder itself would be many."""
    _ordered(network, torch.contiguous_format, torch.contiguous_format)
    backend = "inductor" if size.device == "cuda" else "eager"
    plain = {name: block for name, block in network.decoder.named_modules() if type(block).__name__ == "ResidualBlock"}
    for name, block in plain.items():
        network.decoder.set_submodule(name, torch.compile(block, backend=backend, dynamic=False))
    try:
        with torch._dynamo.config.patch(recompile_limit=MOST_GRAPHS):
            network.decode(latent[:, :, :3])  # the first, the second and the later frames are compiled apart
        return {"compiled_blocks": len(plain), **_decoded_once(network, latent, size, wanted)}
    finally:
        for name, block in plain.items():
            network.decoder.set_submodule(name, block)


def _decoded_once(network: nn.Module, latent: torch.Tensor, size: Size, wanted: list[torch.Tensor]) -> dict[str, Any]:
    kept: list[torch.Tensor] = []
    seconds, _ = measured(lambda: kept.append(network.decode(latent)), size.device)
    exact = wanted[0].float()
    return {
        "latent_frames": latent.shape[2],
        "seconds": round(seconds, 4),
        "relative_difference": float((kept[0].float() - exact).norm() / exact.norm()),
    }


def _channels_last(network: nn.Module, latent: torch.Tensor, size: Size, wanted: list[torch.Tensor]) -> dict[str, Any]:
    _ordered(network, torch.channels_last, torch.channels_last_3d)
    return _decoded(network, latent.contiguous(memory_format=torch.channels_last_3d), size, wanted)


def _ordered(network: nn.Module, of_2d: torch.memory_format, of_3d: torch.memory_format) -> None:
    """Lay the weights of convolutions out in these orders."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            order = of_2d if isinstance(module, nn.Conv2d) else of_3d
            module.weight.data = module.weight.data.contiguous(memory_format=order)
