"""VIDEO values: checks, one type and scale for all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from numbers import Real
from typing import Any

import av
from comfy_api.latest import InputImpl, Types
from torch import Tensor

from ..errors import OviError
from ..safe_write import DISK
from . import provenance
from .audio import FORMATS, in_format, optional_audio
from .encodable import encodable_audio, encodable_images
from .frame_rate import MAX_FRAME_RATE
from .images import checked_frames
from .provenance import MarkedVideo
from .resampling import samples_within

LOWEST_FRAME_RATE = Fraction(1, 1000)  # frames a second; ComfyUI rounds to thousandths


def checked_video(video: Any, input: str) -> Any:
    """ComfyUI's VIDEO with frames and audio as its encoders take them; the same one where they are so already.

    Frames become float32 in 0..1 with even sides, audio float32 at a rate and with channels of AAC, audio of 0 samples
    none. A VIDEO of a file stays as it is: :func:`save` knows what to do where it cannot be copied.

    Raises:
        OviError: no VIDEO, a file that is none, a frame rate that is none, or frames or audio of a type that holds no
            numbers, empty or not finite.
    """
    if not all(hasattr(video, name) for name in ("get_components", "get_dimensions", "save_to")):
        raise OviError(
            input=input,
            found="no video" if video is None else f"a {type(video).__name__}",
            accepted="a VIDEO",
            remedy="Connect Ovi AV Decode, Create Video or Load Video.",
        )
    if not isinstance(video, InputImpl.VideoFromComponents):
        with _reading(input):
            video.get_dimensions()
        return video
    given = video.get_components()
    components = _encodable(given, input)
    if components.images is given.images and (
        given.audio is None
        or (
            components.audio is not None
            and components.audio["waveform"] is given.audio["waveform"]
            and type(given.audio["sample_rate"]) is int
        )
    ):
        return video
    return _with_components(video, components, getattr(video, "clips", 1))


def save(video: Any, path: str, source: str | None, workflow: dict[str, Any] | None, likeness: tuple[str, ...]) -> None:
    """As :func:`.provenance.save`, of a VIDEO that is checked.

    A file that ComfyUI can neither copy nor encode as it stands (odd sides, a rate that AAC lacks, a codec that MP4
    does not hold) is decoded, brought to what can be encoded, and saved.

    Raises:
        OviError: a file that cannot be read.
    """
    try:
        provenance.save(video, path, source, workflow, likeness)
        return
    except (ValueError, av.error.FFmpegError) as error:
        if isinstance(video, InputImpl.VideoFromComponents) or getattr(error, "errno", None) in DISK:
            raise
    with _reading("video"):
        components = _encodable(video.get_components(), "video")
    provenance.save(_with_components(video, components), path, source, workflow, likeness)


@contextlib.contextmanager
def _reading(input: str) -> Iterator[None]:
    """While this lasts, whatever libav and ComfyUI raise for a file that is no video is an OviError."""
    try:
        yield
    except OviError:
        raise
    except Exception as error:
        raise OviError(
            input=input,
            found=f"a video that cannot be read ({error})",
            accepted="a video file with frames",
            remedy="Look whether the file is still there and plays; export it again, as MP4 with H.264 and AAC.",
        ) from error


def _encodable(given: Types.VideoComponents, input: str) -> Types.VideoComponents:
    """Frames and audio as ComfyUI's encoders take them; each the same where it is so already."""
    if isinstance(given.images, Tensor) and given.images.ndim == 4 and not given.images.shape[0]:
        raise OviError(
            input=input,
            found=f"a video without frames (images of shape {list(given.images.shape)})",
            accepted="a video of one frame or more",
            remedy="Look at the node that cut it: its start may lie after the video's end.",
        )
    images = encodable_images(checked_frames(given.images, input))
    if 0 in images.shape:
        height, width = given.images.shape[1:3]
        raise OviError(
            input=input,
            found=f"a video of {width}x{height} px",
            accepted="2 px or more on each side",
            remedy="Bring it to a larger size with Upscale Image.",
        )
    rate = given.frame_rate
    if not isinstance(rate, Real) or not LOWEST_FRAME_RATE <= rate <= MAX_FRAME_RATE:
        raise OviError(
            input=input,
            found=f"a frame rate of {float(rate) if isinstance(rate, Real) else rate!r:.40}",
            accepted=f"{float(LOWEST_FRAME_RATE):g} to {MAX_FRAME_RATE} frames a second",
            remedy="Correct fps of Create Video, or look at the node that made the video.",
        )
    audio = optional_audio(given.audio, input)
    if audio is not None:
        waveform, sample_rate = encodable_audio(*audio)
        return replace(given, images=images, audio={"waveform": waveform, "sample_rate": sample_rate})
    return replace(given, images=images, audio=None)


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
    if FORMATS[format] == (0, 0):
        return video
    with _reading("video"):
        given = video.get_components()
    if not given.audio:
        return video
    waveform, rate = in_format(given.audio["waveform"], given.audio["sample_rate"], format)
    audio = {"waveform": waveform, "sample_rate": rate}
    return _with_components(video, _encodable(replace(given, audio=audio), "video"), getattr(video, "clips", 1))


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
