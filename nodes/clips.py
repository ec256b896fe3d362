"""Prompts from scene and speech, and clips that continue one another."""

from __future__ import annotations

from comfy_api.latest import io

from ..ovi_core.conditioning import extend
from ..ovi_core.media import concat, drift_correction
from ..ovi_core.spec import FPS, SAMPLE_RATE, VARIANTS, Overlap
from ..ovi_core.text import prompt_builder
from .shared import notify
from .shared.boundary import checked
from .shared.widgets import (
    audio_vae_input,
    correct_input,
    frame_rate_input,
    overlap_input,
    seconds_input,
    variant_input,
    video_vae_input,
)

CATEGORY = "Ovi/stories"


class OviPromptBuilder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviPromptBuilder",
            display_name="Ovi Prompt Builder",
            category=CATEGORY,
            description="Builds a prompt from scene, spoken lines and sound, so you need not type tags. The report "
            "lists who speaks for how long and whether the speech fits the clip.",
            search_aliases=["ovi prompt", "dialogue", "speech", "script", "talking", "speech length"],
            inputs=[
                io.String.Input(
                    "scene",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    placeholder="A woman in red and an old sailor stand on a pier at sunrise.",
                    tooltip="What is seen, in plain words: people, place, action, light, camera.",
                ),
                io.String.Input(
                    "speech",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    placeholder="The woman in red: Good morning.\nThe old sailor (in French, softly): Bonjour.",
                    tooltip="One spoken line per row: 'The woman in red: Good morning.' or, with manner and language, "
                    "'Anna (whispering, in French): Bonjour.' A row without a speaker continues the last one's speech. "
                    "A row that starts with a colon is speech only. 'The children shout: Hurray!' has its own verb.",
                ),
                io.String.Input(
                    "audio_caption",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    placeholder="Clear female voice, deep male voice, gulls, waves against wood.",
                    tooltip="What is heard, in plain words: voices, effects, room, music.",
                ),
                variant_input(
                    "The variant that the prompt is written for. It sets the form of the audio caption and the seconds "
                    "available for speech."
                ),
                io.Float.Input(
                    "seconds",
                    default=0.0,
                    min=0.0,
                    max=60.0,
                    step=0.1,
                    optional=True,
                    tooltip="Length of the clip, with which the report compares the speech. 0: the variant's.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="prompt", tooltip="For Ovi Text Encode, with the same variant."),
                io.String.Output(display_name="report", tooltip="Speakers, seconds and warnings, to read."),
            ],
        )

    @classmethod
    @checked
    def execute(cls, scene: str, speech: str, audio_caption: str, variant: str, seconds: float = 0.0) -> io.NodeOutput:
        return io.NodeOutput(*prompt_builder.build(scene, speech, audio_caption, VARIANTS[variant], seconds))


class OviExtend(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviExtend",
            display_name="Ovi Extend",
            category=CATEGORY,
            description="Continues a clip: the new clip starts with the last frames of the old one and their sound, "
            "unchanged, and the model generates the rest. Join the two with Ovi Join Clips. Untested with the "
            "published weights.",
            search_aliases=["continue video", "longer video", "extend", "next shot", "last frame", "extend video"],
            inputs=[
                video_vae_input(),
                audio_vae_input(),
                io.Image.Input(
                    "images",
                    tooltip="The clip's frames, from Ovi AV Decode, Ovi Join Clips or Get Video Components.",
                ),
                io.Audio.Input(
                    "audio",
                    tooltip="The clip's sound, at any sample rate, with any channels. Without any, all sound is "
                    "generated.",
                ),
                overlap_input(
                    0.04,
                    "How much of the clip's end starts the new one. More should continue motion, voice and music "
                    "better; 0.04 is the last frame only. Rounded to the nearest of 1, 5, 9, 13 ... frames: 1 s is 25.",
                ),
                seconds_input(
                    10.0, "Length of the new clip, with the overlap. The weights were trained on 5 s or 10 s."
                ),
                frame_rate_input(
                    "Frames per second of images, as Get Video Components gives it. The new clip has 24.", optional=True
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="latent",
                    tooltip="A latent that begins with the end of the first clip, for the sampler.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @checked
    def execute(
        cls,
        vae,
        audio_vae,
        images,
        audio,
        overlap_seconds: float = 1.0,
        seconds: float = 10.0,
        frame_rate: float = FPS,
    ) -> io.NodeOutput:
        latent, notes = extend.extend(vae, audio_vae, images, audio, overlap_seconds, seconds, frame_rate)
        notify.warn(cls, notes)
        return io.NodeOutput(latent)


class OviJoin(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviJoin",
            display_name="Ovi Join Clips",
            category=CATEGORY,
            description="Joins two clips, the second made with Ovi Extend. The overlap is shown once: frames "
            "cross-fade linearly, sound with equal power. Frames and sound have exactly the same length, however many "
            "clips are joined.",
            search_aliases=["concatenate clips", "merge videos", "crossfade", "stitch", "append video"],
            inputs=[
                io.Image.Input("images_a", tooltip="Frames of the first clip, or of all clips joined so far."),
                io.Audio.Input("audio_a", tooltip="Its sound. None is silence."),
                io.Image.Input("images_b", tooltip="Frames of the clip that continues it."),
                io.Audio.Input("audio_b", tooltip="Its sound, converted to the first one's sample rate and channels."),
                overlap_input(
                    0.0,
                    "The same as in Ovi Extend, rounded to the same frames. 0: one clip after the other, with a cut.",
                ),
                correct_input(
                    "Against colour, contrast and loudness that drift from clip to clip. to the overlap: frames and "
                    "sound that both clips share are made to match. to the start: also, the end of the second clip "
                    "slowly returns to the look of the first one's beginning, for scenes that do not change. off: for "
                    "clips without a shared part."
                ),
                frame_rate_input(
                    "Frames per second of images_a, as Get Video Components gives it. The second clip and the joined "
                    "one have 24.",
                    optional=True,
                ),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="The frames of both clips, 24 per second."),
                io.Audio.Output(display_name="audio", tooltip="The sound of both clips."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @checked
    def execute(
        cls,
        images_a,
        audio_a,
        images_b,
        audio_b,
        overlap_seconds: float = 1.0,
        correct: str = drift_correction.CORRECTIONS[0],
        frame_rate: float = FPS,
    ) -> io.NodeOutput:
        overlap, rates = Overlap.from_seconds(overlap_seconds), concat.Rates(FPS, SAMPLE_RATE, frame_rate)
        clip, notes = concat.join(images_a, audio_a, images_b, audio_b, overlap.frames, correct, rates)
        notify.warn(cls, notes)
        return io.NodeOutput(clip.images, {"waveform": clip.waveform, "sample_rate": clip.rate})


NODES = [OviPromptBuilder, OviExtend, OviJoin]
