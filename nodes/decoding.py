"""LATENT to IMAGE, AUDIO and VIDEO."""

from __future__ import annotations

from comfy_api.latest import Types, io

from ..ovi_core.decoding import decode, single_tower, source_type
from ..ovi_core.decoding import loop as loops
from ..ovi_core.media import provenance
from .boundary import checked
from .widgets import audio_vae_input, tiled_input, video_vae_input

CATEGORY = "Ovi/decoding"


class OviDecode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviDecode",
            display_name="Ovi AV Decode",
            category=CATEGORY,
            description="Decodes video and audio. The video output holds both, at 24 frames per second, for Save "
            "Video. A locked clip or sound comes back unchanged, bit for bit, at its own rate.",
            search_aliases=["ovi vae decode", "latent to video", "video with sound"],
            inputs=[
                io.Latent.Input("samples", tooltip="From a sampler."),
                video_vae_input(),
                audio_vae_input(),
                tiled_input(
                    "Decode the frames in overlapping tiles: less memory, more time. auto: only when they do not fit "
                    "into memory at once."
                ),
                io.Boolean.Input(
                    "loop",
                    default=False,
                    optional=True,
                    tooltip="For a clip made with Ovi Loop: its end continues seamlessly at its start.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="images"),
                io.Audio.Output(display_name="audio"),
                io.Video.Output(display_name="video"),
            ],
        )

    @classmethod
    @checked
    def execute(cls, samples, vae, audio_vae, tiled: str = "auto", loop: bool = False) -> io.NodeOutput:
        clip = (loops.decode_loop if loop else single_tower.decode)(vae, audio_vae, samples, tiled)
        audio = {"waveform": clip.sound, "sample_rate": clip.sample_rate}
        film = decode.playable(clip)
        film_audio = {"waveform": film.clip_sound, "sample_rate": film.sample_rate}
        components = Types.VideoComponents(images=film.images, audio=film_audio, frame_rate=film.frame_rate)
        source = source_type.source_of_latent(samples)
        return io.NodeOutput(clip.images, audio, provenance.MarkedVideo(components, source))


NODES = [OviDecode]
