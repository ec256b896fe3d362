"""VIDEO values: checks, one type and scale for all."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import InputImpl, Types

from ..errors import OviError
from .audio import optional_audio
from .images import checked_frames
from .provenance import MarkedVideo


def checked_video(video: Any, input: str) -> Any:
    """ComfyUI's VIDEO with frames and audio as its encoders take them; the same one where they are so already.

    Frames become float32 in 0..1, audio float32 at a rate of type int, audio of 0 samples none. A VIDEO of a file has
    nothing to change.

    Raises:
        OviError: no VIDEO, or frames or audio of a type that holds no numbers, empty or not finite.
    """
    if not all(hasattr(video, name) for name in ("get_components", "get_dimensions", "save_to")):
        raise OviError(
            input=input,
            found="no video" if video is None else f"a {type(video).__name__}",
            accepted="a VIDEO",
            remedy="Connect Ovi AV Decode, Create Video or Load Video.",
        )
    if not isinstance(video, InputImpl.VideoFromComponents):
        return video
    given = video.get_components()
    images = checked_frames(given.images, input)
    audio = optional_audio(given.audio, input)
    if images is given.images and (
        given.audio is None
        or (audio is not None and audio[0] is given.audio["waveform"] and type(given.audio["sample_rate"]) is int)
    ):
        return video
    components = Types.VideoComponents(
        images=images,
        audio=audio and {"waveform": audio[0], "sample_rate": audio[1]},
        frame_rate=given.frame_rate,
        metadata=given.metadata,
    )
    if isinstance(video, MarkedVideo):
        return MarkedVideo(components, video.source, video.get_bit_depth())
    return InputImpl.VideoFromComponents(components, video.get_bit_depth())
