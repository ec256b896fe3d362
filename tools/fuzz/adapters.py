"""Files of LoRAs: adapters of all kinds, whole, in halves, of wrong shapes and types."""

from __future__ import annotations

from random import Random

import safetensors.torch
import torch
from torch import Tensor

from . import files
from .mutate import mutated

DIM, RANK = files.TINY.dim, 4
Shape = tuple[int, ...]
WEIGHT, BIAS, MODULATION = (DIM, DIM), (DIM,), (1, 6, DIM)
KINDS: tuple[dict[str, Shape], ...] = (
    {"lora_A.weight": (RANK, DIM), "lora_B.weight": (DIM, RANK)},
    {"lora_down.weight": (RANK, DIM), "lora_up.weight": (DIM, RANK), "alpha": ()},
    {"lora_down.weight": (RANK, DIM), "lora_up.weight": (DIM, RANK), "lora_mid.weight": (RANK, RANK, 1, 1)},
    {"lora_A.default.weight": (RANK, DIM), "lora_B.default.weight": (DIM, RANK), "dora_scale": (DIM, 1)},
    {"lora.down.weight": (RANK, DIM), "lora.up.weight": (DIM, RANK)},
    {"lora_A.weight": (RANK, DIM), "lora_B.weight": (DIM, RANK), "lora_B.bias": (DIM,), "reshape_weight": (2,)},
    {"hada_w1_a": (DIM, RANK), "hada_w1_b": (RANK, DIM), "hada_w2_a": (DIM, RANK), "hada_w2_b": (RANK, DIM)},
    {"hada_w1_a": (DIM, RANK), "hada_w1_b": (RANK, DIM), "hada_w2_a": (DIM, RANK), "hada_w2_b": (RANK, DIM)}
    | {"hada_t1": (RANK, RANK, 1, 1), "hada_t2": (RANK, RANK, 1, 1)},
    {"lokr_w1": (8, 8), "lokr_w2": (DIM // 8, DIM // 8), "alpha": ()},
    {"lokr_w1_a": (8, RANK), "lokr_w1_b": (RANK, 8), "lokr_w2_a": (16, RANK), "lokr_w2_b": (RANK, 16)},
    {"lokr_w1": (8, 8), "lokr_w2_a": (16, RANK), "lokr_w2_b": (RANK, 16), "lokr_t2": (RANK, RANK, 1, 1)},
    {"a1.weight": (RANK, DIM), "a2.weight": (DIM, RANK), "b1.weight": (RANK, DIM), "b2.weight": (DIM, RANK)},
    {"oft_blocks": (8, 16, 16), "rescale": (DIM, 1), "alpha": ()},
    {"oft_blocks": (3, 8, 16, 16), "alpha": ()},
    {"diff": WEIGHT, "diff_b": BIAS},
    {"diff_b": BIAS},
    {"set_weight": WEIGHT},
    {"w_norm": BIAS, "b_norm": BIAS},
)
LAYERS = (
    "blocks.0.self_attn.q",
    "blocks.1.cross_attn.o",
    "audio_model.blocks.0.self_attn.v",
    "blocks.0.ffn.0",
    "head.head",
)
PREFIXES = ("diffusion_model.", "", "transformer.", "lora_unet_", "base_model.model.", "text_encoder.")


def lora_bytes(random: Random) -> bytes:
    """A safetensors file with one to three adapters."""
    weights: dict[str, Tensor] = {}
    for _ in range(random.choice((1, 1, 2, 3))):
        prefix, layer = random.choice(PREFIXES), random.choice(LAYERS)
        name = prefix + (layer.replace(".", "_") if prefix == "lora_unet_" else layer)
        parts = dict(random.choice(KINDS))
        if random.random() < 0.2:
            parts |= random.choice(KINDS)
        if random.random() < 0.3:
            parts.pop(random.choice(list(parts)))
        weights |= {f"{name}.{part}": _drawn(random, shape) for part, shape in parts.items()}
    if random.random() < 0.1:
        at = random.choice(("blocks.0.diff_m", "head.diff_m", "audio_model.blocks.1.diff_m", "modulation.diff_m"))
        weights["diffusion_model." + at] = _drawn(random, random.choice((MODULATION, (1, 2, DIM), (6, DIM))))
    metadata = random.choice((None, {"ss_network_module": "networks.lora"}, {"a": "\x00" * 10}))
    out = safetensors.torch.save(weights, metadata)
    return mutated(random, out) if random.random() < 0.05 else out


def _drawn(random: Random, shape: Shape) -> Tensor:
    """Values of that shape, or of one near it; one in a few of another type or not finite."""
    sizes = list(shape)
    if random.random() < 0.15:
        change = random.randrange(5)
        if change == 0 and sizes:
            sizes[random.randrange(len(sizes))] = random.choice((0, 1, 2, 3, 5, 8, 64, 256))
        elif change == 1:
            sizes = sizes[:-1]
        elif change == 2:
            sizes = [*sizes, random.choice((0, 1, 2))]
        elif change == 3:
            sizes = sizes[::-1]
        else:
            sizes = []
    dtype = random.choice((torch.float32, torch.float16, torch.bfloat16, torch.float32, torch.int64, torch.uint8))
    if dtype.is_floating_point or random.random() < 0.8:
        dtype = dtype if dtype.is_floating_point else torch.float32
        value = 0.01 if random.random() < 0.97 else random.choice((float("nan"), float("inf"), 1e30))
        return torch.full(sizes, value).to(dtype)
    return torch.ones(sizes, dtype=dtype)
