"""A clip, a sound or a voice that is given: one tower keeps it, the other answers."""

from __future__ import annotations

from comfy_api.latest import io

from ..ovi_core.conditioning import locked_media
from ..ovi_core.conditioning.voice_reference import with_voice
from ..ovi_core.errors import reported_by
from .notify import tell

CATEGORY = "Ovi/latents"


def _mode() -> io.Combo.Input:
    return io.Combo.Input(
        "mode",
        options=list(locked_media.MODES),
        default=next(iter(locked_media.MODES)),
        tooltip="How the model sees what is kept. follow the noise: as noisy as the rest in each step, which is how it "
        "was trained; the default. clean: as it is from the first step on, as a start picture; try it when the answer "
        "misses short events.",
    )


def _length(whole: str, what: str) -> io.Combo.Input:
    return io.Combo.Input(
        "length",
        options=[locked_media.AS_LATENT, whole],
        default=locked_media.AS_LATENT,
        optional=True,
        tooltip=f"the latent's: {what} is kept as far as the latent goes. {whole}: the latent is made as long as it; "
        "beyond the length the weights were trained on, put Ovi Context Windows between model and sampler.",
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
                _length(locked_media.WHOLE_CLIP, "the clip"),
            ],
            outputs=[io.Latent.Output(display_name="latent")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @reported_by("Ovi Lock Video")
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
                _length(locked_media.WHOLE_SOUND, "the sound"),
            ],
            outputs=[io.Latent.Output(display_name="latent")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @reported_by("Ovi Lock Audio")
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
        tell("Ovi Lock Audio", cls.hidden.unique_id if cls.hidden else None, notes)
        return io.NodeOutput(locked)


class OviVoice(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviVoice",
            display_name="Ovi Own Voice",
            category=CATEGORY,
            description="Let the clip speak with a voice of your own: some seconds of it stand before the clip, the "
            "model goes on from them, and Ovi AV Decode cuts them away. Connect it last, before the sampler. It helps "
            "to put what the voice says, in its own <S> and <E>, before the speech in the prompt.",
            search_aliases=["voice cloning", "own voice", "reference voice", "speaker", "text to speech"],
            inputs=[
                io.Vae.Input("audio_vae", tooltip="From Load Ovi Audio VAE."),
                io.Latent.Input(
                    "latent",
                    tooltip="From Empty Ovi Latent or Ovi Image To Video. Voice and clip together should last no "
                    "longer than the weights were trained on.",
                ),
                io.Audio.Input(
                    "voice", tooltip="Somebody speaking, without music, from its first moment on. Any sample rate."
                ),
                io.Float.Input(
                    "seconds",
                    default=2.0,
                    min=0.5,
                    max=8.0,
                    step=0.1,
                    tooltip="How much of the voice to take. More is more like it, and costs as much as a clip that "
                    "is longer by it. Best where it ends with a word.",
                ),
                _mode(),
            ],
            outputs=[io.Latent.Output(display_name="latent")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @reported_by("Ovi Own Voice")
    def execute(cls, audio_vae, latent, voice, seconds: float = 2.0, mode: str = "follow the noise") -> io.NodeOutput:
        led, notes = with_voice(audio_vae, latent, voice, seconds, mode)
        tell("Ovi Own Voice", cls.hidden.unique_id if cls.hidden else None, notes)
        return io.NodeOutput(led)


NODES = [OviLockVideo, OviLockAudio, OviVoice]
