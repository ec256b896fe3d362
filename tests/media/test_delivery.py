"""Files as video editors and players expect them: 48 kHz, stereo, and of several seeds a file each."""

from __future__ import annotations

from fractions import Fraction

import av
import folder_paths
import numpy as np
import pytest
import torch
from comfy_api.latest import InputImpl, Types
from native_cases import drawn, empty_latent, small_vaes
from ovi_native.nodes.decoding import OviDecode
from ovi_native.nodes.saving import OviSaveVideo
from ovi_native.ovi_core.latents import joint
from ovi_native.ovi_core.media import provenance
from ovi_native.ovi_core.media.videos import single_clips, with_audio_format

from tools.dev.clip_check import read_clip

RATE, FRAMES, CLIPS = 16_000, 12, 3


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    return tmp_path


def tone(pitch: float, seconds: float, channels: int = 1, rate: int = RATE) -> torch.Tensor:
    times = torch.arange(round(seconds * rate)) / rate
    return (0.5 * torch.sin(2 * torch.pi * pitch * times)).expand(1, channels, -1)


def batch() -> provenance.MarkedVideo:
    """Three clips one after the other: each has a grey and a pitch of its own."""
    greys = torch.repeat_interleave(torch.tensor([0.2, 0.5, 0.8]), FRAMES)
    audio = torch.cat([tone(pitch, FRAMES / 24) for pitch in (300, 600, 1200)], dim=-1)
    parts = Types.VideoComponents(
        images=greys[:, None, None, None].expand(-1, 32, 32, 3),
        audio={"waveform": audio, "sample_rate": RATE},
        frame_rate=Fraction(24),
    )
    return provenance.MarkedVideo(parts, provenance.COMPOSITE, likeness=("face",), clips=CLIPS)


def pitch_of(wave: np.ndarray, rate: int) -> float:
    return float(np.abs(np.fft.rfft(wave)).argmax() * rate / len(wave))


def test_a_batch_becomes_a_file_for_each_clip(output):
    shown = OviSaveVideo.execute(batch(), "clip", credentials="off").ui.as_dict()["images"]
    files = sorted(output.glob("*.mp4"))
    assert [entry["filename"] for entry in shown] == [file.name for file in files]
    assert len(files) == CLIPS
    for file, grey, pitch in zip(files, (51, 128, 204), (300, 600, 1200), strict=True):
        clip = read_clip(file)
        assert clip.frames == FRAMES
        video = InputImpl.VideoFromFile(str(file)).get_components()
        assert float(video.images.mean()) * 255 == pytest.approx(grey, abs=4)
        assert pitch_of(video.audio["waveform"][0, 0].numpy(), RATE) == pytest.approx(pitch, abs=10)
        assert provenance.likeness_of(InputImpl.VideoFromFile(str(file))) == ("face",)


def test_one_file_holds_the_whole_batch_where_the_user_wants_it(output):
    OviSaveVideo.execute(batch(), "clip", credentials="off", batch="one file")
    (file,) = output.glob("*.mp4")
    assert read_clip(file).frames == CLIPS * FRAMES


def test_what_is_no_batch_is_one_clip():
    for video in (batch().unmarked(), provenance.MarkedVideo(batch().get_components()), "anything"):
        assert single_clips(video) == [video]


@pytest.mark.parametrize(
    ("channels", "rate", "name", "expected"),
    [
        (1, 16_000, "unchanged", (1, 16_000)),
        (1, 16_000, "48 kHz", (1, 48_000)),
        (1, 16_000, "48 kHz stereo", (2, 48_000)),
        (2, 44_100, "48 kHz", (2, 48_000)),
        (2, 48_000, "48 kHz stereo", (2, 48_000)),
        (6, 48_000, "48 kHz stereo", (2, 48_000)),
    ],
)
def test_a_saved_file_has_the_chosen_format(channels, rate, name, expected, output):
    given = batch().get_components()
    given.audio = {"waveform": tone(440, len(given.images) / 24, channels, rate), "sample_rate": rate}
    OviSaveVideo.execute(InputImpl.VideoFromComponents(given), "clip", credentials="off", audio_format=name)
    (file,) = output.glob("*.mp4")
    with av.open(str(file)) as opened:
        (stream,) = opened.streams.audio
        assert (stream.channels, stream.rate) == expected
    wave = InputImpl.VideoFromFile(str(file)).get_components().audio["waveform"][0]
    assert all(pitch_of(channel.numpy(), expected[1]) == pytest.approx(440, abs=2) for channel in wave)
    assert float(wave.std()) == pytest.approx(0.5 / 2**0.5, rel=0.05)


def test_a_loaded_file_and_a_silent_video_take_the_format_too(output):
    batch().save_to(str(output / "a.mp4"))
    loaded = with_audio_format(InputImpl.VideoFromFile(str(output / "a.mp4")), "48 kHz stereo").get_components()
    assert loaded.audio["sample_rate"] == 48_000
    assert loaded.audio["waveform"].shape[1] == 2
    silent = batch().get_components()
    silent.audio = None
    video = InputImpl.VideoFromComponents(silent)
    assert with_audio_format(video, "48 kHz stereo") is video


def test_decoding_gives_the_chosen_format_and_the_number_of_clips():
    video, audio = empty_latent(batch=2)["samples"].unbind()
    latent = {"samples": joint.join(drawn(*video.shape), drawn(*audio.shape))}
    plain, chosen = (
        OviDecode.execute(latent, *small_vaes(), "off", audio_format=name).result
        for name in ("unchanged", "48 kHz stereo")
    )
    assert (plain[1]["sample_rate"], chosen[1]["sample_rate"]) == (16_000, 48_000)
    assert chosen[1]["waveform"].shape == (2, 2, 3 * plain[1]["waveform"].shape[-1])
    assert chosen[2].get_components().audio["waveform"].shape[1] == 2
    assert len(single_clips(chosen[2])) == 2
    assert torch.equal(plain[0], chosen[0])
