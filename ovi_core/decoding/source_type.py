"""The IPTC digital source type of a LATENT's clip."""

from __future__ import annotations

from ..latents import source_media
from ..media.provenance import COMPOSITE, GENERATED


def source_of_latent(latent: dict) -> str:
    """The digital source type of what a joint LATENT decodes to."""
    joint = latent["samples"].is_nested  # one tower alone has nothing given
    given = joint and (source_media.video_of(latent) is not None or source_media.audio_of(latent) is not None)
    return COMPOSITE if given else GENERATED
