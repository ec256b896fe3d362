"""Audio to listen to while sampling runs."""

from __future__ import annotations

from functools import partial
from typing import Any

from comfy_api.latest import io, ui
from server import PromptServer
from torch import Tensor

from ...ovi_core.model import base_model
from ...ovi_core.sampling import audio_preview
from ..shared import notify
from ..shared.boundary import checked
from ..shared.widgets import model_input


class OviPreviewSound(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviPreviewSound",
            display_name="Ovi Preview Sound",
            category="Ovi/sampling",
            description="Listen to the sound during sampling: every few steps the current sound is decoded and can be "
            "played in this node. Works with every sampler and does not change the clip.",
            search_aliases=["listen", "audio preview", "hear", "live sound", "preview while sampling"],
            inputs=[
                model_input(),
                io.Vae.Input("audio_vae", tooltip="From Load Ovi Audio VAE. It stays in memory during sampling."),
                io.Int.Input(
                    "every_steps",
                    default=5,
                    min=1,
                    max=1000,
                    step=1,
                    tooltip="Sampling steps between two previews. The last step always gives one.",
                ),
                # The page's own player, of this type and name: it shows the output that the server reports.
                io.Custom("AUDIO_UI").Input(
                    "audioUI", display_name="sound", optional=True, tooltip="The player. Connect nothing to it."
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="The model with sound previews.")],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,  # the page fills the players of output nodes only
        )

    @classmethod
    @checked
    def execute(cls, model: Any, audio_vae: Any, every_steps: int = 5, audioUI: Any = None) -> io.NodeOutput:
        base_model.require_ovi(model)
        play, warn = partial(_play, notify.node_id(cls)), partial(_warn, cls)
        return io.NodeOutput(audio_preview.with_audio_preview(model, audio_vae, every_steps, play, warn))


def _play(node_id: str | None, sound: Tensor, rate: int) -> None:
    """Save ``sound`` [1, 1, S] among ComfyUI's temporary files and report it to the page as this node's output."""
    server = getattr(PromptServer, "instance", None)
    if server is None or server.client_id is None or node_id is None:
        return
    output = ui.PreviewAudio({"waveform": sound, "sample_rate": rate}).as_dict()
    message = {"node": node_id, "display_node": node_id, "output": output, "prompt_id": server.last_prompt_id}
    server.send_sync("executed", message, server.client_id)


def _warn(node: type[io.ComfyNode], note: str) -> None:
    notify.warn(node, [note])


NODES = [OviPreviewSound]
