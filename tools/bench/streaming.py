"""Weights paged in by ComfyUI, with and without prefetch of the next block pair (``bench --gpu`` runs this).

ComfyUI's own dynamic memory: its patcher holds the weights, its loader copies them from pinned memory. It keeps
none of them on the card, as if nothing were left there, so that every step copies them all.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .. import pack
from .cases import Case, difference, gigabytes, interleaved, measured

PAIRS = 8  # of 30: each takes the same
CLIP = (704, 704, 31)
ROUNDS, CHUNK = 5, 4096
DEVICE = "cuda"


def main() -> int:
    import comfy_aimdo.control

    # as main.py does: before anything of ComfyUI asks for its library
    if not comfy_aimdo.control.init():
        raise RuntimeError("comfy-aimdo, which pages weights in, does not load here.")
    pack.load("--use-pytorch-cross-attention")
    import comfy.model_management

    if not comfy_aimdo.control.init_devices([(comfy.model_management.get_torch_device().index, 0)]):
        raise RuntimeError("comfy-aimdo does not work with this card.")
    with torch.no_grad():
        # before dynamic memory is on: with it, layers have no weights until a file gives them
        case = Case({"num_layers": PAIRS}, CLIP, DEVICE, torch.bfloat16, weights_on="cpu")
        print(json.dumps(report(case)))
    return 0


class Paged:
    """The case's weights in ComfyUI's hands: ``stay`` on the card, or are copied for every use."""

    def __init__(self, case: Case):
        import comfy.memory_management
        import comfy.model_management
        import comfy.model_patcher

        # as main.py switches it on
        comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
        comfy.memory_management.aimdo_enabled = True
        device = comfy.model_management.get_torch_device()
        held = nn.Module()
        held.diffusion_model = case.transformer
        self.patcher = comfy.model_patcher.ModelPatcherDynamic(held, device, torch.device("cpu"))
        comfy.model_management.load_models_gpu([self.patcher])
        self.pages = held.dynamic_vbars[device]

    def stay(self, stay: bool) -> None:
        torch.cuda.synchronize()
        if stay:
            self.pages.prioritize()
        else:
            self.pages.set_watermark(0)

    def resident_gb(self) -> float:
        return gigabytes(self.pages.loaded_size())


def report(case: Case) -> dict[str, Any]:
    """Seconds a step of each way, whether the results are the same, and what the copies alone would take."""
    import comfy.model_prefetch
    from ovi_native.ovi_core.network.comfyui import PREFETCH
    from ovi_native.ovi_core.network.layers import CHUNK_TOKENS

    paged = Paged(case)

    def step(ahead: bool, **options: Any) -> Callable[[], list[torch.Tensor]]:
        return lambda: case.ours(**{PREFETCH: ahead, **options})

    paged.stay(False)
    case.begin_run()
    ways = {"pair ahead": step(True), "layer by layer": step(False)}
    outs = {name: run() for name, run in ways.items()}  # from here on everything is pinned
    out: dict[str, Any] = {
        "what": f"one step (both prompts) of {PAIRS} block pairs, random bf16 weights",
        "clip": dict(zip(("width", "height", "video_steps"), CLIP, strict=True)),
        "copied_gb_per_step": {name: gigabytes(size) for name, size in _copied(case).items()},
        "copy_gb_per_second": round(_copy_rate() / 1e9, 1),
        "seconds_per_step": _seconds(ways),
    }
    in_parts = {CHUNK_TOKENS: CHUNK}
    out[f"seconds_per_step, low memory {CHUNK}"] = _seconds(
        {"pair ahead": step(True, **in_parts), "layer by layer": step(False, **in_parts)}
    )
    out["weights_on_card_gb"] = paged.resident_gb()
    paged.stay(True)
    ways = {"weights on the card": step(True)}
    outs |= {name: run() for name, run in ways.items()}
    out["seconds_per_step"] |= _seconds(ways)
    out["weights_on_card_then_gb"] = paged.resident_gb()
    comfy.model_prefetch.cleanup_prefetch_queues()
    reference = outs.pop("weights on the card")
    out["relative_difference"] = {name: difference(some, reference) for name, some in outs.items()}
    return out


def _seconds(ways: dict[str, Callable[[], Any]]) -> dict[str, float]:
    return {name: round(taken.seconds, 4) for name, taken in interleaved(ways, ROUNDS, DEVICE).items()}


def _copied(case: Case) -> dict[str, int]:
    """Bytes of what a step reads where it keeps text keys; the queue is for the block pairs alone."""
    towers = (case.transformer, case.transformer.audio_model)
    pairs = [layer for tower in towers for block in tower.blocks for layer in block.read_layers(True, False)]
    in_blocks = {weight for tower in towers for weight in tower.blocks.parameters()}
    of_text = {weight for tower in towers for weight in tower.text_embedding.parameters()}
    return {
        "block pairs": sum(weight.nbytes for layer in pairs for weight in layer.parameters(recurse=False)),
        "beside them": sum(w.nbytes for w in case.transformer.parameters() if w not in in_blocks | of_text),
    }


def _copy_rate(size: int = 2**30) -> float:
    """Bytes a second from pinned memory to the card."""
    source = torch.empty(size, dtype=torch.uint8, pin_memory=DEVICE == "cuda")
    target = torch.empty(size, dtype=torch.uint8, device=DEVICE)
    return size / min(measured(lambda: target.copy_(source, non_blocking=True), DEVICE)[0] for _ in range(4))


if __name__ == "__main__":
    sys.exit(main())
