"""Which variant of Ovi a loaded model or text encoder belongs to, noted on ComfyUI's patcher.

A note is an attachment of the patcher: clones keep it, with LoRAs and other patches, and a merge keeps that of its
first model. It changes no result and is no part of a model's stored identity (``story/model_fingerprint.py``).
"""

from __future__ import annotations

from typing import Any

from ..spec import METADATA_KEY, VARIANTS, Variant


def note_variant(patcher: Any, variant: Variant | None) -> None:
    """Note the variant on a MODEL, or on the patcher of a CLIP; None notes nothing."""
    if variant is not None:
        patcher.set_attachments(METADATA_KEY, variant.name)


def noted_variant(patcher: Any) -> Variant | None:
    """The variant of a MODEL, or of the patcher of a CLIP; None where no loader knew it."""
    noted = getattr(patcher, "attachments", {}).get(METADATA_KEY)
    return VARIANTS.get(noted) if isinstance(noted, str) else None
