"""Writes one small model in every layout that people have its files in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import torch
from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor
from gguf.quants import dequantize, quantize
from safetensors.torch import save_file
from torch import Tensor

Weights = dict[str, Tensor]
Files = tuple[str, str | None]
VIDEO, AUDIO = "video_model.", "audio_model."


def is_large(key: str, value: Tensor) -> bool:
    """Whether a weight of the model is one of the large matrices, which quantised files quantise."""
    return value.ndim == 2 and not any(part in key for part in ("norm", "modulation", "time_", "head."))


# -- lossless: the same values under other names, in other containers ------------------------------------------------


def tower(weights: Weights, prefix: str) -> Weights:
    """One tower's weights without its prefix."""
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def wan_names(weights: Weights) -> Weights:
    """The video tower as a Wan file names it."""
    return {key.replace("modulation.modulation", "modulation"): v for key, v in tower(weights, VIDEO).items()}


def audio_names(weights: Weights) -> Weights:
    return {key: value for key, value in weights.items() if key.startswith(AUDIO)}


def saved(folder: Path, name: str, weights: Weights) -> str:
    path = str(folder / name)
    save_file({key: value.contiguous() for key, value in weights.items()}, path)
    return path


def one_file(prefix: str, rename: Callable[[Weights], Weights] = dict) -> Callable[[Weights, Path], Files]:
    def write(weights: Weights, folder: Path) -> Files:
        named = {prefix + key: value for key, value in rename(weights).items()}
        return saved(folder, "model.safetensors", named), None

    return write


def without_video_prefix(weights: Weights) -> Weights:
    return wan_names(weights) | audio_names(weights)


def in_pairs(weights: Weights) -> Weights:
    """Blocks as pairs, which training code has, and the rest of each tower under its own name."""
    named = {}
    for key, value in weights.items():
        model, _, rest = key.partition(".")
        if rest.startswith("blocks."):
            _, number, name = rest.split(".", 2)
            key = f"fusion_blocks.{number}.{'vid' if model == 'video_model' else 'audio'}_block.{name}"
        named[key] = value
    return named


def two_files(prefix: str = "", audio_prefix: str = AUDIO, swapped: bool = False) -> Callable[[Weights, Path], Files]:
    def write(weights: Weights, folder: Path) -> Files:
        video = saved(folder, "video.safetensors", {prefix + key: v for key, v in wan_names(weights).items()})
        sound = {audio_prefix + key: value for key, value in tower(weights, AUDIO).items()}
        audio = saved(folder, "audio.safetensors", sound)
        return (audio, video) if swapped else (video, audio)

    return write


def fusion_in_the_video_file(weights: Weights, folder: Path) -> Files:
    joins = {key: value for key, value in audio_names(weights).items() if "_fusion" in key}
    rest = {key: value for key, value in tower(weights, AUDIO).items() if AUDIO + key not in joins}
    return saved(folder, "video.safetensors", wan_names(weights) | joins), saved(folder, "audio.safetensors", rest)


def torch_file(name: str, wrap: Callable[[Weights], dict], **options: bool) -> Callable[[Weights, Path], Files]:
    def write(weights: Weights, folder: Path) -> Files:
        torch.save(wrap(weights), folder / name, **options)
        return str(folder / name), None

    return write


def misnamed(weights: Weights, folder: Path) -> Files:
    return str(Path(saved(folder, "model.safetensors", weights)).rename(folder / "model.ckpt")), None


def gguf_file(weights: Weights, folder: Path) -> Files:
    return write_gguf(folder / "model.gguf", weights)[0], None


LOSSLESS: dict[str, Callable[[Weights, Path], Files]] = {
    "published": one_file(""),
    "ComfyUI's prefix": one_file("model.diffusion_model."),
    "ComfyUI's short prefix": one_file("diffusion_model."),
    "module": one_file("module."),
    "module inside ComfyUI's": one_file("model.diffusion_model.module."),
    "backbone": one_file("backbone."),
    "video as Wan, sound with its prefix": one_file("", without_video_prefix),
    "the same with ComfyUI's prefix": one_file("model.diffusion_model.", without_video_prefix),
    "blocks in pairs": one_file("", in_pairs),
    "two files": two_files(),
    "two files with prefixes": two_files("model.diffusion_model.", "model.diffusion_model.audio_model."),
    "two files, no prefix at all": two_files("", ""),
    "two files in the other order": two_files("", "", swapped=True),
    "fusion of both in the video file": fusion_in_the_video_file,
    "torch": torch_file("model.pth", dict),
    "torch under module": torch_file("model.pt", lambda weights: {"module": weights}),
    "torch under app.model": torch_file("model.pt", lambda weights: {"app": {"model": weights, "step": 3}, "epoch": 1}),
    "torch's old format": torch_file("model.pth", dict, _use_new_zipfile_serialization=False),
    "safetensors named .ckpt": misnamed,
    "GGUF": gguf_file,
}


