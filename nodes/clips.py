"""Stories: from what an artist writes to what Ovi reads, and from clip to clip."""

from __future__ import annotations

from comfy_api.latest import io

from ..ovi_core.conditioning import extend
from ..ovi_core.errors import reported_by
from ..ovi_core.media import concat, drift_correction
from ..ovi_core.spec import VARIANTS
from ..ovi_core.text import prompt_builder
from .notify import tell
from .widgets import overlap_input

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


class OviExtend(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviExtend",
            display_name="Ovi Extend",
            category=CATEGORY,
            description="Go on from a clip: the new one begins with its last pictures and their sound, kept as they "
            "are, and the model makes what follows. Put both together with Ovi Join Clips.",
            search_aliases=["continue video", "longer video", "extend", "next shot", "last frame"],
            inputs=[
                io.Vae.Input("vae", tooltip="The Wan 2.2 video VAE."),
                io.Vae.Input("audio_vae", tooltip="From Load Ovi Audio VAE."),
                io.Image.Input(
                    "images",
                    tooltip="The clip's frames, at 24 a second, as Ovi AV Decode or Ovi Join Clips gives them.",
                ),
                io.Audio.Input(
                    "audio", tooltip="The clip's sound, of any rate and channels. Without any, sound is made anew."
                ),
                overlap_input(
                    0.04,
                    "How much of the clip's end the new one begins with. The more, the better motion, voice and music "
                    "go on; 0.04 is the last frame alone. Taken as the nearest of 1, 5, 9, 13 ... frames: 1 s is 25.",
                ),
                io.Float.Input(
                    "seconds",
                    default=10.0,
                    min=0.2,
                    max=60.0,
                    step=0.1,
                    tooltip="Length of the new clip with the overlap. The weights were trained on 5 s or 10 s.",
                ),
            ],
            outputs=[io.Latent.Output(display_name="latent")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @reported_by("Ovi Extend")
    def execute(
        cls, vae, audio_vae, images, audio, overlap_seconds: float = 1.0, seconds: float = 10.0
    ) -> io.NodeOutput:
        latent, notes = extend.extend(vae, audio_vae, images, audio, overlap_seconds, seconds)
        tell("Ovi Extend", cls.hidden.unique_id if cls.hidden else None, notes)
        return io.NodeOutput(latent)


class OviJoin(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviJoin",
            display_name="Ovi Join Clips",
            category=CATEGORY,
            description="One clip of two, the second made with Ovi Extend. The overlap is shown once: pictures go over "
            "evenly, sound in equal power. Sound and frames last exactly as long, however many clips are joined.",
            search_aliases=["concatenate clips", "merge videos", "crossfade", "stitch", "append video"],
            inputs=[
                io.Image.Input("images_a", tooltip="Frames of the first clip, or of all clips joined so far."),
                io.Audio.Input("audio_a", tooltip="Its sound. None is silence."),
                io.Image.Input("images_b", tooltip="Frames of the clip that goes on from it."),
                io.Audio.Input("audio_b", tooltip="Its sound, brought to the first one's rate and channels."),
                overlap_input(
                    0.0, "The same as in Ovi Extend, taken as the same frames. 0: one clip after the other, with a cut."
                ),
                io.Combo.Input(
                    "correct",
                    options=list(drift_correction.CORRECTIONS),
                    default=drift_correction.CORRECTIONS[0],
                    tooltip="Against colour, contrast and loudness that creep from clip to clip. to the overlap: what "
                    "both show must look and sound alike. to the start: besides, the end of the second comes back, "
                    "little by little, towards the beginning of the first, for scenes that do not change. off: for "
                    "clips that do not show the same.",
                ),
            ],
            outputs=[io.Image.Output(display_name="images"), io.Audio.Output(display_name="audio")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @reported_by("Ovi Join Clips")
    def execute(
        cls,
        images_a,
        audio_a,
        images_b,
        audio_b,
        overlap_seconds: float = 1.0,
        correct: str = drift_correction.CORRECTIONS[0],
    ) -> io.NodeOutput:
        film, notes = concat.join(images_a, audio_a, images_b, audio_b, overlap_seconds, correct)
        tell("Ovi Join Clips", cls.hidden.unique_id if cls.hidden else None, notes)
        return io.NodeOutput(film.images, {"waveform": film.sound, "sample_rate": film.rate})


NODES = [OviPromptBuilder, OviExtend, OviJoin]
