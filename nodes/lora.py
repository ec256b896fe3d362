"""LoRAs, with a strength for each tower."""

from __future__ import annotations

import folder_paths
from comfy_api.latest import io

from ..ovi_core.errors import reported_by
from ..ovi_core.model.lora import with_lora
from .notify import tell

CATEGORY = "Ovi/loaders"


def _strength(name: str, tooltip: str) -> io.Float.Input:
    return io.Float.Input(name, default=1.0, min=-100.0, max=100.0, step=0.01, tooltip=tooltip)


class OviLoraLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviLoraLoader",
            display_name="Load Ovi LoRA",
            category=CATEGORY,
            description="Put a LoRA for Ovi or for Wan 2.2 5B on the model, with a strength for each tower. It reads "
            "what all common trainers write; the text encoder is left as it is.",
            search_aliases=["lora", "ovi lora", "wan lora", "lightning", "fastwan", "style"],
            inputs=[
                io.Model.Input("model", tooltip="An Ovi model, with other LoRAs on it or without."),
                io.Combo.Input(
                    "lora_name",
                    options=folder_paths.get_filename_list("loras"),
                    tooltip="File in models/loras. Of LoRAs for Wan 2.2, those for TI2V 5B fit.",
                ),
                _strength(
                    "video_strength",
                    "Of what the LoRA changes in the picture's tower. 0: nothing. Below 0: the opposite.",
                ),
                _strength(
                    "audio_strength",
                    "Of what it changes in the sound's tower; a LoRA for Wan changes nothing there. 0: nothing.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @reported_by("Load Ovi LoRA")
    def execute(cls, model, lora_name: str, video_strength: float = 1.0, audio_strength: float = 1.0) -> io.NodeOutput:
        path = folder_paths.get_full_path_or_raise("loras", lora_name)
        patched, notes = with_lora(model, path, video_strength, audio_strength)
        tell("Load Ovi LoRA", cls.hidden.unique_id if cls.hidden else None, notes)
        return io.NodeOutput(patched)


NODES = [OviLoraLoader]
