"""LoRAs, with a strength for each tower."""

from __future__ import annotations

import folder_paths
from comfy_api.latest import io

from ...ovi_core.loading import folders
from ...ovi_core.model.lora import with_lora
from ..shared import notify
from ..shared.boundary import checked


def _strength(name: str, tooltip: str) -> io.Float.Input:
    return io.Float.Input(name, default=1.0, min=-100.0, max=100.0, step=0.01, tooltip=tooltip)


class OviLoraLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviLoraLoader",
            display_name="Load Ovi LoRA",
            category="Ovi/loaders",
            description="Applies a LoRA for Ovi or for Wan 2.2 5B, with a strength for each tower. Reads the names of "
            "all common trainers. The text encoder is not changed.",
            search_aliases=["lora", "ovi lora", "wan lora", "lightning", "fastwan", "style"],
            inputs=[
                io.Model.Input("model", tooltip="An Ovi model, with or without other LoRAs."),
                io.Combo.Input(
                    "lora_name",
                    options=folder_paths.get_filename_list("loras"),
                    tooltip="File in models/loras. Of LoRAs for Wan 2.2, those for TI2V 5B fit.",
                ),
                _strength("video_strength", "Strength in the video tower. 0: none. Below 0: the opposite effect."),
                _strength(
                    "audio_strength", "Strength in the audio tower. 0: none. A LoRA for Wan has nothing for this tower."
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="The model with the LoRA.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @checked
    def execute(cls, model, lora_name: str, video_strength: float = 1.0, audio_strength: float = 1.0) -> io.NodeOutput:
        path = folders.path("loras", lora_name, input="lora_name")
        patched, notes = with_lora(model, path, video_strength, audio_strength)
        notify.warn(cls, notes)
        return io.NodeOutput(patched)


NODES = [OviLoraLoader]
