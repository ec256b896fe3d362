"""What this package uses of ComfyUI beyond its documented interface; ``tests/test_comfyui_interface.py`` holds it.

Where a ComfyUI does one of these in another way, the network does without, and says so once in the console.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

import comfy.ops
import torch
from comfy.cli_args import args as flags
from comfy.ldm.common_dit import pad_to_patch_size
from comfy.ldm.flux.math import apply_rope1
from comfy.ldm.modules.attention import attention_pytorch, optimized_attention
from comfy.ops import CastWeightBiasOp, manual_cast
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

try:
    from comfy import model_prefetch
except ImportError:
    model_prefetch = None
try:
    from comfy.ops import linear_input_act
except ImportError:
    linear_input_act = None
try:
    from comfy.quant_ops import QuantizedTensor
except ImportError:
    QuantizedTensor = None
try:
    from comfy_kitchen import adaln
except ImportError:
    adaln = None

__all__ = [
    "CUDNN_FIRST",
    "FULL_PRECISION",
    "FUSED_NORM",
    "FUSED_ROPE",
    "OVERRIDE",
    "PREFETCH",
    "CastWeightBiasOp",
    "WrapperExecutor",
    "WrappersMP",
    "absorbs_gelu",
    "adaln",
    "apply_rope1",
    "cudnn_attention",
    "fp8_layout_of",
    "get_all_wrappers",
    "linear_input_act",
    "manual_cast",
    "optimized_attention",
    "pad_to_patch_size",
    "prefers_cudnn",
    "prefetch_next",
    "prefetch_queue",
    "product",
    "quantized_once",
    "with_weight",
]

OVERRIDE = "optimized_attention_override"
"""Transformer option of ComfyUI: what a node takes for attention."""
CUDNN_FIRST = "ovi_cudnn_first"
"""Transformer option: what :func:`prefers_cudnn` says."""
CUDNN_CAPABILITY = (9, 0)
"""Compute capability on which cuDNN's kernel is the fastest of PyTorch's: 595 to 631 TFLOP/s where FlashAttention 2 has
370 (quoted for an H100 and heads of 128; not measured here)."""
KERNELS = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]
PREFETCH = "prefetch_dynamic_vbars"
"""Transformer option of ComfyUI: whether it pages the model's weights in."""


def takes(function: Any, *names: str) -> bool:
    """Whether ``function`` is there and has parameters of these names."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    return all(name in parameters for name in names)


def _known(what: str, without: str, known: bool) -> bool:
    if not known:
        logging.warning(
            "Ovi: this ComfyUI has another %s than the pack knows. %s Please update the pack.", what, without
        )
    return known


CASTS = _known(
    "way to cast weights (comfy.ops.cast_bias_weight)",
    "Modulation weights are cast without it: the same result, but they are not offloaded.",
    takes(getattr(comfy.ops, "cast_bias_weight", None), "dtype", "device", "bias_dtype", "offloadable")
    and takes(getattr(comfy.ops, "uncast_bias_weight", None), "weight", "bias"),
)
PREFETCHES = model_prefetch is not None and _known(
    "queue for weights (comfy.model_prefetch)",
    "Weights are copied to the card when they are needed, which is slower.",
    takes(getattr(model_prefetch, "make_prefetch_queue", None), "queue", "device", "transformer_options")
    and takes(getattr(model_prefetch, "prefetch_queue_pop", None), "queue", "device", "module"),
)


def _has_kernel(operation: str) -> bool:
    """Whether comfy_kitchen does ``operation`` by one kernel; else it runs the same operations as PyTorch does."""
    try:
        from comfy_kitchen import list_backends

        return any(
            some["available"] and not some["disabled"] and operation in some["capabilities"]
            for name, some in list_backends().items()
            if name != "eager"
        )
    except (ImportError, KeyError, TypeError, AttributeError):  # another version of it; it is only about speed
        return False


FUSED_ROPE = _has_kernel("apply_rope1")
"""Rotation by one kernel; else there are copies in float32."""
FUSED_NORM = takes(adaln, "x", "scale", "shift", "eps") and _has_kernel("adaln")
"""Norm and modulation by one kernel."""
INT8_LAYOUT = "TensorWiseINT8Layout"


def absorbs_gelu(layer: nn.Module) -> bool:
    """Whether ComfyUI's ``linear_input_act`` computes GELU while it quantises what goes into ``layer``.

    With other weights it would make a second tensor for GELU's result.
    """
    return linear_input_act is not None and getattr(layer.weight, "_layout_cls", None) == INT8_LAYOUT


FULL_PRECISION = "_full_precision_mm"
"""Attribute of ComfyUI's quantized layers: whether they multiply in the type of the activations."""


