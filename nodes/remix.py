"""Clips that are changed, each tower as far as wanted, and clips that loop."""

from __future__ import annotations

from comfy_api.latest import io

from ..ovi_core.conditioning import remix
from ..ovi_core.model import base_model
from ..ovi_core.sampling import model_patches
from .shared.boundary import checked
from .shared.widgets import model_input


class OviRemix(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        share = {"min": 0.0, "max": 1.0, "step": 0.01}
        return io.Schema(
            node_id="OviRemix",
            display_name="Ovi Remix",
            category="Ovi/latents",
            description="Regenerates a clip, with separate denoise values for video and sound. Works with every "
            "sampler; connect the denoise output to the sampler's denoise. Untested with the published weights.",
            search_aliases=["vid2vid", "img2img", "denoise", "restyle", "new sound for a clip", "variation"],
            inputs=[
                io.Latent.Input("latent", tooltip="An encoded or sampled clip."),
                io.Float.Input(
                    "video_denoise",
                    default=0.6,
                    tooltip="Share of the run that changes the video. 0: it stays, bit for bit. 1: it is regenerated.",
                    **share,
                ),
                io.Float.Input(
                    "audio_denoise",
                    default=0.6,
                    tooltip="Share of the run that changes the sound. 0: it stays, bit for bit. 1: it is regenerated.",
                    **share,
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The clip, for the sampler."),
                io.Float.Output(display_name="denoise", tooltip="For the sampler's denoise: the higher of the two."),
            ],
        )

    @classmethod
    @checked
    def execute(cls, latent, video_denoise: float = 0.6, audio_denoise: float = 0.6) -> io.NodeOutput:
        return io.NodeOutput(remix.remix(latent, video_denoise, audio_denoise), max(video_denoise, audio_denoise))


class OviLoop(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviLoop",
            display_name="Ovi Loop",
            category="Ovi/sampling",
            description="Makes clips that loop seamlessly, in video and sound. Also switch on loop in Ovi AV Decode. "
            "Untested with the published weights.",
            search_aliases=["seamless loop", "cinemagraph", "endless", "circular"],
            inputs=[model_input()],
            outputs=[io.Model.Output(display_name="model", tooltip="The model, set to make loops.")],
        )

    @classmethod
    @checked
    def execute(cls, model) -> io.NodeOutput:
        base_model.require_ovi(model)
        return io.NodeOutput(model_patches.with_loop(model))


NODES = [OviRemix, OviLoop]
