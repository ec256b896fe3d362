"""What this package uses of ComfyUI beyond its documented interface; ``tests/test_comfyui_interface.py`` holds it."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import comfy.sd
import comfy.text_encoders.wan
import comfy.utils
import torch
from comfy.text_encoders.sd3_clip import t5_xxl_detect
from comfy.text_encoders.spiece_tokenizer import SPieceTokenizer
from comfy.text_encoders.t5 import T5
from comfy.text_encoders.wan import UMT5XXlTokenizer

__all__ = ["T5", "is_xxl", "sentencepiece", "sentencepiece_of", "text_encoder_parts", "with_quantization_marks"]


def is_xxl(weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether ComfyUI's own detection takes weights for T5-XXL or UMT5-XXL."""
    return comfy.sd.detect_te_model(weights) == comfy.sd.TEModel.T5_XXL


def text_encoder_parts(weights: Mapping[str, torch.Tensor]) -> Any:
    """What ComfyUI's ``CLIP`` is made of for UMT5 of any size."""
    return SimpleNamespace(
        params={},
        clip=comfy.text_encoders.wan.te(**t5_xxl_detect(weights)),
        tokenizer=comfy.text_encoders.wan.WanT5Tokenizer,
    )


def with_quantization_marks(weights: dict[str, torch.Tensor], metadata: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """Weights in ComfyUI's present spelling of quantized layers."""
    return comfy.utils.convert_old_quants(weights, model_prefix="", metadata=metadata)[0]


def sentencepiece(model: torch.Tensor) -> Any:
    """The sentencepiece processor for a model, uint8, as ComfyUI makes it."""
    return SPieceTokenizer(model).tokenizer


def sentencepiece_of(clip: Any) -> Any:
    """The sentencepiece processor inside a CLIP of UMT5; None for one of another family."""
    tokenizer = getattr(clip, "tokenizer", None)
    inner = getattr(tokenizer, getattr(tokenizer, "clip", ""), None)
    return inner.tokenizer.tokenizer if isinstance(inner, UMT5XXlTokenizer) else None
