"""What a state dict is, judged by its keys and shapes, in the user's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch


def describe_weights(weights: Mapping[str, torch.Tensor]) -> str:
    """What a state dict is, in the user's words."""
    for describe in _KINDS:
        kind = describe(weights)
        if kind:
            return kind
    first = ", ".join(list(weights)[:3]) or "none"
    return f"a file of an unknown kind ({len(weights)} weights: {first})"


def _has(*keys: str, kind: str) -> Callable[[Mapping[str, torch.Tensor]], str]:
    return lambda weights: kind if all(key in weights for key in keys) else ""


def _under(prefix: str, kind: str) -> Callable[[Mapping[str, torch.Tensor]], str]:
    return lambda weights: kind if any(key.startswith(prefix) for key in weights) else ""


def quantized_elsewhere(weights: Mapping[str, torch.Tensor]) -> str:
    """What a state dict is if it is quantized in a way that neither ComfyUI nor this pack computes with, else ""."""
    last = {name for key in weights for name in (key.rpartition(".")[2], ".".join(key.rsplit(".", 2)[-2:]))}
    for marks, kind in _ELSEWHERE:
        if marks <= last:
            return kind
    return "weights quantized by bitsandbytes" if any("bitsandbytes__" in key for key in weights) else ""


_ELSEWHERE = (
    ({"weight._data", "weight._scale"}, "weights quantized by quanto (int8), as Wan2GP uses them"),
    ({"qweight", "wscales"}, "weights quantized for nunchaku (SVDQuant)"),
    ({"qweight", "qzeros"}, "weights quantized by GPTQ or AWQ"),
    ({"weight", "absmax", "quant_map"}, "weights quantized by bitsandbytes"),
)


def _lora(weights: Mapping[str, torch.Tensor]) -> str:
    marks = (".lora_", "lora_down", "lora_up", "lora_A", "lora_B", ".hada_w", ".lokr_")
    return "a LoRA" if any(mark in key for key in weights for mark in marks) else ""


def _ovi(weights: Mapping[str, torch.Tensor]) -> str:
    video = any(key.startswith("video_model.") for key in weights)
    audio = any(key.startswith("audio_model.") for key in weights)
    if video and audio:
        return "an Ovi transformer"
    return "one tower of an Ovi transformer" if video or audio else ""


def _wan(weights: Mapping[str, torch.Tensor]) -> str:
    if "blocks.0.self_attn.q.weight" not in weights:
        return ""
    first = weights.get("patch_embedding.weight")
    width, channels = first.shape[:2] if first is not None and first.ndim == 5 else (0, 0)
    size = {1536: "1.3B", 3072: "5B", 5120: "14B"}.get(width)
    return f"a Wan transformer ({size}, {channels} input channels)" if size else "a Wan transformer"


def _ltx(weights: Mapping[str, torch.Tensor]) -> str:
    if not any(key.endswith("patchify_proj.weight") for key in weights):
        return ""
    audio = any("audio_patchify_proj" in key for key in weights)
    return "an LTX-2 transformer (video and audio)" if audio else "an LTX-Video transformer"


def _video_vae(weights: Mapping[str, torch.Tensor]) -> str:
    if "decoder.middle.0.residual.0.gamma" not in weights:
        return ""
    last = weights.get("conv2.weight")
    if last is None or last.ndim < 1:
        return ""
    generation = "2.2" if any(key.startswith("decoder.upsamples.0.upsamples.") for key in weights) else "2.1"
    return f"a Wan {generation} video VAE ({last.shape[0]} latent channels)"


def _mmaudio_vae(weights: Mapping[str, torch.Tensor]) -> str:
    first = weights.get("encoder.conv_in.weight")
    if first is None or first.ndim != 3:
        return ""
    rate = {80: "16 kHz ", 128: "44.1 kHz "}.get(first.shape[1], "")
    return f"an MMAudio {rate}VAE ({first.shape[1]} mel bands)"


def _vocoder(weights: Mapping[str, torch.Tensor]) -> str:
    for spelling in ("weight", "weight_v", "parametrizations.weight.original1"):
        first = weights.get(f"conv_pre.{spelling}")
        if first is not None and first.ndim == 3:
            return f"a BigVGAN vocoder ({first.shape[1]} mel bands)"
    return ""


def _t5(weights: Mapping[str, torch.Tensor]) -> str:
    if "encoder.block.0.layer.0.SelfAttention.q.weight" not in weights:
        return ""
    family = "UMT5" if "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight" in weights else "T5"
    return f"a {family} text encoder"


# The order matters: a LoRA repeats the keys of what it changes, a checkpoint holds the keys of its parts.
_KINDS: tuple[Callable[[Mapping[str, torch.Tensor]], str], ...] = (
    quantized_elsewhere,
    _lora,
    _ovi,
    _has("blocks.0.cross_attn.k_fusion.weight", kind="one tower of an Ovi transformer"),
    _under("model.diffusion_model.input_blocks.", "a Stable Diffusion checkpoint"),
    _under("input_blocks.", "a Stable Diffusion model"),
    _ltx,
    _under("model.diffusion_model.", "a diffusion checkpoint"),
    _wan,
    _under("double_blocks.", "a diffusion transformer of the Flux or Hunyuan family"),
    _under("transformer_blocks.", "a diffusion transformer"),
    _video_vae,
    _has("encoder.conv1.weight", "decoder.conv1.weight", kind="part of a Wan video VAE"),
    _mmaudio_vae,
    _vocoder,
    _under("vocoder.", "an audio VAE with a vocoder"),
    _has("decoder.up_blocks.0.resnets.0.conv1.weight", kind="an image VAE"),
    _has("decoder.conv_in.weight", kind="an image or video VAE of another family"),
    _t5,
    _has("token_embedding.weight", "blocks.0.attn.q.weight", kind="a UMT5 text encoder in Wan's own layout"),
    _has("enc.blk.1.attn_rel_b.weight", kind="a UMT5 text encoder in llama.cpp's layout (GGUF)"),
    _has("enc.blk.0.attn_q.weight", kind="a T5 text encoder in llama.cpp's layout (GGUF)"),
    _under("blk.0.", "a language model (GGUF)"),
    _under("text_model.encoder.", "a CLIP text encoder"),
    _under("text_encoders.", "a CLIP text encoder"),
    _under("model.layers.", "a language model (Llama, Qwen, Gemma, Mistral)"),
)
