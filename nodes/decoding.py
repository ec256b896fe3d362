"""LATENT to IMAGE, AUDIO and VIDEO."""

from __future__ import annotations

from comfy_api.latest import Types, io
from torch import Tensor

from ..ovi_core.decoding.decode import decode
from ..ovi_core.decoding.loop import decode_loop
from ..ovi_core.decoding.output import playable
from ..ovi_core.latents import source_media
from ..ovi_core.media import provenance
from ..ovi_core.media.audio import in_format
from .shared import graph, notify
from .shared.boundary import checked
from .shared.widgets import audio_format_input, audio_vae_input, tiled_input, video_vae_input

CATEGORY = "Ovi/decoding"


class OviDecode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviDecode",
            display_name="Ovi AV Decode",
            category=CATEGORY,
            description="Decodes video and audio. The video output contains both, at 24 frames per second, for Save "
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
                    tooltip="For a clip made with Ovi Loop: cuts it so that its end continues at its start.",
                ),
                audio_format_input("as the model makes it (16 kHz, mono), or as it was given"),
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
    def execute(
        cls, samples, vae, audio_vae, tiled: str = "auto", loop: bool = False, audio_format: str = "unchanged"
    ) -> io.NodeOutput:
        clip = (decode_loop if loop else decode)(vae, audio_vae, samples, tiled)
        notify.warn(cls, clip.notes)
        film = playable(clip)
        audio = _audio(clip.audio, clip.sample_rate, audio_format)
        film_audio = _audio(film.clip_audio, film.sample_rate, audio_format)
        components = Types.VideoComponents(images=film.images, audio=film_audio, frame_rate=film.frame_rate)
        likeness = provenance.together(source_media.likeness_of(samples), graph.likeness_before(cls.hidden))
        video = provenance.MarkedVideo(components, clip.source, likeness=likeness, clips=len(clip.audio))
        return io.NodeOutput(clip.images, audio, video)


def _audio(waveform: Tensor, rate: int, audio_format: str) -> dict:
    """ComfyUI's AUDIO of a waveform [B, C, S] in the format that the user chose."""
    waveform, rate = in_format(waveform, rate, audio_format)
    return {"waveform": waveform, "sample_rate": rate}


NODES = [OviDecode]
