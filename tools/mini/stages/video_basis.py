"""Stage ``video-basis``: gives the latents of the trained video VAE axes by what they mean in the picture.

The axes that training happens to find all look alike, though half of what they can say is never seen. Here the axes
that change the picture most get the largest spread, and those that change nothing nearly none, so that the twin's error
counts what can be seen. The change is linear and is multiplied into the two 1x1x1 convolutions between network and
latents, so the VAE shows and takes the same pictures as before.
"""

from __future__ import annotations

import torch
from ovi_native.ovi_core.spec import ClipShape
from torch import Tensor

from ..training import networks
from ..training.config import Config, VideoBasis
from ..training.loop import Options, generator, trained_weights, write
from ..world.casting import draw_scene
from ..world.frames import draw_frames
from .video_vae import DECODER_NAME, to_network

NAME = "video-basis"
CLIP = ClipShape.from_seconds(96, 96, 1)


def make_basis(config: Config, options: Options) -> bool:
    """Write the VAE with its new axes; True, for it takes less than a minute."""
    weights = trained_weights(options.folder, DECODER_NAME)
    covariance, mean, effect = _measured(config, weights, options.device)
    axes = axes_by_effect(covariance, effect, config.video_basis)
    file = options.folder / NAME / "trained.pt"
    file.parent.mkdir(parents=True, exist_ok=True)
    write(with_axes(weights, axes, mean), file)
    return True


def _measured(config: Config, weights: dict[str, Tensor], device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Of the latents z as the twin would see them: covariance [48, 48], mean [48], effect [48, 48].

    The effect is the mean of JᵀJ with J how the picture changes with z; noise through the decoder's gradient gives it.
    """
    network = networks.video_vae(config, device)
    network.load_state_dict(weights)
    network.requires_grad_(False)
    mean, deviation = (moments.view(1, -1, 1, 1, 1).to(device) for moments in networks.wan_moments())
    source = generator(config, NAME, 0)
    latents, gradients = [], []
    for seed in range(config.video_basis.clips):
        clip = to_network(draw_frames(draw_scene(seed, CLIP))[None], device)
        z = ((network.encode(clip) - mean) / deviation).requires_grad_(True)
        picture = network.decode(z * deviation + mean)
        noise = torch.randn(picture.shape, generator=source).to(device)
        (gradient,) = torch.autograd.grad(picture, z, noise)
        latents.append(z.detach().transpose(0, 1).flatten(1))
        gradients.append(gradient[:, :, 1:].transpose(0, 1).flatten(1))  # the first step stands for one frame only
    z, gradient = (torch.cat(parts, dim=1).double().cpu() for parts in (latents, gradients))
    return torch.cov(z), z.mean(dim=1), gradient @ gradient.T / gradient.shape[1]


def axes_by_effect(covariance: Tensor, effect: Tensor, settings: VideoBasis) -> Tensor:
    """The matrix [48, 48] from latents (less their mean) to those of the new axes, the most visible first."""
    regular = covariance + settings.floor * torch.eye(len(covariance), dtype=covariance.dtype)
    values, vectors = torch.linalg.eigh(regular)
    root, inverse = (vectors @ torch.diag(values**power) @ vectors.T for power in (0.5, -0.5))
    seen, turned = torch.linalg.eigh(root @ effect @ root)
    spread = (seen.flip(0).clamp(min=0) / seen.max()).sqrt().clamp(min=settings.least)
    return torch.diag(settings.largest * spread**settings.power) @ turned.flip(1).T @ inverse


def with_axes(weights: dict[str, Tensor], axes: Tensor, mean: Tensor) -> dict[str, Tensor]:
    """The VAE's weights after z becomes ``axes (z - mean)``, z being its latents as ComfyUI normalises them."""
    shift, scale = (moments.double() for moments in networks.wan_moments())
    channels = len(shift)
    there, back = (torch.diag(scale) @ matrix @ torch.diag(1 / scale) for matrix in (axes, torch.linalg.inv(axes)))
    centre = shift + scale * mean
    new = {key: value.double() for key, value in weights.items() if key.startswith(("conv1.", "conv2."))}
    into, out = new["conv1.weight"], new["conv2.weight"]
    into[:channels] = (there @ into[:channels].flatten(1)).view_as(into[:channels])
    new["conv1.bias"][:channels] = there @ (new["conv1.bias"][:channels] - centre) + shift
    new["conv2.bias"] += out.flatten(1) @ (centre - back @ shift)
    new["conv2.weight"] = (out.flatten(1) @ back).view_as(out)
    return weights | {key: value.float() for key, value in new.items()}
