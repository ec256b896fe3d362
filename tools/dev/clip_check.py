"""Reads a finished MP4 with PyAV, which shares no code with the pack, and compares it with what Ovi promises."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

FPS = 24
SAMPLE_RATE = 16000  # Hz


@dataclass(frozen=True)
class ClipFacts:
    """What a file holds; a missing track has an empty codec name and zeros.

    Attributes:
        frames: number of frames that decode.
        fps: frames per second, as the container says.
        video_seconds, audio_seconds: length of each track. The audio track's edit list is what players follow; the
            decoder gives up to one AAC block (1024 samples) more.
        sample_rate: Hz.
    """

    width: int
    height: int
    frames: int
    fps: float
    video_codec: str
    video_seconds: float
    audio_codec: str
    sample_rate: int
    channels: int
    audio_seconds: float


@dataclass(frozen=True)
class Finding:
    """One row of the report."""

    name: str
    found: str
    wanted: str
    ok: bool


def read_clip(file: Path) -> ClipFacts:
    """Decode ``file`` and count. Raises ``av.FFmpegError`` when it is not a media file."""
    with av.open(str(file)) as container:
        video = next(iter(container.streams.video), None)
        audio = next(iter(container.streams.audio), None)
        frames = sum(1 for _ in container.decode(video)) if video else 0
        return ClipFacts(
            width=video.width if video else 0,
            height=video.height if video else 0,
            frames=frames,
            fps=float(video.average_rate or 0) if video else 0.0,
            video_codec=video.codec_context.name if video else "",
            video_seconds=_track_seconds(video),
            audio_codec=audio.codec_context.name if audio else "",
            sample_rate=audio.rate if audio else 0,
            channels=audio.channels if audio else 0,
            audio_seconds=_track_seconds(audio),
        )


def _track_seconds(stream: Any) -> float:
    if stream is None or stream.duration is None or stream.time_base is None:
        return 0.0
    return float(stream.duration * stream.time_base)


def frames_for(seconds: float) -> int:
    """Frames that Ovi makes for a length: 1 for the first latent frame, 4 for each further one. 5 s: 121."""
    return max(5, 4 * round((seconds * FPS - 1) / 4) + 1)


def check_clip(facts: ClipFacts, frames: int | None = None, size: tuple[int, int] | None = None) -> list[Finding]:
    """Compare a clip with H.264 at 24 fps, AAC at 16 kHz and tracks of equal length (within one frame).

    Args:
        frames: the number of frames wanted; None to accept any.
        size: the wanted (width, height) in pixels; None to accept any.
    """
    gap = abs(facts.video_seconds - facts.audio_seconds)
    findings = [
        _row("video", f"{facts.video_codec or 'none'}, {facts.fps:g} fps", f"h264, {FPS} fps"),
        _row("audio", f"{facts.audio_codec or 'none'}, {facts.sample_rate} Hz", f"aac, {SAMPLE_RATE} Hz"),
        Finding(
            "length",
            f"video {facts.video_seconds:.3f} s, audio {facts.audio_seconds:.3f} s",
            "equal within one frame",
            gap <= 1 / FPS + 1e-6 and facts.audio_seconds > 0,
        ),
    ]
    if frames is not None:
        findings.append(_row("frames", str(facts.frames), str(frames)))
    if size is not None:
        findings.append(_row("size", f"{facts.width}x{facts.height}", f"{size[0]}x{size[1]}"))
    return findings


def _row(name: str, found: str, wanted: str) -> Finding:
    return Finding(name, found, wanted, found == wanted)


def table(title: str, findings: list[Finding]) -> str:
    """The findings as text, one line each."""
    lines = [title]
    for row in findings:
        note = "" if row.ok else f"   wanted: {row.wanted}"
        lines.append(f"  {'ok   ' if row.ok else 'WRONG'} {row.name:<7} {row.found}{note}")
    return "\n".join(lines)
