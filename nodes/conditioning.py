"""Text to CONDITIONING."""

from __future__ import annotations

import node_helpers
from comfy_api.latest import io

from ..ovi_core.errors import OviError, reported_by
from ..ovi_core.model.base_model import AUDIO_TEXT
from ..ovi_core.spec import VARIANTS
from ..ovi_core.text import encode
from .notify import tell

CATEGORY = "Ovi/conditioning"


class OviTextEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviTextEncode",
            display_name="Ovi Text Encode",
            category=CATEGORY,
            description="Encode a prompt word for word. <S>speech<E> is spoken; 'Audio: …' at the end describes the "
            "sound. Parentheses are text here, not weights.",
            search_aliases=["ovi prompt", "speech", "dialogue", "talking"],
            inputs=[
                io.Clip.Input("clip", tooltip="umt5-xxl: CLIPLoader of type wan, or Load Ovi (all in one)."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    tooltip="The scene in plain words, speech as <S>…<E>, the sound as 'Audio: …' at the end.",
                ),
                io.Combo.Input(
                    "variant",
                    options=list(VARIANTS),
                    default="960x960_10s",
                    tooltip="The weights that will read the prompt: they differ in how the sound's caption is written.",
                ),
            ],
            outputs=[io.Conditioning.Output(display_name="conditioning")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @reported_by("Ovi Text Encode")
    def execute(cls, clip, prompt: str, variant: str) -> io.NodeOutput:
        conditioning, notes = encode.encode(clip, prompt, VARIANTS[variant])
        tell("Ovi Text Encode", cls.hidden.unique_id if cls.hidden else None, notes)
        return io.NodeOutput(conditioning)


class OviDualConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviDualConditioning",
            display_name="Ovi Dual Conditioning",
            category=CATEGORY,
            description="Two prompts in one: the video tower reads the first, the audio tower the second. Made for "
            "negatives ('jitter, blur' for the picture, 'robotic, muffled' for the sound). Average, concatenate or "
            "zero out a prompt before it comes here: behind, stock nodes change only the picture's.",
            search_aliases=["ovi negative", "two prompts"],
            inputs=[
                io.Conditioning.Input("video", tooltip="What the video tower reads."),
                io.Conditioning.Input("audio", tooltip="What the audio tower reads."),
            ],
            outputs=[io.Conditioning.Output(display_name="conditioning")],
        )

    @classmethod
    @reported_by("Ovi Dual Conditioning")
    def execute(cls, video, audio) -> io.NodeOutput:
        if len(audio) not in (1, len(video)):
            raise OviError(
                input="audio",
                found=f"{len(audio)} prompts for {len(video)} of the video",
                accepted=f"1 prompt, or {len(video)}",
                remedy="Join each pair here first, then combine the pairs.",
            )
        texts = [options.get(AUDIO_TEXT, tensor) for tensor, options in audio] * (len(video) // len(audio))
        dual = []
        for part, words in zip(video, texts, strict=True):
            dual += node_helpers.conditioning_set_values([part], {AUDIO_TEXT: words})
        return io.NodeOutput(dual)


NODES = [OviTextEncode, OviDualConditioning]
