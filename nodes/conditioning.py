"""Text to CONDITIONING."""

from __future__ import annotations

import node_helpers
from comfy_api.latest import io

from ..ovi_core.errors import OviError
from ..ovi_core.model.base_model import AUDIO_TEXT
from ..ovi_core.sampling.variant_settings import AUTO
from ..ovi_core.spec import METADATA_KEY, VARIANTS
from ..ovi_core.text import encode
from .shared import notify
from .shared.boundary import checked
from .shared.widgets import text_encoder_input, variant_input

CATEGORY = "Ovi/conditioning"


class OviTextEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviTextEncode",
            display_name="Ovi Text Encode",
            category=CATEGORY,
            description="Encodes a prompt word for word. <S>speech<E> is spoken; 'Audio: …' at the end describes the "
            "sound. Parentheses are text here, not weights.",
            search_aliases=["ovi prompt", "speech", "dialogue", "talking", "text to video"],
            inputs=[
                text_encoder_input(),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    tooltip="The scene in plain words, speech as <S>…<E>, the sound as 'Audio: …' at the end.",
                ),
                variant_input(
                    "The variant that the prompt is written for. Variants differ in the form of the audio caption, and "
                    "dreamid_omni expects the captions of Ovi People Prompt. auto: the variant of Load Ovi (all in "
                    "one); with another loader, 960x960_10s.",
                    auto=True,
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning",
                    tooltip="The encoded prompt, for the sampler or for Ovi Dual Conditioning.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @checked
    def execute(cls, clip, prompt: str, variant: str = AUTO) -> io.NodeOutput:
        chosen, doubts = encode.variant_for(clip, prompt, None if variant == AUTO else VARIANTS[variant])
        conditioning, notes = encode.encode(clip, prompt, chosen)
        notify.warn(cls, [*doubts, *notes])
        # with which the sampler compares its model
        return io.NodeOutput(node_helpers.conditioning_set_values(conditioning, {METADATA_KEY: chosen.name}))


class OviDualConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviDualConditioning",
            display_name="Ovi Dual Conditioning",
            category=CATEGORY,
            description="Two prompts in one: the video tower gets the first, the audio tower the second. Meant for "
            "negative prompts ('jitter, blur' for the video, 'robotic, muffled' for the sound). Average, concatenate "
            "or zero out prompts before this node: after it, stock nodes change only the video tower's prompt.",
            search_aliases=["ovi negative", "two prompts"],
            inputs=[
                io.Conditioning.Input("video", tooltip="Prompt for the video tower."),
                io.Conditioning.Input("audio", tooltip="Prompt for the audio tower."),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning", tooltip="One conditioning with a prompt for each tower."
                )
            ],
        )

    @classmethod
    @checked
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
