"""Stories: from what an artist writes to what Ovi reads."""

from __future__ import annotations

from comfy_api.latest import io

from ..ovi_core import prompt_builder
from ..ovi_core.errors import reported_by
from ..ovi_core.spec import VARIANTS

CATEGORY = "Ovi/stories"


class OviPromptBuilder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviPromptBuilder",
            display_name="Ovi Prompt Builder",
            category=CATEGORY,
            description="A well-formed prompt from scene, spoken lines and sound, with no tags to type; and a report: "
            "who speaks, for how long, and whether the clip has room for it.",
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
                    "'Anna (whispering, in French): Bonjour.' A row without a speaker goes on with the last one; a "
                    "row that begins with a colon is all words. 'The children shout: Hurray!' brings its own verb.",
                ),
                io.String.Input(
                    "audio_caption",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    placeholder="Clear female voice, deep male voice, gulls, waves against wood.",
                    tooltip="What is heard, in plain words: voices, effects, room, music.",
                ),
                io.Combo.Input(
                    "variant",
                    options=list(VARIANTS),
                    default="960x960_10s",
                    tooltip="The weights that will read the prompt: they decide how the sound's caption is written, "
                    "and how many seconds there are for the speech.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="prompt", tooltip="For Ovi Text Encode, with the same variant."),
                io.String.Output(display_name="report", tooltip="Speakers, seconds and warnings, to read."),
            ],
        )

    @classmethod
    @reported_by("Ovi Prompt Builder")
    def execute(cls, scene: str, speech: str, audio_caption: str, variant: str) -> io.NodeOutput:
        return io.NodeOutput(*prompt_builder.build(scene, speech, audio_caption, VARIANTS[variant]))


NODES = [OviPromptBuilder]
