"""What the machine is, and which variant and precision fit its card, for a report."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import dataclass
from functools import cached_property

import torch

from ..model.checkpoint import stored_bytes
from ..model.memory_estimate import activation_bytes
from ..network.transformer import OviConfig
from ..spec import SIZE_GRID, VARIANTS, ClipShape, Variant, size_for_shape
from . import comfyui
from .download import gigabytes

PRECISIONS = {"bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}
PACKAGES = (
    *("comfyui_frontend_package", "comfy-kitchen", "comfy-aimdo", "torchaudio", "transformers", "safetensors", "av"),
    *("numpy", "einops", "ftfy", "huggingface_hub", "gguf", "ray", "c2pa-python"),
)
FLAGS = (
    *("cpu", "gpu-only", "highvram", "lowvram", "novram", "reserve-vram", "disable-smart-memory"),
    *("disable-dynamic-vram", "disable-mmap", "force-fp32", "force-fp16", "fp16-unet", "bf16-unet", "fp32-unet"),
    *("fp8_e4m3fn-unet", "fp8_e5m2-unet", "fp16-vae", "bf16-vae", "fp32-vae", "cpu-vae", "fp16-text-enc"),
    *("use-sage-attention", "use-flash-attention", "use-split-cross-attention", "use-quad-cross-attention"),
    *("use-pytorch-cross-attention", "force-upcast-attention", "deterministic"),
)
"""Flags of ComfyUI that change memory or numbers; none of them names a folder."""
NOISE = {"--use-sage-attention": "can give noise", "--use-flash-attention": "can give noise"}
FLOAT16 = ("--force-fp16", "--fp16-unet", "--fp16-vae")
USABLE = 0.88  # share of a card that is counted on; the rest is for ComfyUI's reserve, text keys and other programs
CHUNK = 4096  # tokens of Ovi Low Memory
ROWS = 2  # positive and negative prompt
PAIRS_ON_THEIR_WAY = 2  # block pairs that are on the card while ComfyUI streams weights
DECODED_PIXEL, TILE = 16_000, 512  # bytes, in ComfyUI's own estimate for the Wan 2.2 VAE in bf16; px
COMFORTABLE = {"fp8": 32, "bf16": 64}  # GiB of the computer's memory


@dataclass(frozen=True)
class Card:
    """What ComfyUI computes on.

    Attributes:
        name: as its driver gives it; empty where ComfyUI computes on the CPU.
        total, free: bytes of its memory.
    """

    name: str
    total: int = 0
    free: int = 0

    @classmethod
    def in_use(cls) -> Card:
        device, _ = comfyui.devices()
        if getattr(device, "type", "cpu") == "cpu":
            return cls("")
        return cls(_name(device), *comfyui.memory(device))

    @property
    def usable(self) -> float:
        return USABLE * self.total


def _name(device: torch.device) -> str:
    try:
        name = getattr(torch, device.type).get_device_name(device)
    except (AttributeError, RuntimeError, ValueError, AssertionError):
        return device.type.upper()
    if device.type != "cuda" or torch.version.hip:
        return name
    return f"{name}, compute capability {'.'.join(map(str, torch.cuda.get_device_capability(device)))}"


@dataclass(frozen=True)
class Need:
    """What a square clip, or one of the first trained size, of a variant's length takes on a card.

    Attributes:
        precision: a key of :data:`PRECISIONS`.
    """

    variant: Variant
    precision: str

    @cached_property
    def clip(self) -> ClipShape:
        width, height = self.variant.sizes[0] if self.variant.sizes else size_for_shape(self.variant, 1, 1)
        return ClipShape(width, height, self.variant.latent_frames)

    @cached_property
    def weights(self) -> int:
        """Bytes of the weights."""
        return stored_bytes(OviConfig(), PRECISIONS[self.precision])

    def run(self, chunk_tokens: int = 0, rows: int = ROWS) -> int:
        """Bytes besides the weights, as the pack tells ComfyUI; for fp8, of a card that multiplies in it."""
        clip = self.clip
        tokens = clip.width // SIZE_GRID * (clip.height // SIZE_GRID) * clip.latent_frames
        in_fp8 = self.precision == "fp8"
        return activation_bytes(OviConfig(), rows, tokens, clip.audio_frames, 2, chunk_tokens, in_fp8=in_fp8)

    def fits(self, card: Card) -> bool:
        """Whether all of it lies on the card, if need be with *Ovi Low Memory*."""
        return self.weights + self.run(CHUNK) <= card.usable

    def advice(self, card: Card) -> str:
        """What to switch on for this card."""
        if self.weights + self.run() <= card.usable:
            return "fits, nothing to switch on"
        if self.fits(card):
            return f"fits with Ovi Low Memory at {CHUNK}"
        pairs = PAIRS_ON_THEIR_WAY * self.weights / OviConfig().num_layers
        streamed = self.weights + self.run(CHUNK) - card.usable
        how = f"with Ovi Low Memory at {CHUNK}"
        if streamed + pairs > self.weights:
            streamed = self.weights + self.run(CHUNK, 1) - card.usable
            how += ", one prompt after the other"
        if streamed + pairs > self.weights:
            return "too large for this card"
        share = streamed / self.weights
        return f"{how}; ComfyUI streams {gigabytes(int(streamed))} of the weights ({share:.0%}) in every step: slower"

    def __str__(self) -> str:
        size = f"{self.clip.width}x{self.clip.height}, {self.variant.seconds:g} s"
        both = f"{gigabytes(self.weights)} + {gigabytes(self.run())}, with Ovi Low Memory {gigabytes(self.run(CHUNK))}"
        return f"{self.variant.name} in {self.precision} ({size}): {both}"


def needs(variant: Variant | None = None) -> list[Need]:
    """A variant in each precision, the finest first; without one, all of Ovi's own full size, the best first."""
    chosen = [variant] if variant else [known for known in VARIANTS.values() if not known.people]
    return [Need(known, precision) for known in chosen if known.name != "mini" for precision in PRECISIONS]


