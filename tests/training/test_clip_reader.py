"""Clips are read by their own clock: what happens at a time in the file happens at that time in training."""

from __future__ import annotations

import contextlib
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from clip_files import Recording, beep_at, even, flash_at
from hypothesis import given
from hypothesis import strategies as st
from ovi_native.ovi_core.training.clip_reader import DamagedClip, Timing, read_clip, read_timing

FRAME = 1 / 24
SCREEN = [*even(30, 1.0), *(1.0 + time for time in even(15, 1.2))]
BURSTS = [*even(60, 0.5), *(1.5 + time for time in even(60, 0.7))]
PHONE = [time + 0.004 * (-1) ** i for i, time in enumerate(even(30, 2.0))]


def start_of(path, seconds=2.0):
    timing = read_timing(path, seconds)
    return timing, read_clip(path, timing, seconds)


@pytest.mark.parametrize(
    ("times", "event", "starts", "name"),
    [
        (SCREEN, 1.2, (0.0, 0.0), "screen.mp4"),  # 30 a second, then 15
        (BURSTS, 1.7, (0.0, 0.0), "bursts.mp4"),  # 60 a second around a still second
        (BURSTS, 1.7, (0.0, 0.0), "bursts.mkv"),
        (even(24, 2.0), 1.2, (0.0, 0.5), "late_audio.mp4"),
        (even(24, 2.0), 1.2, (0.0, 0.5), "late_audio.mkv"),
        (even(30, 2.0), 1.2, (0.4, 0.0), "late_video.mkv"),
        (even(24, 2.0), 1.2, (1.0, 1.0), "from_1_s.mkv"),
        (even(24, 2.0), 1.2, (1.0, 1.0), "from_1_s.mp4"),
        (SCREEN, 1.2, (1.0, 1.3), "all_of_it.mkv"),
        (even(24, 2.0), 1.2, (0.0, 0.0), "even.mp4"),
        (even(30, 2.0), 1.2, (0.0, 0.0), "even.mkv"),
        (even(60, 2.0), 1.2, (0.0, 0.0), "fast.mp4"),
        (even(12, 2.0), 1.25, (0.0, 0.0), "slow.mp4"),
        (PHONE, 1.2, (0.0, 0.0), "phone.mp4"),
    ],
)
def test_flash_and_beep_are_where_they_were_recorded(tmp_path, times, event, starts, name):
    begin = [max(0.0, time) for time in times]
    path = Recording(begin, event, *starts).write(tmp_path / name)
    _, start = start_of(path)
    frames = start.frames(44)
    assert frames.shape[0] == 44
    assert flash_at(frames) == pytest.approx(event, abs=1.01 * FRAME)
    assert beep_at(start.audio["waveform"], start.audio["sample_rate"]) == pytest.approx(event, abs=0.03)


@pytest.mark.parametrize("seconds", [1.4335, 1.4343])
def test_uneven_frames_may_begin_within_a_tick_of_the_end(tmp_path, seconds):
    _, start = start_of(Recording([*even(30, 1.0), 1.0333, 1.4336, 1.5, 1.9], 1.2).write(tmp_path / "a.mkv"), seconds)
    assert start.images.shape[0] == len(start.timing.times)
    assert 31 <= len(start.timing.times) <= 32


@pytest.mark.parametrize(("name", "start"), [("a.mkv", 1.0), ("b.mkv", 0.0), ("c.mp4", 3.0)])
def test_a_clip_lasts_as_long_wherever_its_clock_starts(tmp_path, name, start):
    path = Recording(even(24, 2.0), 1.0, start, start).write(tmp_path / name)
    _, clip = start_of(path, 1.5)
    assert float(clip.length) == pytest.approx(1.5, abs=2 * FRAME)
    assert clip.frames(36).shape[0] == 36


def test_even_frames_are_left_to_their_rate(tmp_path):
    """What was cached of such clips stays valid: only others are encoded again."""
    for name, rate in (("a.mp4", 24), ("b.mkv", 30), ("c.mp4", 60), ("d.mkv", 25)):
        timing, _ = start_of(Recording(even(rate, 1.0), 0.5, length=1.0).write(tmp_path / name, rate))
        assert timing.is_even, name
    assert not start_of(Recording(SCREEN, 0.5).write(tmp_path / "e.mp4"))[0].is_even


def test_a_clip_without_audio_has_none(tmp_path):
    _, start = start_of(Recording(SCREEN, 1.2, 1.0, length=None).write(tmp_path / "silent.mkv"))
    assert start.audio is None
    assert flash_at(start.frames(44)) == pytest.approx(1.2, abs=1.01 * FRAME)


