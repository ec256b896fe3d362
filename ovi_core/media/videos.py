"""VIDEO values: checks, one type and scale for all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import InputImpl, Types

from ..errors import OviError
from .audio import FORMATS, in_format, optional_audio
from .images import checked_frames
from .provenance import MarkedVideo
from .resampling import samples_within


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
    components = replace(given, images=images, audio=audio and {"waveform": audio[0], "sample_rate": audio[1]})
    return _with_components(video, components, getattr(video, "clips", 1))


def single_clips(video: Any) -> list[Any]:
    """The clips of a VIDEO that shows a batch one after the other, each as a VIDEO; other VIDEOs as they are."""
    clips = video.clips if isinstance(video, MarkedVideo) else 1
    given = video.get_components() if clips > 1 else None
    if given is None or len(given.images) % clips:
        return [video]
    frames = len(given.images) // clips
    return [_with_components(video, _part(given, k * frames, (k + 1) * frames)) for k in range(clips)]


def with_audio_format(video: Any, format: str) -> Any:
    """A VIDEO with its audio in one of :data:`.audio.FORMATS`; the same one where nothing changes.

    The frames of a file are decoded for it, and are encoded again when they are saved.
    """
    given = None if FORMATS[format] == (0, 0) else video.get_components()
    if given is None or not given.audio:
        return video
    waveform, rate = in_format(given.audio["waveform"], given.audio["sample_rate"], format)
    audio = {"waveform": waveform, "sample_rate": rate}
    return _with_components(video, replace(given, audio=audio), getattr(video, "clips", 1))


def _part(given: Types.VideoComponents, start: int, end: int) -> Types.VideoComponents:
    """Frames from ``start`` to before ``end``, with their audio."""
    audio = given.audio
    if audio:
        rate = audio["sample_rate"]
        first, last = (samples_within(frame / given.frame_rate, rate) for frame in (start, end))
        audio = {**audio, "waveform": audio["waveform"][..., first:last]}
    alpha = given.alpha if given.alpha is None else given.alpha[start:end]
    return replace(given, images=given.images[start:end], audio=audio, alpha=alpha)


def _with_components(video: Any, components: Types.VideoComponents, clips: int = 1) -> Any:
    if isinstance(video, MarkedVideo):
        return video.with_components(components, clips)
    depth = video.get_bit_depth() if hasattr(video, "get_bit_depth") else 8
    return InputImpl.VideoFromComponents(components, depth)