# -- quantised: other values, which the file says exactly ------------------------------------------------------------


HOST_FORMATS: dict[str, tuple[str, dict]] = {
    "float8_e4m3fn": ("float8_e4m3fn", {"scale": "recalculate"}),
    "float8_e5m2": ("float8_e5m2", {"scale": "recalculate"}),
    "int8": ("int8_tensorwise", {}),
    "int8 by row": ("int8_tensorwise", {"per_channel": True}),
    "int8 rotated": ("int8_tensorwise", {"per_channel": True, "convrot": True, "convrot_groupsize": 64}),
    "mxfp8": ("mxfp8", {}),
    "nvfp4": ("nvfp4", {}),
    "int4 rotated": ("convrot_w4a4", {"convrot_groupsize": 64}),
}
"""ComfyUI's formats, and how its own code quantises to them."""


def in_host_format(weights: Weights, name: str, marked: bool = True) -> tuple[Weights, Weights]:
    """The large matrices quantised by ComfyUI, with its marks or without; and the values that they stand for."""
    format, settings = HOST_FORMATS[name]
    conf = {"format": format} | {key: value for key, value in settings.items() if "convrot" in key}
    stored, meant = {}, dict(weights)
    for key, value in weights.items():
        if not is_large(key, value):
            stored[key] = value
            continue
        packed = QuantizedTensor.from_float(value, QUANT_ALGOS[format]["comfy_tensor_layout"], **settings)
        stored |= packed.state_dict(key)
        meant[key] = packed.dequantize().float()
        if marked:
            stored[key.removesuffix("weight") + "comfy_quant"] = torch.tensor(
                list(json.dumps(conf).encode()), dtype=torch.uint8
            )
    return {key: _storable(value) for key, value in stored.items()}, meant


def _storable(value: Tensor) -> Tensor:
    return value.view(torch.uint8) if value.dtype == torch.float8_e8m0fnu else value


# -- GGUF ------------------------------------------------------------------------------------------------------------


FLOAT16_AT = {
    "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_NL": (0,), "IQ4_XS": (0,),
}  # fmt: skip
"""Types the library cannot write, and where their blocks have float16 numbers."""


def packed_values(value: Tensor, type: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of a GGML type, and the values they stand for: near ``value``, or drawn where the library cannot pack."""
    kind = gguf.GGMLQuantizationType[type]
    if type not in FLOAT16_AT:
        blocks = quantize(value.float().numpy(), kind)
        return blocks, dequantize(blocks, kind)
    per_block, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = np.random.default_rng(seed).integers(0, 256, (value.shape[0], value.shape[1] // per_block, size), np.uint8)

    def scaled(scale: float) -> np.ndarray:
        for place in FLOAT16_AT[type]:
            blocks[..., place : place + 2] = np.frombuffer(np.float16(scale).tobytes(), np.uint8)
        return dequantize(blocks.reshape(value.shape[0], -1), kind)

    meant = scaled(float(value.float().std() / scaled(1.0).std()))
    return blocks.reshape(value.shape[0], -1), meant


def write_gguf(
    path: Path, weights: Weights, type: str = "F32", keep_axes: bool = False, variant: str = ""
) -> tuple[str, Weights]:
    """The large matrices packed as ``type``, the rest as float32; axes of size 1 in front are lost, as GGUF loses them.

    Args:
        variant: what the header says that the file is; nothing where it is empty.

    Returns:
        The path, and the values that the file stands for.
    """
    writer, meant = gguf.GGUFWriter(str(path), "ovi"), dict(weights)
    if variant:
        writer.add_string("ovi_variant", variant)
    per_block = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[type]][0]
    for number, (key, value) in enumerate(weights.items()):
        if type == "F32" or not is_large(key, value) or value.shape[1] % per_block:
            kept = value if keep_axes or value.ndim < 2 or value.shape[0] != 1 else value.squeeze(0)
            writer.add_tensor(key, kept.float().numpy())
            continue
        blocks, values = packed_values(value, type, number)
        writer.add_tensor(key, blocks, raw_dtype=gguf.GGMLQuantizationType[type])
        meant[key] = torch.from_numpy(values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path), meant
