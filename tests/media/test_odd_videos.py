"""VIDEOs that ComfyUI's encoders refuse as they stand: they are saved all the same, or the error says what is wrong."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import folder_paths
import numpy as np
import pytest
import torch
from comfy_api.latest import InputImpl, Types
from ovi_native.nodes.saving import OviSaveVideo
from ovi_native.ovi_core.errors import OviError

FRAMES = 8
TONE = torch.sin(torch.arange(16_000) / 6.0)[None, None] / 2


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    return tmp_path


def of_parts(
    width: int = 64, height: int = 48, frames: int = FRAMES, audio: Any = None, rate: Any = Fraction(24)
) -> InputImpl.VideoFromComponents:
    images = torch.linspace(0, 1, frames * height * width * 3).reshape(frames, height, width, 3)
    return InputImpl.VideoFromComponents(Types.VideoComponents(images=images, audio=audio, frame_rate=rate))


def sound(rate: int, channels: int = 1) -> dict:
    return {"waveform": TONE[..., :8000].expand(1, channels, -1), "sample_rate": rate}


def written(path: Path, codec: str, size: tuple[int, int] | None, audio: str = "", rate: int = 48_000) -> Path:
    """A file of eight grey frames, of sound, or of both."""
    with av.open(str(path), "w") as file:
        sound = file.add_stream(audio, rate=rate, layout="stereo") if audio else None
        if size is not None:
            video = file.add_stream(codec, rate=24)
            video.width, video.height = size
            video.pix_fmt = "yuv420p"
            for _ in range(FRAMES):
                grey = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), 120, np.uint8), format="rgb24")
                file.mux(video.encode(grey.reformat(format="yuv420p")))
            file.mux(video.encode())
        if sound is not None:
            kind = sound.format.name
            samples = np.zeros(
                (1, 2 * rate // 3) if kind == "s16" else (2, rate // 3), "<i2" if kind == "s16" else "f4"
            )
            frame = av.AudioFrame.from_ndarray(samples, format=kind, layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            file.mux(sound.encode(frame))
            file.mux(sound.encode())
    return path


def saved(video: Any, **settings: Any) -> tuple[tuple[int, int], int, tuple[int, int] | None]:
    """Size, frames, and rate and channels of the file that the node writes."""
    (entry,) = OviSaveVideo.execute(video, "odd", credentials="off", **settings).ui.as_dict()["images"]
    with av.open(str(Path(folder_paths.get_output_directory(), entry["filename"]))) as file:
        video, audio = file.streams.video[0], next(iter(file.streams.audio), None)
        frames = sum(1 for _ in file.decode(video))
        return (video.width, video.height), frames, audio and (audio.rate, audio.channels)


@pytest.mark.parametrize(
    ("video", "expected"),
    [
        (of_parts(65, 33), ((64, 32), FRAMES, None)),
        (of_parts(audio=sound(192_000)), ((64, 48), FRAMES, (48_000, 1))),
        (of_parts(audio=sound(11_111, 2)), ((64, 48), FRAMES, (48_000, 2))),
        (of_parts(audio=sound(48_000, 8)), ((64, 48), FRAMES, (48_000, 1))),
        (of_parts(audio=sound(8_000), rate=1), ((64, 48), FRAMES, (8_000, 1))),
    ],
    ids=["odd sides", "192 kHz", "11,111 Hz", "7.1", "1 frame a second"],
)
def test_frames_and_audio_are_brought_to_what_can_be_encoded(video, expected):
    assert saved(video) == expected


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("odd.mkv", ("ffv1", (65, 33), "flac"), ((64, 32), FRAMES, (48_000, 2))),
        ("high.mkv", ("ffv1", (64, 32), "flac", 192_000), ((64, 32), FRAMES, (48_000, 2))),
        ("camera.mov", ("h264", (64, 32), "pcm_s16le"), ((64, 32), FRAMES, (48_000, 2))),
        ("plain.mp4", ("h264", (64, 32), "aac", 44_100), ((64, 32), FRAMES, (44_100, 2))),
    ],
)
@pytest.mark.parametrize("format", ["unchanged", "48 kHz stereo"])
def test_a_file_that_cannot_be_copied_is_encoded(name, settings, expected, format, output):
    path = written(output / name, *settings)
    size, frames, audio = saved(InputImpl.VideoFromFile(str(path)), audio_format=format)
    assert (size, frames) == expected[:2]
    assert audio == (expected[2] if format == "unchanged" else (48_000, 2))


def files(folder: Path) -> dict[str, tuple[Any, str]]:
    """Sources of videos that are none, and what the error says."""
    plain = written(folder / "plain.mp4", "h264", (64, 32))
    cut, empty = folder / "cut.mp4", folder / "empty.mp4"
    cut.write_bytes(plain.read_bytes()[:700])
    empty.touch()
    unreadable = "cannot be read"
    return {
        "audio alone": (InputImpl.VideoFromFile(str(written(folder / "a.m4a", "", None, "aac"))), unreadable),
        "cut off": (InputImpl.VideoFromFile(str(cut)), unreadable),
        "cut off in memory": (InputImpl.VideoFromFile(io.BytesIO(cut.read_bytes())), unreadable),
        "empty": (InputImpl.VideoFromFile(str(empty)), unreadable),
        "deleted": (InputImpl.VideoFromFile(str(folder / "gone.mp4")), unreadable),
        "folder": (InputImpl.VideoFromFile(str(folder)), unreadable),
        "trimmed past its end": (InputImpl.VideoFromFile(str(plain), start_time=9, duration=1), "without frames"),
        "no frames": (of_parts(frames=0), "without frames"),
        "1 px": (of_parts(1, 1), "1x1 px"),
        **{f"rate {rate}": (of_parts(rate=rate), "frame rate") for rate in (0, -24, "24", None, float("nan"), 10**9)},
    }


@pytest.mark.parametrize("format", ["unchanged", "48 kHz stereo"])
def test_what_is_no_video_is_named_and_leaves_no_file(format, output):
    for name, (video, found) in files(output).items():
        with pytest.raises(OviError) as caught:
            OviSaveVideo.execute(video, "odd", credentials="off", audio_format=format)
        assert (caught.value.node, caught.value.input) == ("Save Ovi Video", "video"), name
        assert found in caught.value.found, name
    folder = output / "output"
    assert not folder.exists() or list(folder.iterdir()) == []
