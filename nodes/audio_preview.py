"""What is heard while a run goes on."""

from __future__ import annotations

from functools import partial
from typing import Any

from comfy_api.latest import io, ui
from server import PromptServer
from torch import Tensor

from ..ovi_core.errors import reported_by
from ..ovi_core.model import base_model
from ..ovi_core.sampling import audio_preview
from .notify import tell

NAME = "Ovi Preview Sound"


class OviPreviewSound(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviPreviewSound",
            display_name=NAME,
            category="Ovi/sampling",
            description="Hear the sound while it is made: every few steps it is decoded as it is so far and put into "
            "this node, to be played while the run goes on. Works with every sampler; the clip stays the same.",
            search_aliases=["listen", "audio preview", "hear", "live sound", "preview while sampling"],
            inputs=[
                io.Model.Input("model", tooltip="An Ovi model."),
                io.Vae.Input("audio_vae", tooltip="From Load Ovi Audio VAE; it stays in memory beside the model."),
                io.Int.Input(
                    "every_steps",
                    default=5,
                    min=1,
                    max=1000,
                    step=1,
                    tooltip="Steps from one sound to the next; the last step is always heard.",
                ),
                # The page's own player, of this type and name: it shows what the server says the node has put out.
                io.Custom("AUDIO_UI").Input(
                    "audioUI", display_name="sound", optional=True, tooltip="The player. Nothing is to be connected."
                ),
            ],
            outputs=[io.Model.Output(display_name="model")],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,  # the page fills the players of such nodes only
        )

    @classmethod
    @reported_by(NAME)
    def execute(cls, model: Any, audio_vae: Any, every_steps: int = 5, audioUI: Any = None) -> io.NodeOutput:
        base_model.require_ovi(model)
        node_id = cls.hidden.unique_id if cls.hidden else None
        play, warn = partial(_play, node_id), partial(_warn, node_id)
        return io.NodeOutput(audio_preview.with_sound_preview(model, audio_vae, every_steps, play, warn))


def _play(node_id: str | None, sound: Tensor, rate: int) -> None:
    """Save ``sound`` [1, 1, S] among ComfyUI's temporary files and tell the page that this node has put it out."""
    server = getattr(PromptServer, "instance", None)
    if server is None or server.client_id is None or node_id is None:
        return
    output = ui.PreviewAudio({"waveform": sound, "sample_rate": rate}).as_dict()
    message = {"node": node_id, "display_node": node_id, "output": output, "prompt_id": server.last_prompt_id}
    server.send_sync("executed", message, server.client_id)


def _warn(node_id: str | None, note: str) -> None:
    tell(NAME, node_id, [note])


NODES = [OviPreviewSound]