@pytest.mark.parametrize("name", ["a.mkv", "b.mp4"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_a_file_cut_off_in_the_middle_is_damaged(tmp_path, name, share):
    path = Recording(even(24, 4.0), 1.0, length=4.0, size=(128, 128)).write(tmp_path / name)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DamagedClip, match=r"cut off|cannot be read|no frames"):
        start_of(path, 4.0)


@pytest.mark.parametrize("times", [even(24, 1.0), SCREEN])
def test_frames_of_which_none_can_be_decoded_are_damaged(tmp_path, times):
    """The container and its clock are whole, the packets hold nothing."""
    path, hollow = Recording(times, 0.5, length=None).write(tmp_path / "a.mkv"), tmp_path / "b.mkv"
    with av.open(str(path)) as given, av.open(str(hollow), "w") as out:
        stream = out.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(given.streams.video[0]):
            if packet.size:
                empty = av.Packet(bytes(packet.size))
                empty.pts, empty.dts, empty.time_base, empty.stream = packet.pts, packet.dts, packet.time_base, stream
                out.mux(empty)
    with pytest.raises(DamagedClip, match="no frames that can be read"):
        start_of(hollow, 1.0)


@pytest.mark.parametrize(("layout", "channels"), [("5.1", 6), ("7.1", 8), ("hexadecagonal", 16)])
def test_audio_of_more_channels_than_can_be_read_is_refused_not_read(tmp_path, layout, channels):
    """PyAV ends the process at eight channels, and so does ComfyUI's reader of videos."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=24)
        video.width = video.height = 32
        audio = container.add_stream("pcm_s16le", rate=16_000, layout=layout)
        for index in range(12):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 24)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        block = av.AudioFrame.from_ndarray(np.zeros((1, 8_000 * channels), np.int16), format="s16", layout=layout)
        block.sample_rate, block.pts, block.time_base = 16_000, 0, Fraction(1, 16_000)
        container.mux([*audio.encode(block), *audio.encode(None)])
    if channels < 8:
        assert start_of(path, 0.4)[1].audio["waveform"].shape[1] == channels
    else:
        with pytest.raises(DamagedClip, match=f"audio of {channels} channels; 7 can be read"):
            start_of(path, 0.4)


def test_what_is_not_needed_of_a_file_may_be_cut_off(tmp_path):
    path = Recording(even(24, 6.0), 0.5, length=6.0, size=(128, 128)).write(tmp_path / "a.mkv")
    path.write_bytes(path.read_bytes()[: int(0.8 * path.stat().st_size)])
    _, start = start_of(path, 1.0)
    assert flash_at(start.frames(20)) == pytest.approx(0.5, abs=1.01 * FRAME)


@given(st.binary(max_size=400), st.sampled_from(["a.mp4", "a.mkv", "a.webm", "a.avi", "a.mov"]), st.integers(0, 3000))
def test_bytes_of_any_kind_are_a_clip_or_damaged(tmp_path_factory, noise, name, at):
    """Noise alone, and noise in the middle of a sound file."""
    folder = tmp_path_factory.mktemp("noise")
    path = folder / name
    sound = _sound_file(folder, name)
    for content in (noise, sound[:at] + noise + sound[at + len(noise) :]):
        path.write_bytes(content)
        with contextlib.suppress(DamagedClip):
            _, start = start_of(path, 0.5)
            assert start.frames(4).shape[0] == 4


def _sound_file(folder, name):
    if name.endswith((".webm", ".avi")):
        name = "a.mkv"
    return Recording(even(24, 0.5), 0.2, length=0.5).write(folder / name).read_bytes()


@given(st.lists(st.integers(0, 200), min_size=1, max_size=40, unique=True), st.integers(1, 60))
def test_at_every_moment_the_last_frame_that_has_begun_is_shown(hundredths, count):
    times = tuple(Fraction(t - min(hundredths), 100) for t in sorted(hundredths))
    shown = Timing(times, Fraction(0), Fraction(0), times[-1], Fraction(24)).shown(count)
    assert shown == sorted(shown)
    for i, frame in enumerate(shown):
        now = Fraction(i, 24) + Fraction(1, 48)
        assert times[frame] <= now
        assert frame + 1 == len(times) or times[frame + 1] > now


def test_times_that_jitter_do_not_drop_audio(tmp_path):
    """Frames of audio whose times are rounded to milliseconds follow one another without gaps."""
    path = Recording(SCREEN, 0.0).write(tmp_path / "a.mkv")
    _, start = start_of(path)
    beep = start.audio["waveform"][0, 0, : round(0.19 * 44100)]
    windows = beep[1000:].unfold(0, 200, 200).abs().amax(dim=1)
    assert torch.all(windows > 0.4)
