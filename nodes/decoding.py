"""LATENT to IMAGE, AUDIO and VIDEO."""

from __future__ import annotations

from comfy_api.latest import Types, io

from ..ovi_core.decoding.decode import decode
from ..ovi_core.decoding.loop import decode_loop
from ..ovi_core.decoding.output import playable
from ..ovi_core.latents import source_media
from ..ovi_core.media import provenance
from .shared import graph, notify
from .shared.boundary import checked
from .shared.widgets import audio_vae_input, tiled_input, video_vae_input

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
                io.Image.Output(display_name="images", tooltip="The frames, 24 per second."),
                io.Audio.Output(display_name="audio", tooltip="The sound of the clip."),
                io.Video.Output(
                    display_name="video", tooltip="Frames and sound together, for Save Ovi Video or Save Video."
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    @checked
    def execute(cls, samples, vae, audio_vae, tiled: str = "auto", loop: bool = False) -> io.NodeOutput:
        clip = (decode_loop if loop else decode)(vae, audio_vae, samples, tiled)
        notify.warn(cls, clip.notes)
        audio = {"waveform": clip.audio, "sample_rate": clip.sample_rate}
        film = playable(clip)
        film_audio = {"waveform": film.clip_audio, "sample_rate": film.sample_rate}
        components = Types.VideoComponents(images=film.images, audio=film_audio, frame_rate=film.frame_rate)
        likeness = provenance.together(source_media.likeness_of(samples), graph.likeness_before(cls.hidden))
        video = provenance.MarkedVideo(components, clip.source, likeness=likeness)
        return io.NodeOutput(clip.images, audio, video)


NODES = [OviDecode]
