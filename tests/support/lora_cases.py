"""Adapters of every kind for layers of the tiny model, and tensors of any shape under any of their names."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from native_cases import TINY, drawn
from ovi_native.ovi_core.model.checkpoint import expected_weights
from ovi_native.ovi_core.network.transformer import OviConfig

CONFIG = OviConfig(freq_dim=256, video_channels=48, audio_channels=20, **TINY)
DIM, FFN, RANK = TINY["dim"], TINY["ffn_dim"], 4
Q, FFN_0, NORM, PATCH = "blocks.0.self_attn.q", "audio_model.blocks.1.ffn.0", "blocks.1.norm3", "patch_embedding"
LAYERS = (Q, FFN_0, "head.head", PATCH, "audio_model.patch_embedding.0", NORM, "blocks.0.modulation")


def matrix(layer: str) -> tuple[int, int]:
    weight = expected_weights(CONFIG)[f"{layer}.weight"]
    return weight.shape[0], weight[0].numel()


def rand(*shape: int) -> torch.Tensor:
    return drawn(*shape, seed=sum(shape)) / 4


def adapter(kind: str, layer: str) -> dict[str, torch.Tensor]:
    """A whole adapter by part."""
    rows, columns = matrix(layer)
    weight = expected_weights(CONFIG)[f"{layer}.weight"]
    return {
        "lora": {"lora_down.weight": rand(RANK, columns), "lora_up.weight": rand(rows, RANK)},
        "peft": {"lora_A.weight": rand(RANK, columns), "lora_B.weight": rand(rows, RANK)},
        "dora": {
            "lora_down.weight": rand(RANK, columns),
            "lora_up.weight": rand(rows, RANK),
            "dora_scale": rand(rows, 1).abs() + 1,
        },
        "loha": {
            "hada_w1_a": rand(rows, RANK),
            "hada_w1_b": rand(RANK, columns),
            "hada_w2_a": rand(rows, RANK) + 0.1,
            "hada_w2_b": rand(RANK, columns) + 0.1,
        },
        "lokr": {"lokr_w1": rand(1, 1) + 1, "lokr_w2_a": rand(rows, RANK), "lokr_w2_b": rand(RANK, columns)},
        "lokr whole": {"lokr_w1": rand(1, 1) + 1, "lokr_w2": rand(rows, columns)},
        "glora": {
            "a1.weight": rand(columns, RANK),
            "a2.weight": rand(RANK, columns),
            "b1.weight": rand(rows, RANK),
            "b2.weight": rand(RANK, columns),
        },
        "oft": {"oft_blocks": rand(rows // 4, 4, 4) if rows % 4 == 0 else rand(rows, 1, 1)},
        "boft": {"oft_blocks": rand(2, rows // 4, 4, 4) if rows % 8 == 0 else rand(1, 1, rows, rows)},
        "diff": {"diff": rand(*weight.shape)},
    }[kind]


KINDS = ("lora", "peft", "dora", "loha", "lokr", "lokr whole", "glora", "oft", "boft", "diff")
MATRICES = (Q, FFN_0, "head.head")


def named(layer: str, parts: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{layer}.{part}": value for part, value in parts.items()}


PART_NAMES = sorted({part for kind in KINDS for part in adapter(kind, Q)} | {
    "alpha", "dora_scale", "lora_mid.weight", "hada_t1", "hada_t2", "lokr_t2", "lokr_w1_a", "lokr_w1_b", "rescale",
    "reshape_weight", "diff_b", "set_weight", "w_norm", "b_norm", "diff_m", "lora_magnitude_vector.default.weight",
})  # fmt: skip
SIZES = st.sampled_from([0, 1, 2, 3, RANK, 8, 48, 64, DIM, FFN])
TENSORS = st.builds(
    lambda shape, dtype, fill: torch.full(shape, fill).to(dtype),
    st.lists(SIZES, max_size=5).filter(lambda shape: torch.Size(shape).numel() <= 1 << 20).map(tuple),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.int8, torch.int64, torch.bool]),
    st.sampled_from([0.0, 1.0, 0.5, -1.0]),
)
PREFIXES = st.sampled_from(["", "diffusion_model.", "transformer.", "base_model.model.", "lora_unet_"])
