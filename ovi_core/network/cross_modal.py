"""How much each tower hears of the other: over the blocks, over the run, and of which conditioning.

In the fused cross-attention a query asks its text and the other tower, and the two answers are added. The second one is
what is scaled here; where it would count for nothing it is not computed.
"""

from __future__ import annotations

KEY = "ovi_coupling"
"""Transformer option: for every block what the video and the audio tower hear, as left by all couplings."""
DEAF = "ovi_deaf_role"
"""Transformer option: the role (``cond_or_uncond``) of conditionings whose towers do not hear each other."""

Hears = tuple[float, ...]
"""Strength of what a tower hears of the other, one for each conditioning of the batch, or one for all."""


def hearing(options: dict, num_layers: int) -> list[tuple[Hears, Hears]]:
    """What the video and the audio tower hear of each other in every block.

    Also honours ComfyUI's own switches, which LTX-AV has: ``a2v_cross_attn``, whether the video hears the sound, and
    ``v2a_cross_attn``, whether the audio hears the picture.
    """
    switches = (float(options.get("a2v_cross_attn", True)), float(options.get("v2a_cross_attn", True)))
    strengths = options.get(KEY, [(1.0, 1.0)] * num_layers)
    roles, deaf = options.get("cond_or_uncond", ()), options.get(DEAF)
    heard = [0.0 if role == deaf else 1.0 for role in roles] if deaf in roles else [1.0]

    def of(strength: float, switch: float) -> Hears:
        return tuple(strength * switch * share for share in heard)

    return [(of(video, switches[0]), of(audio, switches[1])) for video, audio in strengths]
