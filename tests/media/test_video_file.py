"""Video files, read back with libav: without loss, and as a film in the colours that players assume."""

from __future__ import annotations

import errno

import av
import numpy as np
import pytest
import torch
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.media import video_file
from ovi_native.ovi_core.media.video_file import FILM, LOSSLESS, Streams, written

COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [200, 40, 160], [128, 128, 128]], np.uint8)


def patches() -> np.ndarray:
    """Six fields of one colour each, [64, 192, 3]."""
    return np.repeat(np.repeat(COLOURS[None], 64, axis=0), 32, axis=1)


def write(path, kind, images, waveform, streams) -> None:
    with written(path, kind, streams, input="script") as file:
        file.add_audio(waveform)
        for image in images:
            file.add_frame(image)


def test_without_loss_every_bit_comes_back_from_any_frame_on(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 48, 3), np.uint8)
    waveform, path = torch.randn(1, 1, 8_000), tmp_path / "shot.mkv"
    write(path, LOSSLESS, images, waveform, Streams(48, 32, 24, 16_000))
    assert np.array_equal(np.stack(list(video_file.frames(path, 24))), images)
    assert np.array_equal(np.stack(list(video_file.frames(path, 24, 7))), images[7:])
    assert torch.equal(video_file.audio(path), waveform)


def test_a_film_is_bt_709_and_says_so(tmp_path):
    path = tmp_path / "film.mp4"
    write(path, FILM, [patches()] * 5, torch.zeros(1, 1, 4_000), Streams(192, 64, 24, 16_000))
    with av.open(str(path)) as file:
        codec = file.streams.video[0].codec_context
        assert (codec.colorspace, codec.color_primaries, codec.color_trc, codec.color_range) == (1, 1, 1, 1)
        frame = next(file.decode(video=0))
    planes = [np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, : plane.width] for plane in frame.planes]
    red, green, blue = (COLOURS[:, channel] / 255 for channel in range(3))
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue  # ITU-R BT.709
    wanted = np.stack((16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748))
    centres = np.arange(6) * 32 + 16
    found = np.stack([plane[plane.shape[0] // 2, centres * plane.shape[1] // 192] for plane in planes])
    assert np.abs(found - wanted).max() < 4  # of 255


def test_rate_and_channels_are_those_of_the_plan(tmp_path):
    path = tmp_path / "film.mp4"
    write(path, FILM, [patches()] * 30, torch.zeros(1, 2, 48_000), Streams(192, 64, 30, 48_000, "stereo"))
    with av.open(str(path)) as file:
        video, audio = file.streams.video[0], file.streams.audio[0]
        assert (video.average_rate, video.frames) == (30, 30)
        assert (audio.rate, audio.layout.name) == (48_000, "stereo")


def test_channels_keep_their_order_without_loss(tmp_path):
    path, waveform = tmp_path / "a.mkv", torch.randn(1, 2, 480)
    write(path, LOSSLESS, [patches()], waveform, Streams(192, 64, 24, 48_000, "stereo"))
    with av.open(str(path)) as file:
        samples = np.concatenate([frame.to_ndarray() for frame in file.decode(audio=0)], axis=1)
    assert np.array_equal(samples.reshape(-1, 2).T, waveform[0].numpy())


@pytest.mark.parametrize("content", [None, b"", b"no video at all", b"\x1aE\xdf\xa3" + bytes(200)])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "shot.mkv"
    if content is not None:
        path.write_bytes(content)
    for read in (lambda: list(video_file.frames(path, 24)), lambda: video_file.audio(path)):
        with pytest.raises(OviError, match=r"shot\.mkv"):
            read()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_disk_that_fails_leaves_the_old_file(tmp_path, monkeypatch, number):
    path = tmp_path / "film.mp4"
    path.write_bytes(b"old")

    def fail(self, frame):
        raise av.error.OSError(number, "failed") if number == errno.ENOSPC else OSError(number, "failed")

    monkeypatch.setattr(video_file.Writer, "add_frame", fail)
    with pytest.raises(OviError, match=r"film\.mp4"):
        write(path, FILM, [patches()], torch.zeros(1, 1, 4_000), Streams(192, 64, 24, 16_000))
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("film.mp4", b"old")]
