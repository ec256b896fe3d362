"""Joint latents: empty, with images at given moments, or encoded from an existing clip."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..ovi_core.conditioning import encode, inpaint, keyframes, locked_media
from ..ovi_core.latents import joint
from ..ovi_core.media.images import checked_frames
from ..ovi_core.spec import VARIANTS, ClipShape, size_for_shape
from .shared import notify
from .shared.boundary import checked
from .shared.widgets import (
    audio_vae_input,
    fit_input,
    frame_rate_input,
    mode_input,
    seconds_input,
    size_inputs,
    variant_input,
    video_vae_input,
)

CATEGORY = "Ovi/latents"
ASPECTS = ("1:1", "5:4", "4:5", "4:3", "3:4", "3:2", "2:3", "16:9", "9:16", "2:1", "1:2", "21:9", "9:21")


class OviResolution(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviResolution",
            display_name="Ovi Resolution",
            category=CATEGORY,
            description="Width, height and seconds that a variant was trained for, in a shape you choose or the shape "
            "of an image.",
            search_aliases=["aspect ratio", "ovi size", "width and height", "resolution", "portrait", "landscape"],
            inputs=[
                io.Combo.Input(
                    "aspect", options=list(ASPECTS), default="16:9", tooltip="Shape of the clip, width to height."
                ),
                variant_input("The variant that generates the clip. It sets the frame area; aspect sets the shape."),
                io.Image.Input(
                    "image", optional=True, tooltip="The clip gets the shape of this image, and aspect has no effect."
                ),
            ],
            outputs=[
                io.Int.Output(display_name="width", tooltip="Pixels, a multiple of 32, for Empty Ovi Latent."),
                io.Int.Output(display_name="height", tooltip="Pixels, a multiple of 32, for Empty Ovi Latent."),
                io.Float.Output(display_name="seconds", tooltip="The length that the variant was trained on."),
            ],
        )

    @classmethod
    @checked
    def execute(cls, aspect: str, variant: str, image=None) -> io.NodeOutput:
        if image is None:
            width, height = map(int, aspect.split(":"))
        else:
            height, width = checked_frames(image, "image").shape[1:3]
        chosen = VARIANTS[variant]
        return io.NodeOutput(*size_for_shape(chosen, width, height), chosen.seconds)


class EmptyOviLatent(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmptyOviLatent",
            display_name="Empty Ovi Latent",
            category=CATEGORY,
            description="An empty joint latent for a clip and its sound, to be sampled.",
            search_aliases=["ovi size", "video length", "blank video"],
            inputs=[
                *size_inputs(
                    960,
                    height="Pixels, a multiple of 32. Best near the variant's area: 960x960 or 720x720 in total.",
                ),
                seconds_input(10.0, "Length at 24 frames per second. The weights were trained on 5 s or 10 s."),
                io.Int.Input("batch_size", default=1, min=1, max=64, tooltip="Clips generated at the same time."),
                io.Combo.Input(
                    "towers",
                    options=list(joint.TOWERS),
                    default=joint.TOWERS[0],
                    optional=True,
                    tooltip="What is generated. One tower alone costs only its own share of the work: video without "
                    "sound, or sound from the text alone.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="latent",
                    tooltip="A joint latent, for the sampler or for a node that puts images or sound into it.",
                )
            ],
        )

    @classmethod
    @checked
    def execute(
        cls, width: int, height: int, seconds: float, batch_size: int = 1, towers: str = joint.TOWERS[0]
    ) -> io.NodeOutput:
        clip = ClipShape.from_seconds(width, height, seconds)
        return io.NodeOutput({"samples": joint.empty(clip, batch_size, towers)})


def _strength(name: str, **more: Any) -> io.Float.Input:
    return io.Float.Input(
        name,
        default=1.0,
        min=0.0,
        max=1.0,
        step=0.01,
        tooltip="1: the image stays as it is. Lower: the model may change it more. 0: no effect.",
        **more,
    )


class OviImageToVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviImageToVideo",
            display_name="Ovi Image To Video",
            category=CATEGORY,
            description="Starts the clip with an image, ends it with one, or both: each becomes the first or the last "
            "frame and stays as it is. For images in between, add Ovi Keyframe.",
            search_aliases=[
                "i2v",
                "first frame",
                "last frame",
                "end image",
                "talking photo",
                "animate picture",
                "image to video",
            ],
            inputs=[
                video_vae_input(),
                io.Latent.Input("latent", tooltip="From Empty Ovi Latent. Its size is the clip's size."),
                io.Image.Input("start_image", optional=True, tooltip="First frame. One image, or one for each clip."),
                fit_input(),
                io.Image.Input(
                    "end_image",
                    optional=True,
                    tooltip="Last frame, held for the last 4 frames (1/6 s). One image, or one for each clip. The "
                    "published weights were trained on start images only; end images are untested with them.",
                ),
                _strength("start_strength", optional=True),
                _strength("end_strength", optional=True),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="The latent with its start and end image.")],
        )

    @classmethod
    @checked
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
            latent = keyframes.with_start_image(vae, latent, start_image, fit, start_strength)
        if end_image is not None:
            latent = keyframes.with_end_image(vae, latent, end_image, fit, end_strength)
        return io.NodeOutput(latent)


class OviKeyframe(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviKeyframe",
            display_name="Ovi Keyframe",
            category=CATEGORY,
            description="An image at any second of the clip. Chain one node for each image. Untested with the "
            "published weights.",
            search_aliases=["key frame", "picture at time", "middle frame", "guide image", "in between"],
            inputs=[
                video_vae_input(),
                io.Latent.Input("latent", tooltip="From Empty Ovi Latent, Ovi Image To Video or another Ovi Keyframe."),
                io.Image.Input("image", tooltip="One image, or one for each clip."),
                io.Float.Input(
                    "seconds",
                    default=2.5,
                    min=0.0,
                    max=60.0,
                    step=0.01,
                    tooltip="When the image shows, counted from the clip's start. It is held for the 4 frames (1/6 s) "
                    "of one latent frame; two images need at least that much time between them.",
                ),
                _strength("strength"),
                fit_input(),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="The latent with one image more.")],
        )

    @classmethod
    @checked
    def execute(
        cls, vae, latent, image, seconds: float = 2.5, strength: float = 1.0, fit: str = "crop"
    ) -> io.NodeOutput:
        return io.NodeOutput(keyframes.with_keyframe(vae, latent, image, fit, seconds, strength))


class OviEncodeClip(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviEncodeClip",
            display_name="Ovi Encode Clip",
            category=CATEGORY,
            description="Encodes an existing clip and its sound as a joint latent: to redo parts of it with Ovi Keep "
            "Span, or to change all of it with a denoise below 1.",
            search_aliases=["vae encode", "video to latent", "remix", "video to video", "v2v"],
            inputs=[
                video_vae_input(),
                audio_vae_input(),
                io.Latent.Input(
                    "latent",
                    tooltip="From Empty Ovi Latent: sets the size and the longest part to use. Give it the clip's "
                    "shape, because the clip is cropped to it.",
                ),
                io.Image.Input("images", tooltip="The clip's frames, of any size."),
                io.Audio.Input("audio", tooltip="Its sound, at any sample rate, with any channels."),
                frame_rate_input("Frames per second of the clip, as Get Video Components gives it."),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="latent", tooltip="The clip as a latent, for Ovi Keep Span, Ovi Remix or the sampler."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @checked
    def execute(cls, vae, audio_vae, latent, images, audio, frame_rate: float = 24.0) -> io.NodeOutput:
        encoded, notes = encode.encode_clip(vae, audio_vae, latent, images, audio, frame_rate)
        notify.warn(cls, notes)
        return io.NodeOutput(encoded)


def _spans(name: str, of: str) -> io.String.Input:
    return io.String.Input(
        name,
        default="",
        placeholder="1.2-2.0, 3.5-end",
        tooltip=f"Seconds {of}, such as 1.2-2.0, 3.5-end. Empty: none.",
    )


class OviKeepSpan(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviKeepSpan",
            display_name="Ovi Keep Span",
            category=CATEGORY,
            description="Redo a wrong word or a bad gesture of an existing clip, or keep one and redo the rest: type "
            "the seconds for each tower and sample again. Everything else comes back unchanged. Untested with the "
            "published weights.",
            search_aliases=["redo", "inpaint", "outpaint", "fix speech", "replace word", "noise mask", "retake"],
            inputs=[
                io.Latent.Input("latent", tooltip="A clip: from a sampler or Ovi Encode Clip."),
                io.Combo.Input(
                    "action",
                    options=list(inpaint.ACTIONS),
                    default=inpaint.ACTIONS[0],
                    tooltip="redo: the spans are regenerated, the rest stays. keep: the reverse.",
                ),
                _spans("video_spans", "of the video, in steps of 4 frames (1/6 s)"),
                _spans("audio_spans", "of the sound, in steps of 32 ms"),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="The region of the frame, in white. It has the clip's shape; one mask for all frames, or "
                    "one for each. If video_spans is empty, it applies to the whole clip.",
                ),
                mode_input(),
                io.Boolean.Input(
                    "combine",
                    default=True,
                    tooltip="Also keep what the latent's mask already keeps, such as start images and locked parts. "
                    "Switch it off to redo another span of a clip after a first one.",
                ),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="The latent with a mask of what is regenerated.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @checked
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
        marked, notes = inpaint.with_spans(
            latent, action, video_spans, audio_spans, mask, locked_media.MODES[mode], combine
        )
        notify.warn(cls, notes)
        return io.NodeOutput(marked)


NODES = [OviResolution, EmptyOviLatent, OviImageToVideo, OviKeyframe, OviEncodeClip, OviKeepSpan]
