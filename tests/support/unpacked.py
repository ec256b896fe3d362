"""The small model's weights unpacked from their 8 bits, for tests that make many clips."""

from __future__ import annotations

from typing import Any

import torch
from comfy.quant_ops import QuantizedTensor


@torch.inference_mode()
def unpacked(model: Any) -> Any:
    """The MODEL with the same values in 32 bits: the same clips bit by bit, without unpacking them at every use."""
    found = 0
    for module in model.model.diffusion_model.modules():
        for name, weight in module.named_parameters(recurse=False):
            if isinstance(weight.data, QuantizedTensor):
                setattr(module, name, torch.nn.Parameter(weight.data.dequantize(), requires_grad=False))
                found += 1
    assert found, "The small model has no weights of 8 bits any more: this is not needed."
    return model
