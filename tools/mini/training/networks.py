"""The four networks to train: the pack's and ComfyUI's own classes, with weights that can learn.

ComfyUI's layers leave their memory uninitialised and their weights without gradients, for it only ever loads files.
So every weight is drawn here, from a stream of its own that its name and the seed decide.
"""

from __future__ import annotations

import math
import zlib
from itertools import accumulate

import comfy.latent_formats
import comfy.ops
import torch
from comfy.ldm.wan.vae2_2 import Resample, WanVAE
from comfy.text_encoders.t5 import T5
from ovi_native.ovi_core.network.layers import HEAD_DIM
from ovi_native.ovi_core.network.rope import axis_dims
from ovi_native.ovi_core.network.transformer import OviTransformer
from ovi_native.ovi_core.vae.audio_vae import AudioAutoencoder, mel_filters
from ovi_native.ovi_core.vae.video_vae import build_network
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from .config import Config

LAYERS = comfy.ops.disable_weight_init


def video_vae(config: Config, device: str) -> WanVAE:
    """The Wan 2.2 VAE, at first a network of single pictures: nothing is mixed over time but the mean of neighbours."""
    network = build_network(config.video_vae.sizes())
    _initialise(network, config.seed, "video_vae")
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim == 5:
                weight[:, :, :-1] = 0  # the past, of which a single picture has none
            if name.endswith(("residual.6.weight", "proj.weight")):
                weight.mul_(0.3)  # residual branches start small
        for module in network.modules():
            if isinstance(module, Resample) and hasattr(module, "time_conv"):
                _keep_frames(module)
    return network.to(device)


def _keep_frames(resample: Resample) -> None:
    """A temporal convolution that yields the mean of two frames (down) or each frame twice (up)."""
    weight, identity = resample.time_conv.weight, torch.eye(resample.dim)
    weight.zero_()
    if resample.mode == "downsample3d":
        weight[:, :, 1, 0, 0] = weight[:, :, 2, 0, 0] = identity / 2
    else:
        weight[:, :, 2, 0, 0] = torch.cat((identity, identity))


def audio_autoencoder(config: Config, device: str) -> AudioAutoencoder:
    """Mel converter, spectrogram VAE and vocoder."""
    network = AudioAutoencoder(config.audio_sizes())
    _initialise(network, config.seed, "audio_vae")
    network.mel_converter.mel_basis = mel_filters()
    with torch.no_grad():
        network.vocoder.conv_post.weight.mul_(0.1)
    return network.to(device)


def twin(config: Config, device: str) -> OviTransformer:
    """The twin transformer; every token first looks at what is near it in space and time, and it predicts zero."""
    network = OviTransformer(operations=LAYERS, device="cpu", dtype=torch.float32, **config.twin_sizes().as_dict())
    _initialise(network, config.seed, "twin")
    dim = config.twin.dim
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith("modulation.weight"):
                weight.mul_(1 / math.sqrt(dim))
            elif name.endswith("time_projection.1.weight"):
                weight.mul_(0.1)
            elif name.endswith(("head.head.weight", "head.head.bias")):
                weight.zero_()
    look_nearby(network)
    look_at_words(network)
    return network.to(device)


NEARBY, FASTEST = 2.0, 6
"""Bias that is common to query and key, in units of their deviation, and on how many of an axis' fastest rotations."""


