"""Joint latents: empty, beginning with a picture, or with one part given."""

from __future__ import annotations

import comfy.model_management
import torch
from comfy_api.latest import io

from ..ovi_core import latents, locks, pictures
from ..ovi_core.errors import reported_by
from ..ovi_core.spec import SIZE_GRID, Clip
from .notices import tell

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
            ],
            outputs=[io.Latent.Output(display_name="latent")],
        )

    @classmethod
    @reported_by("Empty Ovi Latent")
    def execute(cls, width: int, height: int, seconds: float, batch_size: int = 1) -> io.NodeOutput:
        clip = Clip.from_seconds(width, height, seconds)
        device = comfy.model_management.intermediate_device()
        video = torch.zeros(clip.video_shape(batch_size), device=device)
        audio = torch.zeros(clip.audio_shape(batch_size), device=device)
        return io.NodeOutput({"samples": latents.join(video, audio)})


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


def _mode() -> io.Combo.Input:
    return io.Combo.Input(
        "mode",
        options=list(locks.MODES),
        default=next(iter(locks.MODES)),
        tooltip="How the model sees what is kept. follow the noise: as noisy as the rest in each step, which is how it "
        "was trained; the default. clean: as it is from the first step on, as a start picture; try it when the answer "
        "misses short events.",
    )


class OviLockVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviLockVideo",
            display_name="Ovi Lock Video",
            category=CATEGORY,
            description="Sound for a silent clip: its pictures are kept, and the model makes the sound to them. Ovi AV "
            "Decode returns the same frames, at their own size and frame rate.",
            search_aliases=["video to audio", "foley", "v2a", "sound for a video", "dub"],
            inputs=[
                io.Vae.Input("vae", tooltip="The Wan 2.2 video VAE."),
                io.Latent.Input(
                    "latent",
                    tooltip="From Empty Ovi Latent. Best of the clip's shape, for the model sees it cropped to that; "
                    "longer than the clip it is shortened to it.",
                ),
                io.Image.Input("images", tooltip="The clip's frames, of any size."),
                io.Float.Input(
                    "frame_rate",
                    default=24.0,
                    min=1.0,
                    max=240.0,
                    step=0.001,
                    tooltip="Frames a second of the clip. The model sees the nearest frame 24 times a second.",
                ),
                _mode(),
            ],
            outputs=[io.Latent.Output(display_name="latent")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @reported_by("Ovi Lock Video")
    def execute(cls, vae, latent, images, frame_rate: float = 24.0, mode: str = "follow the noise") -> io.NodeOutput:
        locked, notes = locks.lock_video(vae, latent, images, frame_rate, mode)
        tell("Ovi Lock Video", cls.hidden.unique_id if cls.hidden else None, notes)
        return io.NodeOutput(locked)


class OviLockAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviLockAudio",
            display_name="Ovi Lock Audio",
            category=CATEGORY,
            description="Pictures for a voice, music or an effect: the sound is kept, and the model makes the video to "
            "it. Ovi AV Decode returns the same samples, at their own rate and channels.",
            search_aliases=["audio to video", "lip sync", "a2v", "talking head", "music video"],
            inputs=[
                io.Vae.Input("audio_vae", tooltip="From Load Ovi Audio VAE."),
                io.Latent.Input("latent", tooltip="From Empty Ovi Latent or Ovi Image To Video."),
                io.Audio.Input(
                    "audio",
                    tooltip="Any sample rate and channels. Shorter than the clip: the model makes the rest of the "
                    "sound.",
                ),
                io.Float.Input(
                    "start_seconds",
                    default=0.0,
                    min=0.0,
                    max=86400.0,
                    step=0.01,
                    tooltip="Where in the sound the clip begins.",
                ),
                _mode(),
            ],
            outputs=[io.Latent.Output(display_name="latent")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @reported_by("Ovi Lock Audio")
    def execute(
        cls, audio_vae, latent, audio, start_seconds: float = 0.0, mode: str = "follow the noise"
    ) -> io.NodeOutput:
        locked, notes = locks.lock_audio(audio_vae, latent, audio, start_seconds, mode)
        tell("Ovi Lock Audio", cls.hidden.unique_id if cls.hidden else None, notes)
        return io.NodeOutput(locked)


NODES = [EmptyOviLatent, OviImageToVideo, OviLockVideo, OviLockAudio]