def best(card: Card, of: list[Need]) -> Need:
    """The first that fits the card; where none does, the smallest."""
    return next((need for need in of if need.fits(card)), min(of, key=lambda need: need.weights + need.run(CHUNK)))


def facts(pack: str, card: Card) -> list[str]:
    """Versions, card and memory, a line each.

    Args:
        pack: this pack's version.
    """
    packages = [f"{name} {found}" for name in PACKAGES if (found := _version(name))]
    total, free = comfyui.memory(torch.device("cpu"))
    flags = comfyui.flags(FLAGS)
    return [
        f"Ovi native {pack}, ComfyUI {comfyui.VERSION}, Python {platform.python_version()}, torch {torch.__version__}",
        f"system: {platform.system()} {platform.release()}, {platform.machine()}",
        f"packages: {', '.join(packages)}",
        f"card: {_card(card)}",
        f"memory: {_size(total)}, {_size(free)} free",
        f"flags: {' '.join(flags) or 'none that matter'}",
        *(f"flag {flag}: {what}; leave it out if the clip is noise" for flag, what in NOISE.items() if flag in flags),
        *(f"flag {flag}: the published weights overflow in float16; leave it out" for flag in FLOAT16 if flag in flags),
    ]


def fit(card: Card, variant: Variant | None = None) -> list[str]:
    """Which variant and precision fit the card, a line each.

    Args:
        variant: the one to look at; else all of Ovi's own.
    """
    if not card.name:
        return ["no card: the small model (variant mini) runs on a CPU, the others take hours"]
    every = needs(variant)
    if not every:
        return ["mini needs a few hundred MB: it fits every card"]
    chosen = best(card, every)
    lines = [f"best for this card: {chosen.variant.name} in {chosen.precision}: {chosen.advice(card)}"]
    lines += [f"{need}: {need.advice(card)}" for need in every]
    clip = chosen.clip
    at_once, tiles = clip.width * clip.height * DECODED_PIXEL, TILE * TILE * DECODED_PIXEL
    lines.append(
        f"decoding {clip.width}x{clip.height}: {gigabytes(at_once)} at once, {gigabytes(tiles)} in tiles of {TILE} px; "
        "leave tiled of Ovi AV Decode at auto, which takes tiles where memory is short"
    )
    total, _ = comfyui.memory(torch.device("cpu"))
    if total < USABLE * COMFORTABLE[chosen.precision] * 2**30:
        lines.append(
            f"the computer's memory ({_size(total)}) is short: what is not on the card lies there; "
            f"{COMFORTABLE[chosen.precision]} GB are comfortable for {chosen.precision}. Take the text encoder in fp8"
        )
    if card.free < card.total / 2:
        lines.append("less than half of the card is free now: other programs or loaded models hold the rest")
    return lines


def _card(card: Card) -> str:
    return f"{card.name}, {_size(card.total)}, {_size(card.free)} free" if card.name else "none, ComfyUI uses the CPU"


def _size(size: float) -> str:
    """Memory as it is sold: in GiB, which is called GB."""
    return f"{size / 2**30:.1f} GiB"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
