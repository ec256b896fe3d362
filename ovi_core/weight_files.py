"""Weight files: read one, say what it is, and hold its keys against a network's. Every complaint is an OviError."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import comfy.utils
import safetensors
import torch

from .errors import OviError

Weights = dict[str, torch.Tensor]

_LEADING_BYTES = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
    (b"<!doctype", "a web page saved under this name"),
    (b"<html", "a web page saved under this name"),
)


def read_weights(path: str, *, input: str, accepted: str) -> Weights:
    """Tensors of a ``.safetensors``, ``.pth``, ``.pt`` or ``.ckpt`` file by key, on the CPU; code in it is not run.

    One level of ``state_dict`` or ``generator`` (BigVGAN's publication) is opened; entries that are no tensors are left
    out. Raises OviError if the file is missing, empty, cut short or not a weight file.
    """
    name = os.path.basename(path)

    def refuse(what: str) -> OviError:
        remedy = f"Fetch '{name}' again, or pick another file."
        return OviError(input=input, found=what, accepted=accepted, remedy=remedy)

    if not os.path.isfile(path):
        raise refuse(f"no file '{name}'")
    with open(path, "rb") as file:
        head = file.read(64).lstrip().lower()
    if not head:
        raise refuse(f"'{name}', an empty file")
    for start, what in _LEADING_BYTES:
        if head.startswith(start):
            raise refuse(f"'{name}', {what}")
    try:
        found = comfy.utils.load_torch_file(path, safe_load=True)
        if isinstance(found.get("generator"), Mapping):
            found = found["generator"]
        return {key: value for key, value in found.items() if isinstance(value, torch.Tensor)}
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise refuse(f"'{name}', which is damaged or no weight file ({reason[:160]})") from error


def read_metadata(path: str) -> dict[str, str] | None:
    """The header's metadata of a sound safetensors file; None for other kinds of files."""
    if not path.lower().endswith((".safetensors", ".sft")):
        return None
    with safetensors.safe_open(path, framework="pt") as file:
        return file.metadata()


def without_prefix(weights: Mapping[str, torch.Tensor], prefix: str) -> Weights:
    """The weights under ``prefix``, named without it; empty if there are none."""
    return {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}


def check_weights(
    expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], *, input: str, what: str
) -> None:
    """Raise OviError, naming the first few, unless ``found`` has exactly the keys and shapes of ``expected``."""
    faults = {
        "missing": [key for key in expected if key not in found],
        "not part of it": [key for key in found if key not in expected],
        "of another shape": [
            f"{key} {list(found[key].shape)} instead of {list(expected[key].shape)}"
            for key in expected
            if key in found and found[key].shape != expected[key].shape
        ],
    }
    told = [f"{len(keys)} {kind}: {', '.join(keys[:3])}" for kind, keys in faults.items() if keys]
    if told:
        raise OviError(
            input=input,
            found=f"{what} with wrong weights ({'; '.join(told)})",
            accepted=f"{what} with exactly its {len(expected)} weights",
            remedy="The file is cut short or of another make: fetch the published one again.",
        )


def axis(weights: Mapping[str, torch.Tensor], key: str, index: int, *, input: str, what: str) -> int:
    """Size of one axis of a weight; an OviError that names the key if the weight or the axis is not there."""
    if key not in weights or weights[key].ndim <= index:
        raise OviError(
            input=input,
            found=f"{what} without a usable weight '{key}'",
            accepted=f"a complete {what}",
            remedy="The file is cut short or of another make: fetch the published one again.",
        )
    return weights[key].shape[index]


def wrong_file(weights: Mapping[str, torch.Tensor], *, input: str, accepted: str, remedy: str) -> OviError:
    """The error for a sound file of the wrong kind; it says what the file is where that can be told."""
    return OviError(input=input, found=describe_weights(weights), accepted=accepted, remedy=remedy)


def describe_weights(weights: Mapping[str, torch.Tensor]) -> str:
    """What a state dict is, in an artist's words, judged by its keys."""
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


def _lora(weights: Mapping[str, torch.Tensor]) -> str:
    marks = (".lora_", "lora_down", "lora_up", "lora_A", "lora_B", ".hada_w", ".lokr_")
    return "a LoRA" if any(mark in key for key in weights for mark in marks) else ""


def _ovi(weights: Mapping[str, torch.Tensor]) -> str:
    video = any(key.startswith("video_model.") for key in weights)
    audio = any(key.startswith("audio_model.") for key in weights)
    if video and audio:
        return "an Ovi transformer"
    return "one tower of an Ovi transformer" if video or audio else ""


def _video_vae(weights: Mapping[str, torch.Tensor]) -> str:
    if "decoder.middle.0.residual.0.gamma" not in weights or "conv2.weight" not in weights:
        return ""
    generation = "2.2" if any(key.startswith("decoder.upsamples.0.upsamples.") for key in weights) else "2.1"
    return f"a Wan {generation} video VAE ({weights['conv2.weight'].shape[0]} latent channels)"


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
    _lora,
    _ovi,
    _has("blocks.0.cross_attn.k_fusion.weight", kind="one tower of an Ovi transformer"),
    _under("model.diffusion_model.input_blocks.", "a Stable Diffusion checkpoint"),
    _under("input_blocks.", "a Stable Diffusion model"),
    _under("model.diffusion_model.", "a diffusion checkpoint"),
    _has("blocks.0.self_attn.q.weight", kind="a Wan transformer"),
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
    _under("text_model.encoder.", "a CLIP text encoder"),
    _under("text_encoders.", "a CLIP text encoder"),
    _under("model.layers.", "a language model (Llama, Qwen, Gemma, Mistral)"),
)
