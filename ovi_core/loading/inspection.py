"""Identifies a weight file and lists missing parts. Reads headers only, whatever the file's size."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field

import torch

from ..errors import OviError
from ..model import checkpoint
from ..spec import VARIANTS, Variant
from ..text import umt5
from ..vae import video_vae
from ..weights import quantization
from ..weights.files import WeightFile, Weights, read_header
from ..weights.gguf_tensors import format_of
from ..weights.identify import describe_weights
from . import manifest
from .loader import read_model_file
from .variant_detection import variant_of

ACCEPTED = "a weight file: safetensors, GGUF, or a torch file without code"
OTHER_TOWER = {"video": "audio", "audio": "video"}


@dataclass
class Report:
    """What is printed of one file: lines by heading, and whether the pack can use it."""

    lines: dict[str, str] = field(default_factory=dict)
    usable: bool = True

    def fails(self, error: OviError) -> Report:
        """With what an error says is wrong."""
        self.usable = False
        self.lines |= {"wrong": f"{error.found}.", "accepted": f"{error.accepted}.", "remedy": error.remedy}
        return self

    def __str__(self) -> str:
        return "\n".join(f"{heading:10}{text}" for heading, text in self.lines.items())


def inspect(path: str) -> Report:
    """The report on one file, of whatever kind."""
    report = Report({"file": os.path.basename(path)})
    try:
        header = read_header(path, input="file", accepted=ACCEPTED)
    except OviError as error:
        return report.fails(error)
    report.lines["file"] += f", {_size(os.path.getsize(path))}, {header.kind}"
    report.lines |= {"what": _sentence(describe_weights(checkpoint.unwrapped(header.weights)))}
    report.lines |= {"weights": _summary(header.weights)}
    try:
        for kind in (_model, _video_vae, _text_encoder, _sound, _lora):
            if kind(path, header, report):
                return report
    except OviError as error:
        return report.fails(error)
    other = OviError(
        input="file",
        found=f"{describe_weights(checkpoint.unwrapped(header.weights))}, which is no part of Ovi",
        accepted="Ovi's transformer, the video VAE of Wan 2.2, UMT5-XXL, MMAudio's 16 kHz VAE and vocoder, LoRAs",
        remedy="README.md lists which files are needed and where to get them.",
    )
    return report.fails(other)


def _model(path: str, header: WeightFile, report: Report) -> bool:
    named = checkpoint.named_by_tower(checkpoint.unwrapped(header.weights))
    if not checkpoint.is_of_ovi(named):
        return False
    weights = checkpoint.named_by_tower(read_model_file(path, header_only=True).weights)
    towers = [tower for tower in ("video", "audio") if checkpoint.of_tower(weights, audio=tower == "audio")]
    both = len(towers) == 2
    config = checkpoint.read_config(weights)
    part = "video and audio tower" if both else f"the {towers[0]} tower alone"
    variant, how = variant_of(path, header.metadata)
    people = variant is not None and variant.people
    sort = ", DreamID-Omni's, which has Ovi's layers" if people else ""
    report.lines["what"] = (
        f"An Ovi transformer{sort}: {part}, {config.num_layers} block{'s' if config.num_layers > 1 else ''} of width "
        f"{config.dim}, text of width {config.text_dim}."
    )
    if header.kind == "gguf":
        weights = checkpoint.fit_shapes(weights)
    checkpoint.check_complete(weights, config, "both" if both else towers[0])
    names = ", ".join(VARIANTS)
    report.lines |= {
        "variant": f"{variant.name}, {how}." if variant else f"Unknown ({how}). Its publisher knows; one of {names}.",
        "missing": "Nothing." if both else f"The {OTHER_TOWER[towers[0]]} tower, in a file of its own.",
        "goes with": "\n          ".join(f"{p.what}: {p.folder}/{p.file}" for p in _others(variant)),
        "load with": "Load Ovi Model" + ("." if both else ": video as model_name, audio as audio_model_name."),
    }
    if people:
        report.lines["note"] = "It was trained with faces and voices of one or two people, which Ovi Person gives it."
    return True


def _others(variant: Variant | None) -> tuple[manifest.Part, ...]:
    return manifest.parts_of(variant)[1:] if variant else manifest.SHARED


def _video_vae(path: str, header: WeightFile, report: Report) -> bool:
    if not {"conv2.weight", "model.conv2.weight"} & header.weights.keys():
        return False
    video_vae.recognise(header.weights)
    return _complete(report, "Load Ovi (all in one), or ComfyUI's VAELoader.")


def _text_encoder(path: str, header: WeightFile, report: Report) -> bool:
    weights = umt5.comfyui_names(header.weights)
    if "encoder.block.0.layer.0.SelfAttention.q.weight" not in weights:
        return False
    umt5.check(umt5.with_tokenizer(weights, header.tokenizer, path))
    stock = "" if header.kind == "gguf" else ", or ComfyUI's CLIPLoader of type wan"
    return _complete(report, f"Load Ovi (all in one){stock}.")


def _sound(path: str, header: WeightFile, report: Report) -> bool:
    what = report.lines["what"]
    vae, vocoder = "MMAudio 16 kHz VAE" in what, "BigVGAN vocoder (80 mel" in what
    if not vae and not vocoder and "audio VAE with a vocoder" not in what:
        return False
    if vae or vocoder:
        part = manifest.SHARED[3] if vae else manifest.SHARED[2]
        report.lines["goes with"] = f"{part.what}: {part.folder}/{part.file}"
    report.lines["load with"] = "Load Ovi Audio VAE."
    return True


def _lora(path: str, header: WeightFile, report: Report) -> bool:
    if not report.lines["what"].startswith("A LoRA"):
        return False
    audio = any("audio_model" in key for key in header.weights)
    report.lines |= {
        "changes": "Both towers, or the audio tower." if audio else "The video tower, if it is for Ovi or Wan 2.2 5B.",
        "load with": "Load Ovi LoRA, after Load Ovi Model.",
    }
    return True


def _complete(report: Report, load_with: str) -> bool:
    report.lines |= {"missing": "Nothing.", "load with": load_with}
    return True


def _summary(weights: Weights) -> str:
    """Number of weights and values, and how many bytes of which type."""
    sizes: Counter = Counter()
    for key, weight in weights.items():
        sizes[_type(key, weight, weights)] += weight.nbytes
    values = sum(weight.numel() for key, weight in weights.items() if not quantization.is_beside_weight(key))
    types = ", ".join(f"{kind} {_size(size)}" for kind, size in sizes.most_common())
    return f"{len(weights):,} with {values:,} values: {types}."


def _type(key: str, weight: torch.Tensor, weights: Weights) -> str:
    kind = format_of(weight) or str(weight.dtype).removeprefix("torch.")
    layer = key.removesuffix(".weight")
    scaled = any(f"{layer}.{name}" in weights for name in ("weight_scale", *quantization.OLD_SUFFIXES))
    return f"scaled {kind}" if scaled and layer != key else kind


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
