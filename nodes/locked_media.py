"""A clip, a sound or a voice that is given: one tower is locked, the other is generated to it."""

from __future__ import annotations

from comfy_api.latest import io

from ..ovi_core.conditioning import locked_media
from ..ovi_core.conditioning.voice_reference import with_voice
from .shared import notify
from .shared.boundary import checked
from .shared.widgets import audio_vae_input, frame_rate_input, mode_input, video_vae_input

CATEGORY = "Ovi/latents"
FOR_SHORT_EVENTS = "; try it when short events are missed"


def _length(whole: str, what: str) -> io.Combo.Input:
    return io.Combo.Input(
        "length",
        options=[locked_media.AS_LATENT, whole],
        default=locked_media.AS_LATENT,
        optional=True,
        tooltip=f"the latent's: {what} is used up to the latent's length. {whole}: the latent becomes as long as "
        f"{what}. Beyond the trained length, put Ovi Context Windows between model and sampler.",
    )


class OviLockVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviLockVideo",
            display_name="Ovi Lock Video",
            category=CATEGORY,
            description="Sound for a silent clip: the video is locked, and the model generates sound for it. Ovi AV "
            "Decode returns the same frames, at their own size and frame rate. Untested with the published weights.",
            search_aliases=["video to audio", "foley", "v2a", "sound for a video", "add sound to video", "dub"],
            inputs=[
                video_vae_input(),
                io.Latent.Input(
                    "latent",
                    tooltip="From Empty Ovi Latent. Give it the clip's shape: the model sees the clip cropped to it. A "
                    "longer latent is shortened to the clip.",
                ),
                io.Image.Input("images", tooltip="The clip's frames, of any size."),
                frame_rate_input("Frames per second of the clip. The model sees the nearest frame 24 times a second."),
                mode_input(FOR_SHORT_EVENTS),
                _length(locked_media.WHOLE_CLIP, "the clip"),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="The latent with its video locked.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @checked
    def execute(
        cls,
        vae,
        latent,
        images,
        frame_rate: float = 24.0,
        mode: str = "follow the noise",
        length: str = locked_media.AS_LATENT,
    ) -> io.NodeOutput:
        locked, notes = locked_media.lock_video(vae, latent, images, frame_rate, mode, length)
        notify.warn(cls, notes)
        return io.NodeOutput(locked)


class OviLockAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviLockAudio",
            display_name="Ovi Lock Audio",
            category=CATEGORY,
            description="Video for a voice, music or an effect: the sound is locked, and the model generates video for "
            "it. Ovi AV Decode returns the same samples, at their own sample rate and channels. Untested with the "
            "published weights.",
            search_aliases=["audio to video", "lip sync", "lip sync to a voice", "a2v", "talking head", "music video"],
            inputs=[
                audio_vae_input(),
                io.Latent.Input("latent", tooltip="From Empty Ovi Latent or Ovi Image To Video."),
                io.Audio.Input(
                    "audio",
                    tooltip="Any sample rate and channels. If it is shorter than the clip, the model generates the "
                    "rest of the sound.",
                ),
                io.Float.Input(
                    "start_seconds",
                    default=0.0,
                    min=0.0,
                    max=86400.0,
                    step=0.01,
                    tooltip="Second of the sound at which the clip starts.",
                ),
                mode_input(FOR_SHORT_EVENTS),
                _length(locked_media.WHOLE_SOUND, "the sound"),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="The latent with its audio locked.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @checked
    def execute(
        cls,
        audio_vae,
        latent,
        audio,
        start_seconds: float = 0.0,
        mode: str = "follow the noise",
        length: str = locked_media.AS_LATENT,
    ) -> io.NodeOutput:
        locked, notes = locked_media.lock_audio(audio_vae, latent, audio, start_seconds, mode, length)
        notify.warn(cls, notes)
        return io.NodeOutput(locked)


class OviVoice(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviVoice",
            display_name="Ovi Own Voice",
            category=CATEGORY,
            description="Gives the clip a voice of your own: a few seconds of it precede the clip, the model continues "
            "from them, and Ovi AV Decode cuts them off. Connect it last, before the sampler. Write what the voice "
            "says in the prompt, in its own <S> and <E>, before the speech. Use a person's voice only with their "
            "consent. Untested with the published weights.",
            search_aliases=["voice cloning", "own voice", "reference voice", "speaker", "text to speech", "voice"],
            inputs=[
                audio_vae_input(),
                io.Latent.Input(
                    "latent",
                    tooltip="From Empty Ovi Latent or Ovi Image To Video. Voice and clip together should not exceed "
                    "the length the weights were trained on.",
                ),
                io.Audio.Input(
                    "voice",
                    tooltip="A person speaking, without music and without silence at the start. Any sample rate.",
                ),
                io.Float.Input(
                    "seconds",
                    default=2.0,
                    min=0.5,
                    max=8.0,
                    step=0.1,
                    tooltip="How much of the voice to use. More should resemble it better, and costs as much as a clip "
                    "longer by that time. Best ended between two words.",
                ),
                mode_input(FOR_SHORT_EVENTS),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="The latent with the voice before the clip.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @checked
    def execute(cls, audio_vae, latent, voice, seconds: float = 2.0, mode: str = "follow the noise") -> io.NodeOutput:
        led, notes = with_voice(audio_vae, latent, voice, seconds, mode)
        notify.warn(cls, notes)
        return io.NodeOutput(led)


NODES = [OviLockVideo, OviLockAudio, OviVoice]