@torch.no_grad()
def look_nearby(network: OviTransformer) -> None:
    """Add a bias to queries and keys that makes a score the higher the nearer two tokens are.

    Rotated by their places, equal vectors agree where the places do. Positions are known to this architecture by rope
    alone, and to find that out takes a small model most of its training.
    """
    in_time, everywhere = torch.zeros(HEAD_DIM), torch.zeros(HEAD_DIM)
    starts = list(accumulate(axis_dims(HEAD_DIM), initial=0))[:-1]
    in_time[: 2 * FASTEST] = NEARBY
    for start in starts:
        everywhere[start : start + 2 * FASTEST] = NEARBY
    for tower, own in ((network, everywhere), (network.audio_model, in_time)):
        for block in tower.blocks:
            pairs = ((block.self_attn, own, ("q", "k")), (block.cross_attn, in_time, ("q", "k_fusion")))
            for attention, bias, names in pairs:
                for layer in (getattr(attention, name) for name in names):
                    deviation = layer.weight.norm() / len(layer.weight) ** 0.5
                    layer.bias += deviation * bias.repeat(len(layer.bias) // HEAD_DIM).to(layer.bias)


FAINT = 0.2
"""Of the bias of a text key, as a share of what a word adds to it."""


@torch.no_grad()
def look_at_words(network: OviTransformer) -> None:
    """Turn what is common to all queries away from the positions after a text's end; after :func:`look_nearby`.

    They outnumber the words ten to one, and as all are alike and clean, a tower may learn to look at nothing else. The
    text embedding gives zero there, so their key is the bias alone, however faint, while that of a word hardly has it.
    """
    for tower in (network, network.audio_model):
        for block in tower.blocks:
            attention = block.cross_attn
            common = attention.q.bias / attention.q.bias.norm()
            word = attention.k.weight.norm() / len(attention.k.weight) ** 0.5 * len(common) ** 0.5
            attention.k.bias.copy_(-FAINT * word * common)


def sixteen_bit_weights(network: OviTransformer) -> list[str]:
    """Names of the weights that the pack keeps in bfloat16 where a file is of that type; the rest is in 32 bits."""
    sizes = network.config.as_dict()
    stored = OviTransformer(operations=LAYERS, device="meta", dtype=torch.bfloat16, **sizes)
    return [name for name, weight in stored.named_parameters() if weight.dtype == torch.bfloat16]


def eight_bit_weights(network: OviTransformer) -> list[str]:
    """Names of the large matrices, which the exported file holds in scaled fp8."""
    from .twin_precision import twin_entries

    shapes = {name: weight.to("meta") for name, weight in network.state_dict().items()}
    return [entry.name for entry in twin_entries(shapes) if entry.type == torch.float8_e4m3fn]


def text_encoder(config: Config, device: str) -> T5:
    """UMT5; :func:`encode_text` runs it."""
    network = T5(config.text.sizes(), torch.float32, "cpu", LAYERS)
    _initialise(network, config.seed, "text")
    return network.to(device)


def encode_text(network: T5, ids: Tensor, mask: Tensor) -> Tensor:
    """What ComfyUI's T5 makes of ids [B, S] where mask [B, S] is 1, [B, S, d_model], zero elsewhere; with gradients.

    The same layers in the same order; ComfyUI's own forward adds in place to what its norms need for their gradients.
    """
    x = network.shared(ids)
    hidden = torch.where(mask[:, None, None, :] > 0, 0.0, torch.finfo(x.dtype).min)
    hidden = hidden.expand(-1, 1, ids.shape[1], -1)
    bias = None
    for block in network.encoder.block:
        own, feed_forward = block.layer
        out, bias = own.SelfAttention(own.layer_norm(x), mask=hidden, past_bias=bias, optimized_attention=attention)
        x = x + out
        x = x + feed_forward.DenseReluDense(feed_forward.layer_norm(x))
    return network.encoder.final_layer_norm(x) * mask.unsqueeze(-1)


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None, scale: float | None = None) -> Tensor:
    """Attention over [B, L, heads * d].

    On a processor by plain products: with gradients, a short clip's is several times faster so.
    """
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    if q.is_cuda and not (mask is not None and mask.requires_grad):
        mask = mask if mask is None else mask.to(q.dtype).expand(len(q), heads, q.shape[2], -1)
        return scaled_dot_product_attention(q, k, v, mask, scale=scale).transpose(1, 2).flatten(2)
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    weights = (scores if mask is None else scores + mask).softmax(dim=-1).to(v.dtype)
    return (weights @ v).transpose(1, 2).flatten(2)


def wan_moments() -> tuple[Tensor, Tensor]:
    """Mean and deviation [48] of Wan 2.2's latents, by which ComfyUI normalises them."""
    latents = comfy.latent_formats.Wan22()
    return latents.latents_mean.flatten(), latents.latents_std.flatten()


def _initialise(network: nn.Module, seed: int, part: str) -> None:
    """Draw every weight with a variance that keeps that of the activations, and let it learn."""
    network.requires_grad_(True)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {part} {name}".encode()))
            weight.copy_(_drawn(name, weight, generator))


def _drawn(name: str, weight: Tensor, generator: torch.Generator) -> Tensor:
    if name.endswith(("alpha", "beta", "bias", "learnable_gain")):  # snake activations hold logarithms
        return torch.zeros_like(weight)
    if name.endswith("gamma") or weight.ndim == 1:  # norms
        return torch.ones_like(weight)
    drawn = torch.randn(weight.shape, generator=generator)
    if name.endswith(("modulation.weight", "shared.weight")):
        return drawn
    if name.endswith("relative_attention_bias.weight"):
        return drawn * 0.1
    fan_in = weight[0].numel()
    if ".ups." in name:  # transposed convolutions: [in, out, kernel], of which two kernels' halves overlap
        fan_in = weight.shape[0] * 2
    elif weight.ndim == 5 and weight.shape[2] == 3 and weight.shape[3] == 3:
        fan_in = fan_in // 3  # of a single picture only the last of three frames is there
    return drawn / math.sqrt(fan_in)
