"""A clip made anew in part, and clips that go round."""

from __future__ import annotations

from comfy_api.latest import io

from ..ovi_core.conditioning import remix
from ..ovi_core.errors import reported_by
from ..ovi_core.model import base_model
from ..ovi_core.sampling import model_patches


class OviRemix(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        share = {"min": 0.0, "max": 1.0, "step": 0.01}
        return io.Schema(
            node_id="OviRemix",
            display_name="Ovi Remix",
            category="Ovi/latents",
            description="Make a clip anew, its picture and its sound each as far as wished. Works with every sampler; "
            "give the sampler's denoise what comes out here.",
            search_aliases=["vid2vid", "img2img", "denoise", "restyle", "new sound for a clip", "variation"],
            inputs=[
                io.Latent.Input("latent", tooltip="An encoded or sampled clip."),
                io.Float.Input(
                    "video_denoise",
                    default=0.6,
                    tooltip="How much of the run changes the picture: 0 keeps it bit for bit, 1 makes it anew.",
                    **share,
                ),
                io.Float.Input(
                    "audio_denoise", default=0.6, tooltip="The same for the sound; it may be another.", **share
                ),
            ],
            outputs=[io.Latent.Output(display_name="latent"), io.Float.Output(display_name="denoise")],
        )

    @classmethod
    @reported_by("Ovi Remix")
    def execute(cls, latent, video_denoise: float = 0.6, audio_denoise: float = 0.6) -> io.NodeOutput:
        return io.NodeOutput(remix.remixed(latent, video_denoise, audio_denoise), max(video_denoise, audio_denoise))


class OviLoop(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviLoop",
            display_name="Ovi Loop",
            category="Ovi/sampling",
            description="Clips whose end meets their start, in picture and sound. Set loop of Ovi AV Decode, too.",
            search_aliases=["seamless loop", "cinemagraph", "endless", "circular"],
            inputs=[io.Model.Input("model", tooltip="An Ovi model.")],
            outputs=[io.Model.Output(display_name="model")],
        )

    @classmethod
    @reported_by("Ovi Loop")
    def execute(cls, model) -> io.NodeOutput:
        base_model.require_ovi(model)
        return io.NodeOutput(model_patches.joined_ends(model))


NODES = [OviRemix, OviLoop]
