"""Joint latents: empty, showing pictures at given moments, or of a clip that is there already."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..ovi_core.conditioning import encode, inpaint, keyframes, locked_media
from ..ovi_core.errors import reported_by
from ..ovi_core.latents import joint
from ..ovi_core.media.images import FITS
from ..ovi_core.spec import SIZE_GRID, Clip
from .notify import tell
from .widgets import MAX_SIDE

CATEGORY = "Ovi/latents"


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
                    options=list(joint.TOWERS),
                    default=joint.TOWERS[0],
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
        cls, width: int, height: int, seconds: float, batch_size: int = 1, towers: str = joint.TOWERS[0]
    ) -> io.NodeOutput:
        clip = Clip.from_seconds(width, height, seconds)
        return io.NodeOutput({"samples": joint.empty(clip, batch_size, towers)})


def _fit() -> io.Combo.Input:
    return io.Combo.Input(
        "fit",
        options=list(FITS),
        default="crop",
        tooltip="How a picture of another shape is brought to the clip's size: crop cuts its edges, pad adds black "
        "bars, stretch distorts.",
    )


def _strength(name: str, **more: Any) -> io.Float.Input:
    return io.Float.Input(
        name,
        default=1.0,
        min=0.0,
        max=1.0,
        step=0.01,
        tooltip="1: the picture stays as it is. Less: the model may change it, the more the lower. 0: no influence.",
        **more,
    )


class OviImageToVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviImageToVideo",
            display_name="Ovi Image To Video",
            category=CATEGORY,
            description="Begin the clip with a picture, end it with one, or both: each becomes the first or the last "
            "frame and stays as it is. For pictures in between, add Ovi Keyframe.",
            search_aliases=["i2v", "first frame", "last frame", "end image", "talking photo", "animate picture"],
            inputs=[
                io.Vae.Input("vae", tooltip="The Wan 2.2 video VAE."),
                io.Latent.Input("latent", tooltip="From Empty Ovi Latent; its size is the clip's."),
                io.Image.Input("start_image", optional=True, tooltip="First frame. One picture, or one for each clip."),
                _fit(),
                io.Image.Input(
                    "end_image",
                    optional=True,
                    tooltip="Last frame, held for the last 4 (1/6 s). One picture, or one for each clip. The published "
                    "weights were trained on start pictures only.",
                ),
                _strength("start_strength", optional=True),
                _strength("end_strength", optional=True),
            ],
            outputs=[io.Latent.Output(display_name="latent")],
        )

    @classmethod
    @reported_by("Ovi Image To Video")
    def execute(
        cls,
        vae,
        latent,
        start_image=None,
        fit: str = "crop",
        end_image=None,
        start_strength: float = 1.0,
        end_strength: float = 1.0,
    ) -> io.NodeOutput:
        if start_image is not None:
            latent = keyframes.keep_start(vae, latent, start_image, fit, start_strength)
        if end_image is not None:
            latent = keyframes.keep_end(vae, latent, end_image, fit, end_strength)
        return io.NodeOutput(latent)


class OviKeyframe(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviKeyframe",
            display_name="Ovi Keyframe",
            category=CATEGORY,
            description="A picture at any second of the clip. Chain as many as you have pictures, one node after the "
            "other.",
            search_aliases=["key frame", "picture at time", "middle frame", "guide image", "in between"],
            inputs=[
                io.Vae.Input("vae", tooltip="The Wan 2.2 video VAE."),
                io.Latent.Input("latent", tooltip="From Empty Ovi Latent, Ovi Image To Video or another Ovi Keyframe."),
                io.Image.Input("image", tooltip="One picture, or one for each clip."),
                io.Float.Input(
                    "seconds",
                    default=2.5,
                    min=0.0,
                    max=60.0,
                    step=0.01,
                    tooltip="When the picture shows, from the clip's start. It is held for the 4 frames (1/6 s) that "
                    "share a latent step; two pictures need as much between them.",
                ),
                _strength("strength"),
                _fit(),
            ],
            outputs=[io.Latent.Output(display_name="latent")],
        )

    @classmethod
    @reported_by("Ovi Keyframe")
    def execute(
        cls, vae, latent, image, seconds: float = 2.5, strength: float = 1.0, fit: str = "crop"
    ) -> io.NodeOutput:
        return io.NodeOutput(keyframes.keep_at(vae, latent, image, fit, seconds, strength))


class OviEncodeClip(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviEncodeClip",
            display_name="Ovi Encode Clip",
            category=CATEGORY,
            description="An existing clip with its sound as a joint latent: to redo parts of it with Ovi Keep Span, or "
            "all of it a little with a sampler's denoise below 1.",
            search_aliases=["vae encode", "video to latent", "remix", "video to video", "v2v"],
            inputs=[
                io.Vae.Input("vae", tooltip="The Wan 2.2 video VAE."),
                io.Vae.Input("audio_vae", tooltip="From Load Ovi Audio VAE."),
                io.Latent.Input(
                    "latent",
                    tooltip="From Empty Ovi Latent: the size, and the most that is taken of the clip. Best of the "
                    "clip's shape, for it is cropped to that.",
                ),
                io.Image.Input("images", tooltip="The clip's frames, of any size."),
                io.Audio.Input("audio", tooltip="Its sound, of any sample rate and channels."),
                io.Float.Input(
                    "frame_rate",
                    default=24.0,
                    min=1.0,
                    max=240.0,
                    step=0.001,
                    tooltip="Frames a second of the clip, as Get Video Components gives it.",
                ),
            ],
            outputs=[io.Latent.Output(display_name="latent")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @reported_by("Ovi Encode Clip")
    def execute(cls, vae, audio_vae, latent, images, audio, frame_rate: float = 24.0) -> io.NodeOutput:
        encoded, notes = encode.encode_clip(vae, audio_vae, latent, images, audio, frame_rate)
        tell("Ovi Encode Clip", cls.hidden.unique_id if cls.hidden else None, notes)
        return io.NodeOutput(encoded)


def _spans(name: str, of: str) -> io.String.Input:
    return io.String.Input(
        name,
        default="",
        placeholder="1.2-2.0, 3.5-end",
        tooltip=f"Seconds {of}, as in 1.2-2.0, 3.5-end. Empty: none of it.",
    )


class OviKeepSpan(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviKeepSpan",
            display_name="Ovi Keep Span",
            category=CATEGORY,
            description="Redo a wrong word or a bad gesture of an existing clip, or keep one and redo the rest: name "
            "the seconds in each tower, and sample again. What is kept comes back exactly.",
            search_aliases=["redo", "inpaint", "outpaint", "fix speech", "replace word", "noise mask", "retake"],
            inputs=[
                io.Latent.Input("latent", tooltip="A clip: from a sampler or Ovi Encode Clip."),
                io.Combo.Input(
                    "action",
                    options=list(inpaint.ACTIONS),
                    default=inpaint.ACTIONS[0],
                    tooltip="redo: the spans are made anew, all else is kept. keep: the reverse.",
                ),
                _spans("video_spans", "of the pictures, in steps of 4 frames (1/6 s)"),
                _spans("audio_spans", "of the sound, in steps of 32 ms"),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where in the picture to do it, white; of the clip's shape, one for all frames or one for "
                    "each. With video_spans empty: at all times.",
                ),
                io.Combo.Input(
                    "mode",
                    options=list(locked_media.MODES),
                    default=next(iter(locked_media.MODES)),
                    tooltip="How the model sees what is kept. follow the noise: as noisy as the rest in each step; the "
                    "default. clean: as it is from the first step on, as a start picture.",
                ),
                io.Boolean.Input(
                    "combine",
                    default=True,
                    tooltip="Keep also what the latent's mask keeps already, such as start pictures and locked parts. "
                    "Switch it off to redo another span of a clip of which one was redone before.",
                ),
            ],
            outputs=[io.Latent.Output(display_name="latent")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @reported_by("Ovi Keep Span")
    def execute(
        cls,
        latent,
        action: str = "redo",
        video_spans: str = "",
        audio_spans: str = "",
        mask=None,
        mode: str = "follow the noise",
        combine: bool = True,
    ) -> io.NodeOutput:
        marked, notes = inpaint.mark(latent, action, video_spans, audio_spans, mask, locked_media.MODES[mode], combine)
        tell("Ovi Keep Span", cls.hidden.unique_id if cls.hidden else None, notes)
        return io.NodeOutput(marked)


NODES = [EmptyOviLatent, OviImageToVideo, OviKeyframe, OviEncodeClip, OviKeepSpan]
