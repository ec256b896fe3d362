"""People whose faces and voices stay the same: references, and the caption that names them."""

from __future__ import annotations

from comfy_api.latest import io

from ..ovi_core.conditioning import person
from ..ovi_core.text import people_prompt
from .shared import notify
from .shared.boundary import checked

CATEGORY = "Ovi/conditioning"


class OviPerson(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviPerson",
            display_name="Ovi Person",
            category=CATEGORY,
            description="Gives a clip the face and the voice of a person. Chain two for two people. For DreamID-Omni's "
            "weights; Ovi's own were not trained on reference faces and voices. Use a person's face or voice only with "
            "their consent, and say that the clip is generated. Evidence: reference numbers only; no clip was made "
            "with the published weights yet.",
            search_aliases=[
                "ovi reference",
                "face",
                "face reference",
                "identity",
                "voice clone",
                "character",
                "dreamid",
                "voice",
                "reference voice",
                "reference face",
            ],
            inputs=[
                io.Conditioning.Input("positive", tooltip="The prompt, or the positive of another Ovi Person."),
                io.Conditioning.Input("negative", tooltip="The negative prompt, or that of another Ovi Person."),
                io.Vae.Input("vae", tooltip="The Wan 2.2 video VAE, for the face."),
                io.Vae.Input("audio_vae", tooltip="From Load Ovi Audio VAE, for the voice."),
                io.Latent.Input("latent", tooltip="The latent to be sampled. The face is fitted to its size."),
                io.Image.Input(
                    "face",
                    optional=True,
                    tooltip="The person's face, closely cropped. It is fitted into the clip's size, on white.",
                ),
                io.Audio.Input("voice", optional=True, tooltip="A recording of the person's clear speech."),
                io.Float.Input(
                    "voice_start",
                    default=1.0,
                    min=0.0,
                    max=3600.0,
                    step=0.1,
                    optional=True,
                    tooltip="Start of the one second of speech to use, in seconds.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="The prompt with one person more."),
                io.Conditioning.Output(display_name="negative", tooltip="The negative prompt with one person more."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @checked
    def execute(
        cls, positive, negative, vae, audio_vae, latent, face=None, voice=None, voice_start: float = 1.0
    ) -> io.NodeOutput:
        positive, negative, notes = person.with_person(
            positive, negative, vae, audio_vae, latent, face, voice, voice_start
        )
        notify.warn(cls, notes)
        return io.NodeOutput(positive, negative)


class OviPeoplePrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviPeoplePrompt",
            display_name="Ovi People Prompt",
            category=CATEGORY,
            description="Writes the structured caption that DreamID-Omni's weights expect, or uses one of its caption "
            "files. <sub1> is the first Ovi Person, <sub2> the second.",
            search_aliases=["ovi caption", "dreamid", "people", "dialogue", "sub1"],
            inputs=[
                io.String.Input(
                    "people",
                    multiline=True,
                    default="",
                    placeholder="An old fisherman with a white beard.\nA girl in a red scarf.",
                    tooltip="One row for each person, in the order of the Ovi Person nodes: what the face image shows.",
                ),
                io.String.Input(
                    "scene",
                    multiline=True,
                    default="",
                    placeholder="A harbour before dawn. The shot is an upper-body close-up.",
                    tooltip="Place, light and framing.",
                ),
                io.String.Input(
                    "looks",
                    multiline=True,
                    default="",
                    placeholder="<sub1> wears a yellow oilskin.",
                    tooltip="What the people wear, with <sub1> and <sub2> as their names.",
                ),
                io.String.Input(
                    "actions",
                    multiline=True,
                    default="",
                    placeholder="<sub1> coils a rope.",
                    tooltip="What they do, with <sub1> and <sub2> as their names.",
                ),
                io.String.Input(
                    "speech",
                    multiline=True,
                    default="",
                    placeholder="1 (gruffly): The tide waits for nobody.\n2: It waited for me!",
                    tooltip="One spoken line per row: the person's number, a colon, the words. A row without a number "
                    "is an action between the lines.",
                ),
                io.String.Input(
                    "caption",
                    multiline=True,
                    default="",
                    tooltip="The text of a DreamID-Omni caption file. It replaces the other inputs. Empty: they are "
                    "used.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="prompt", tooltip="For Ovi Text Encode, with the variant dreamid_omni.")
            ],
        )

    @classmethod
    @checked
    def execute(
        cls, people: str, scene: str, looks: str, actions: str, speech: str, caption: str = ""
    ) -> io.NodeOutput:
        if caption.strip():
            return io.NodeOutput(people_prompt.read_caption(caption))
        return io.NodeOutput(people_prompt.build(people, scene, looks, actions, speech))


NODES = [OviPerson, OviPeoplePrompt]
