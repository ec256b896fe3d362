"""How strongly each tower attends to the other: per block, over the run, and per conditioning.

In the fused cross-attention a query attends to its text and to the other tower, and the two results are added. The
second one is scaled here. At scale 0 it is not computed.
"""

from __future__ import annotations

KEY = "ovi_coupling"
"""Transformer option: cross-modal scales of the video and the audio tower in every block, as all nodes leave them."""
WITHOUT_ROLE = "ovi_deaf_role"
"""Transformer option: the role (``cond_or_uncond``) of the conditionings that run without cross-modal attention."""

Scale = tuple[float, ...]
"""Cross-modal scale of one tower: one for each conditioning of the batch, or one for all."""


def scales_of(options: dict, num_layers: int) -> list[tuple[Scale, Scale]]:
    """Cross-modal scales of the video and the audio tower in every block.

    Takes ComfyUI's own switches too, which LTX-AV has: ``a2v_cross_attn``, whether the video attends to the audio, and
    ``v2a_cross_attn``, whether the audio attends to the video.
    """
    switches = (float(options.get("a2v_cross_attn", True)), float(options.get("v2a_cross_attn", True)))
    scales = options.get(KEY, [(1.0, 1.0)] * num_layers)
    roles, without = options.get("cond_or_uncond", ()), options.get(WITHOUT_ROLE)
    attends = [0.0 if role == without else 1.0 for role in roles] if without in roles else [1.0]

    def of(scale: float, switch: float) -> Scale:
        return tuple(scale * switch * share for share in attends)

    return [(of(video, switches[0]), of(audio, switches[1])) for video, audio in scales]
