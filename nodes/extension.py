"""The list of the pack's nodes, as ComfyUI asks for it."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from ..ovi_core.model_folders import offer_mini
from . import (
    conditioning,
    decoding,
    latents,
    loaders,
    locks,
    lora,
    previews,
    sampling,
    saving,
    sharing,
    stories,
    storyboard,
    training,
    windows,
)

SHELVES = (
    loaders,
    conditioning,
    latents,
    locks,
    sampling,
    windows,
    previews,
    decoding,
    saving,
    stories,
    storyboard,
    lora,
    training,
)


class OviExtension(ComfyExtension):
    async def on_load(self) -> None:
        offer_mini()
        sharing.offer(node.define_schema().node_id for node in await self.get_node_list())

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [node for shelf in SHELVES for node in shelf.NODES]
