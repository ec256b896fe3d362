"""LATENT to IMAGE, AUDIO and VIDEO."""

from __future__ import annotations

from comfy_api.latest import Types, io

from ..ovi_core.decoding import decode, single_tower, source_type
from ..ovi_core.decoding import loop as loops
from ..ovi_core.errors import reported_by
from ..ovi_core.media import provenance

CATEGORY = "Ovi/decoding"


class OviDecode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviDecode",
            display_name="Ovi AV Decode",
            category=CATEGORY,
            description="Decode picture and sound. video holds both, at 24 frames a second, for Save Video. What "
            "was locked comes back as it was given, bit for bit, at its own rate.",
            search_aliases=["ovi vae decode", "latent to video", "video with sound"],
            inputs=[
                io.Latent.Input("samples", tooltip="From a sampler."),
                io.Vae.Input("vae", tooltip="The Wan 2.2 video VAE."),
                io.Vae.Input("audio_vae", tooltip="From Load Ovi Audio VAE."),
                io.Combo.Input(
                    "tiled",
                    options=list(decode.TILED),
                    default="auto",
                    tooltip="Decode the picture in overlapping tiles: less memory, more time. auto: only when it would "
                    "not fit at once.",
                ),
                io.Boolean.Input(
                    "loop",
                    default=False,
                    optional=True,
                    tooltip="For a clip made with Ovi Loop: its last frame and sample go over into the first.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="images"),
                io.Audio.Output(display_name="audio"),
                io.Video.Output(display_name="video"),
            ],
        )

    @classmethod
    @reported_by("Ovi AV Decode")
    def execute(cls, samples, vae, audio_vae, tiled: str = "auto", loop: bool = False) -> io.NodeOutput:
        clip = (loops.decode_loop if loop else single_tower.decode)(vae, audio_vae, samples, tiled)
        audio = {"waveform": clip.sound, "sample_rate": clip.sample_rate}
        film = decode.playable(clip)
        film_audio = {"waveform": film.clip_sound, "sample_rate": film.sample_rate}
        components = Types.VideoComponents(images=film.images, audio=film_audio, frame_rate=film.frame_rate)
        source = source_type.source_of_latent(samples)
        return io.NodeOutput(clip.images, audio, provenance.MarkedVideo(components, source))


NODES = [OviDecode]
