"""The list of the pack's nodes, as ComfyUI asks for it."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from ..ovi_core.loading.folders import offer_mini
from . import (
    clips,
    conditioning,
    decoding,
    latents,
    locked_media,
    person,
    remix,
    saving,
    sharing,
    storyboard,
    training,
)
from .loading import check, loaders, lora
from .sampling import audio_preview, context_windows, guidance, sampler, speed
from .shared import console

GROUPS = (
    loaders,
    conditioning,
    latents,
    locked_media,
    sampler,
    guidance,
    remix,
    context_windows,
    speed,
    audio_preview,
    decoding,
    saving,
    clips,
    storyboard,
    lora,
    training,
    person,
    check,
)


class OviExtension(ComfyExtension):
    async def on_load(self) -> None:
        console.escape_what_it_lacks()
        offer_mini()
        sharing.offer(node.define_schema().node_id for node in await self.get_node_list())

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [node for group in GROUPS for node in group.NODES]
