"""A clip on a card of which most is taken: weights paged in by ComfyUI, a step, and a tiled decode."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from ..cases import Case, gigabytes, measured
from ..streaming import Paged
from .kernels import set_clip
from .size import Measure, Size
from .vae_decode import draw

LOOK = 0.005
"""Seconds between two looks at the card's free memory."""


def prepare() -> None:
    """What ComfyUI's ``main.py`` does for dynamic memory, before anything asks for its library."""
    import comfy_aimdo.control

    if not comfy_aimdo.control.init():
        raise RuntimeError("comfy-aimdo, which pages weights in, does not load here.")


def caps(size: Size) -> Iterator[tuple[str, Measure]]:
    """For each clip a step and a decode within what is left of the card."""
    on_card = size.device == "cuda"
    if on_card:
        _switch_on()
    # before dynamic memory is on, see streaming.py
    case = Case(size.model, next(iter(size.clips.values())), size.device, size.dtype, weights_on="cpu")
    paged = Paged(case) if on_card else None
    for name, gb in size.caps.items():
        yield name, partial(_step, case, size, size.clips[name], gb, paged)
    del case, paged
    for name, gb in size.caps.items():
        yield f"{name}, decode", partial(_decode, size, size.clips[name], gb)


def _switch_on() -> None:
    import comfy.model_management
    import comfy_aimdo.control

    if not comfy_aimdo.control.init_devices([(comfy.model_management.get_torch_device().index, 0)]):
        raise RuntimeError("comfy-aimdo does not work with this card.")


@contextmanager
def ballast(size: Size, gb: float) -> Iterator[dict[str, float]]:
    """Take the card's memory but for ``gb`` beyond what lies there; afterwards the result says how little was free."""
    seen: dict[str, float] = {}
    if size.device != "cuda":
        yield seen
        return
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    taken = torch.empty(max(0, int(free - gb * 1e9)), dtype=torch.uint8, device="cuda")
    seen["free_at_first_gb"] = gigabytes(torch.cuda.mem_get_info()[0])
    stop, least = threading.Event(), [float("inf")]

    def look() -> None:
        while not stop.is_set():
            least[0] = min(least[0], torch.cuda.mem_get_info()[0])
            time.sleep(LOOK)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        stop.set()
        watcher.join()
        seen["least_free_gb"] = gigabytes(least[0])
        del taken
        torch.cuda.empty_cache()


def _step(case: Case, size: Size, clip: tuple[int, int, int], gb: float, paged: Paged | None) -> dict[str, Any]:
    from ovi_native.ovi_core.network.comfyui import PREFETCH

    options: dict[str, Any] = {PREFETCH: True} if paged else {}
    with ballast(size, gb) as seen:
        set_clip(case, clip)
        if paged:
            _load(case, paged)
        case.ours(**options)  # what is pinned once, and what finds room stays
        seconds, _ = measured(lambda: case.ours(**options), size.device)
        resident = paged.resident_gb() if paged else None
    return {"cap_gb": gb, "seconds_per_step": round(seconds, 4), "weights_on_card_gb": resident, **seen}


def _load(case: Case, paged: Paged) -> None:
    """As a run of ComfyUI does it: with room for the tensors of a step, which ComfyUI keeps free."""
    import comfy.model_management
    from ovi_native.ovi_core.model.memory_estimate import activation_bytes

    step = activation_bytes(case.transformer.config, 2, *case.tokens, case.dtype.itemsize)
    comfy.model_management.load_models_gpu([paged.patcher], memory_required=step)


def _decode(size: Size, clip: tuple[int, int, int], gb: float) -> dict[str, Any]:
    """The clip's decode as *Ovi AV Decode* does it with ``tiled`` on."""
    from ovi_native.ovi_core.decoding.towers import decode_video
    from ovi_native.ovi_core.vae.video_vae import build_network, load_video_vae

    torch.manual_seed(0)
    width, height, frames = clip
    with torch.inference_mode():  # as ComfyUI runs its nodes
        weights = build_network(size.vae).state_dict()
        draw(weights)
        vae = load_video_vae(weights)
        latent = torch.randn(1, 48, frames, height // 16, width // 16)
        with ballast(size, gb) as seen:
            seconds, _ = measured(lambda: decode_video(vae, latent, "on"), size.device)
    return {"cap_gb": gb, "seconds": round(seconds, 3), **seen}