def fp8_layout_of(layer: Any) -> str | None:
    """The layout of a layer with ComfyUI's scaled fp8 weights; None for any other layer."""
    layout = getattr(layer, "layout_type", None)
    return layout if isinstance(layout, str) and "FP8E4M3" in layout and "MX" not in layout else None


def quantized_once(x: Tensor, *layers: nn.Module) -> Tensor | None:
    """x [..., D] in fp8 as [tokens, D], for :func:`product` with each of ``layers``; None where they do not share it.

    They do where each would quantise it in the same way: ComfyUI's layers of scaled fp8 that multiply in fp8, without
    patches of their weights and without a scale of their own for what goes in, as some files have.
    """
    layouts = {_fp8_input(layer) for layer in layers}
    if QuantizedTensor is None or len(layouts) != 1 or None in layouts or torch.is_grad_enabled():
        return None
    return QuantizedTensor.from_float(x.reshape(-1, x.shape[-1]), layouts.pop(), scale=None)


def _fp8_input(layer: Any) -> str | None:
    """The layout that a layer quantises its input to, where nothing but that input decides how; else None."""
    if getattr(layer, FULL_PRECISION, True) or getattr(layer, "comfy_force_cast_weights", False):
        return None
    own_scale = any(getattr(layer, name, None) is not None for name in ("input_scale", "pre_quant_scale"))
    patched = layer.weight_function or layer.bias_function
    replaced = (
        "forward" in layer.__dict__ or layer._forward_pre_hooks or layer._forward_hooks
    )  # as a bypassed LoRA does
    return None if own_scale or patched or replaced else fp8_layout_of(layer)


def product(layer: nn.Module, x: Tensor, quantized: Tensor | None) -> Tensor:
    """``layer(x)``, from what :func:`quantized_once` made of x where that is not None."""
    return layer(x) if quantized is None else layer(quantized).unflatten(0, x.shape[:-1])


def prefers_cudnn(device: torch.device, options: dict) -> bool:
    """Whether attention asks PyTorch for cuDNN's kernel first, where ComfyUI asks for FlashAttention 2.

    On cards of :data:`CUDNN_CAPABILITY`, unless the user chose otherwise: by a flag such as ``--use-sage-attention``,
    by a node's override, or by switching cuDNN's attention off in PyTorch.
    """
    chosen = any(value for name, value in vars(flags).items() if name.startswith("use_") and name.endswith("attention"))
    return (
        OVERRIDE not in options
        and not chosen
        and optimized_attention is attention_pytorch
        and _nvidia_capability(device) == CUDNN_CAPABILITY
        and torch.backends.cuda.cudnn_sdp_enabled()
        and takes(sdpa_kernel, "set_priority")
    )


def _nvidia_capability(device: torch.device) -> tuple[int, int] | None:
    if device.type != "cuda" or torch.version.cuda is None:
        return None
    return torch.cuda.get_device_capability(device)


def cudnn_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """PyTorch's attention on [B, L, D], by cuDNN's kernel where that takes the shape and type, else as in ComfyUI."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    with sdpa_kernel(KERNELS, set_priority=True):
        return scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)


def with_weight(layer: Any, device: torch.device, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """``compute(weight)`` with the layer's weight in float32 on ``device``, patched, wherever ComfyUI keeps it."""
    if not CASTS:
        weight = layer.weight.to(device=device, dtype=torch.float32)
        for patch in layer.weight_function:
            weight = patch(weight)
        return compute(weight)
    weight, bias, stream = comfy.ops.cast_bias_weight(
        layer, dtype=torch.float32, device=device, bias_dtype=torch.float32, offloadable=True
    )
    result = compute(weight)
    comfy.ops.uncast_bias_weight(layer, weight, bias, stream)
    return result


def prefetch_queue(modules: Callable[[], list[nn.Module]], device: torch.device, options: dict) -> list | None:
    """A queue that copies the weights of each of ``modules()`` to ``device`` ahead of its work.

    Returns:
        None where ComfyUI pages nothing in; then ``modules`` is not called.
    """
    if not (PREFETCHES and options.get(PREFETCH)):
        return None
    return model_prefetch.make_prefetch_queue(modules(), device, options)


def prefetch_next(queue: list, device: torch.device) -> None:
    """Let go of the module that ran, and copy the one after the next: before each module, and after all."""
    model_prefetch.prefetch_queue_pop(queue, device, None)
