"""Joint latents: empty, or beginning with a picture."""

from __future__ import annotations

from comfy_api.latest import io

from ..ovi_core import latents, pictures
from ..ovi_core.errors import reported_by
from ..ovi_core.spec import SIZE_GRID, Clip

CATEGORY = "Ovi/latents"
MAX_SIDE = 4096


class EmptyOviLatent(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        side = {"min": SIZE_GRID, "max": MAX_SIDE, "step": SIZE_GRID}
        return io.Schema(
            node_id="EmptyOviLatent",
            display_name="Empty Ovi Latent",
            category=CATEGORY,
            description="A joint latent for a clip with its sound, to be filled by a sampler.",
            search_aliases=["ovi size", "video length", "blank video"],
            inputs=[
                io.Int.Input("width", default=960, tooltip="Pixels, a multiple of 32.", **side),
                io.Int.Input(
                    "height",
                    default=960,
                    tooltip="Pixels, a multiple of 32. Best near the variant's area: 960x960 or 720x720 in all.",
                    **side,
                ),
                io.Float.Input(
                    "seconds",
                    default=10.0,
                    min=0.2,
                    max=60.0,
                    step=0.1,
                    tooltip="Length at 24 frames a second. The weights were trained on 5 s or 10 s.",
                ),
                io.Int.Input("batch_size", default=1, min=1, max=64, tooltip="Clips made at the same time."),
                io.Combo.Input(
                    "towers",
                    options=list(latents.TOWERS),
                    default=latents.TOWERS[0],
                    optional=True,
                    tooltip="What is made. One alone costs only its own share of the work, and knows nothing of the "
                    "other: pictures that no sound shapes, or sound from the text alone.",
                ),
            ],
            outputs=[io.Latent.Output(display_name="latent")],
        )

    @classmethod
    @reported_by("Empty Ovi Latent")
    def execute(
        cls, width: int, height: int, seconds: float, batch_size: int = 1, towers: str = latents.TOWERS[0]
    ) -> io.NodeOutput:
        clip = Clip.from_seconds(width, height, seconds)
        return io.NodeOutput({"samples": latents.empty(clip, batch_size, towers)})


class OviImageToVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviImageToVideo",
            display_name="Ovi Image To Video",
            category=CATEGORY,
            description="Begin the clip with a picture: it becomes the first frame and stays as it is.",
            search_aliases=["i2v", "first frame", "talking photo", "animate picture"],
            inputs=[
                io.Vae.Input("vae", tooltip="The Wan 2.2 video VAE."),
                io.Latent.Input("latent", tooltip="From Empty Ovi Latent; its size is the clip's."),
                io.Image.Input("start_image", optional=True, tooltip="First frame. One picture, or one for each clip."),
                io.Combo.Input(
                    "fit",
                    options=list(pictures.FITS),
                    default="crop",
                    tooltip="How a picture of another shape is brought to the clip's size: crop cuts its edges, pad "
                    "adds black bars, stretch distorts.",
                ),
            ],
            outputs=[io.Latent.Output(display_name="latent")],
        )

    @classmethod
    @reported_by("Ovi Image To Video")
    def execute(cls, vae, latent, start_image=None, fit: str = "crop") -> io.NodeOutput:
        if start_image is None:
            return io.NodeOutput(latent)
        return io.NodeOutput(pictures.keep_start(vae, latent, start_image, fit))


NODES = [EmptyOviLatent, OviImageToVideo]
