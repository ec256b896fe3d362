"""Shortcuts of a run, each by its name, and presets of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ...model.base_model import require_ovi
from ...model.fp8_matmuls import LOADED, ON, with_fp8_matmuls
from ..comfyui import attention_function, attention_override
from .negative_reuse import NegativeReuse, with_negative_reuse
from .step_cache import StepCache, with_step_cache

OFF = "as ComfyUI"
EIGHT_BITS = (OFF, "sage", "sage3")
"""Attention: ComfyUI's choice, or a function by ComfyUI's own name."""


@dataclass(frozen=True)
class Shortcuts:
    """What a run takes over from elsewhere, or computes with fewer bits. The defaults are exact.

    Attributes:
        step_cache: see :class:`.step_cache.StepCache`; 0 for none.
        negative_every: see :class:`.negative_reuse.NegativeReuse`.
        guidance_end: share of the run after which nothing is guided.
        fp8_matmuls: one of ``model.fp8_matmuls.CHOICES``.
        attention: one of :data:`EIGHT_BITS`.
    """

    step_cache: float = 0.0
    negative_every: int = 1
    guidance_end: float = 1.0
    fp8_matmuls: str = LOADED
    attention: str = OFF


EXACT = Shortcuts()
BALANCED = replace(EXACT, step_cache=0.1, negative_every=2)
FAST = replace(EXACT, step_cache=0.2, negative_every=2, fp8_matmuls=ON, attention="sage")
PRESETS = {"exact": EXACT, "balanced": BALANCED, "fast": FAST}


def with_shortcuts(patcher: Any, shortcuts: Shortcuts) -> tuple[Any, list[str]]:
    """A copy of a MODEL with these shortcuts, and notes for the user on those that it or this computer cannot take.

    Raises:
        OviError: a MODEL of another family.
    """
    require_ovi(patcher)
    patcher, notes = with_fp8_matmuls(patcher, shortcuts.fp8_matmuls)
    if shortcuts.attention != OFF:
        patcher, more = _with_attention(patcher, shortcuts.attention)
        notes += more
    reuse = NegativeReuse(shortcuts.negative_every, shortcuts.guidance_end)
    if not reuse.off:
        patcher = with_negative_reuse(patcher, reuse)
    if shortcuts.step_cache > 0:
        patcher = with_step_cache(patcher, StepCache(shortcuts.step_cache))
    return patcher, notes


def _with_attention(patcher: Any, name: str) -> tuple[Any, list[str]]:
    patcher = patcher.clone()
    function = attention_function(name)
    if function is None:
        package = "sageattn3" if name == "sage3" else "sageattention"
        note = f"attention is {name}, and the package {package} is not installed. Attention stays as it is."
        return patcher, [note]
    if not attention_override(patcher.model_options, name):
        return patcher, ["Another node before Ovi Speed has chosen the attention; it stays."]
    return patcher, []
