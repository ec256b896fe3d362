"""Clips and sounds of any rate, size, length and loudness: counted, resampled in time, saved; and what is refused."""

from __future__ import annotations

import logging
from fractions import Fraction

import pytest
import tiny_ovi as tiny
import torch
from native_cases import drawn, small_vaes
from ovi_native.nodes.decoding import OviDecode
from ovi_native.nodes.locked_media import OviLockAudio, OviLockVideo
from ovi_native.ovi_core.conditioning.locked_media import lock_audio as lock_audio_core
from ovi_native.ovi_core.conditioning.locked_media import lock_video as lock_video_core
from ovi_native.ovi_core.latents import denoise_mask, joint
from refusals import refusal

RATES = [8.0, 12.5, 23.976, 24.0, 25.0, 29.97, 30.0, 60.0]


pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture(scope="module")
def vaes():
    return small_vaes()


@pytest.fixture
def seen(vaes, monkeypatch):
    """What reaches the VAEs."""
    given = []
    for vae in vaes:
        encode = vae.encode
        monkeypatch.setattr(vae, "encode", lambda x, encode=encode: (given.append(x), encode(x))[1])
    return given


def counted(frames, width=48, height=32):
    """A clip whose frames are grey, each with its own number over ``frames``."""
    return (torch.arange(frames) / frames).reshape(-1, 1, 1, 1).expand(frames, height, width, 3).clone()


def lock_video(vaes, images, rate=24.0, latent=None, mode="follow the noise"):
    return OviLockVideo.execute(vaes[0], latent or tiny.empty_latent(), images, rate, mode).result[0]


def lock_audio(vaes, audio, start=0.0, latent=None, mode="follow the noise"):
    return OviLockAudio.execute(vaes[1], latent or tiny.empty_latent(), audio, start, mode).result[0]


def tone(samples, rate, channels=1, gain=0.1):
    """Noise, the same in all channels but for its loudness."""
    loudness = torch.linspace(1, 0.5, channels).reshape(1, -1, 1)
    return {"waveform": drawn(1, 1, samples, seed=4) * loudness * gain, "sample_rate": rate}


def shapes(latent):
    return [tuple(part.shape[2:]) for part in latent["samples"].unbind()]


def decoded(vaes, latent):
    return OviDecode.execute(latent, *vaes, "off").result


# -- pictures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", RATES)
def test_the_model_sees_the_frame_nearest_in_time_24_times_a_second(vaes, seen, rate):
    count = round(rate * 0.6)
    lock_video(vaes, counted(count), rate, tiny.empty_latent(seconds=2.0))
    (pictures,) = seen
    assert pictures.shape[1:] == (64, 96, 3)
    shown = [round(float(picture.mean()) * count) for picture in pictures]
    for i, frame in enumerate(shown):
        time = min(i / 24, (count - 1) / rate)
        assert abs(frame / rate - time) <= min(abs(j / rate - time) for j in range(count)) + 1e-9
    assert len(pictures) % 4 == 1
    assert 0 <= len(pictures) / 24 - count / rate < 4 / 24


@pytest.mark.parametrize("rate", RATES)
def test_a_shorter_clip_comes_back_whole_at_its_own_rate_with_sound_of_its_length(vaes, save, rate):
    images = drawn(round(rate * 0.9), 32, 48, 3, seed=3).sigmoid()
    latent = lock_video(vaes, images, rate, tiny.empty_latent(seconds=3.0))
    frames, audio, video = decoded(vaes, latent)
    seconds = len(images) / Fraction(rate).limit_denominator(1001)
    assert torch.equal(frames, images)
    assert abs(audio["waveform"].shape[-1] - 16_000 * seconds) <= 2
    facts = save(video)
    assert facts.frames == len(images)
    assert facts.fps == pytest.approx(rate, abs=1e-3)
    assert (facts.width, facts.height) == (48, 32)
    assert abs(facts.audio_seconds - facts.video_seconds) < 1 / 24


@pytest.mark.parametrize(
    ("rate", "kept"), [(8.0, 3), (12.5, 4), (23.976, 8), (24.0, 9), (25.0, 9), (30.0, 11), (60.0, 22)]
)
def test_of_a_longer_clip_comes_back_what_the_latent_lasts(vaes, caplog, rate, kept):
    images = drawn(90, 32, 48, 3, seed=3).sigmoid()
    with caplog.at_level(logging.WARNING):
        latent = lock_video(vaes, images, rate)
    frames, _, _ = decoded(vaes, latent)
    assert shapes(latent) == shapes(tiny.empty_latent())
    assert torch.equal(frames, images[:kept])
    assert f"only the first {kept} of 90 frames" in caplog.text


@pytest.mark.parametrize(
    ("frames", "latent_frames", "audio_frames"),
    [(2, 2, 5), (5, 2, 5), (6, 3, 10), (9, 3, 10), (10, 4, 16), (120, 31, 157)],
)
def test_the_latent_is_shortened_to_the_steps_the_clip_takes(vaes, caplog, frames, latent_frames, audio_frames):
    with caplog.at_level(logging.WARNING):
        latent = lock_video(vaes, counted(frames), latent=tiny.empty_latent(2, seconds=10.0))
    assert shapes(latent) == [(latent_frames, 4, 6), (audio_frames,)]
    assert [part.shape[0] for part in latent["samples"].unbind()] == [2, 2]
    assert [tuple(mask.shape) for mask in latent["noise_mask"].unbind()] == [
        (2, 1, latent_frames, 4, 6),
        (2, 1, audio_frames),
    ]
    assert f"shortened to {(4 * latent_frames - 3) / 24:.2f} s" in caplog.text


def test_a_clip_of_another_shape_is_cropped_for_the_model_and_the_artist_is_told(vaes, seen, caplog):
    images = torch.zeros(9, 64, 192, 3)
    images[:, :, :48], images[:, :, -48:] = 1.0, 1.0
    with caplog.at_level(logging.WARNING):
        latent = lock_video(vaes, images)
    assert seen[0].max() < 0.1
    assert "192x64 to the shape of 96x64: 50% of the image" in caplog.text
    assert torch.equal(decoded(vaes, latent)[0], images)


def test_a_clip_that_fits_is_taken_without_a_word(vaes, caplog):
    with caplog.at_level(logging.WARNING):
        lock_video(vaes, counted(9))
    assert caplog.text == ""


def test_a_clip_of_odd_sides_can_be_saved_without_its_last_line(vaes, save):
    images = drawn(9, 33, 47, 3, seed=3).sigmoid()
    frames, _, video = decoded(vaes, lock_video(vaes, images))
    assert torch.equal(frames, images)
    assert torch.equal(video.get_components().images, images[:, :32, :46])
    facts = save(video)
    assert (facts.width, facts.height, facts.frames) == (46, 32, 9)


# -- sound ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (16_000, 1), (44_100, 2), (48_000, 1), (48_000, 6)])
def test_sound_of_any_rate_is_heard_as_one_channel_at_16_khz_and_comes_back_as_it_was(vaes, seen, rate, channels):
    given = tone(2 * rate, rate, channels)
    latent = lock_audio(vaes, given)
    (heard,) = seen
    assert heard.shape == (1, 10 * 512, 1)
    assert torch.allclose(heard.std(), given["waveform"].mean(dim=1).std(), rtol=0.7 if rate > 16_000 else 0.1)
    _, audio, video = decoded(vaes, latent)
    length = -(-rate * 9 // 24)  # 9 frames, rounded up
    assert audio["sample_rate"] == rate
    assert torch.equal(audio["waveform"], given["waveform"][..., :length])
    assert torch.equal(video.get_components().audio["waveform"], given["waveform"][..., :length])


def test_a_tone_is_the_same_tone_after_resampling(vaes, seen):
    for rate in (8_000, 44_100):
        wave = torch.sin(torch.arange(rate) / rate * 440 * 2 * torch.pi)
        lock_audio(vaes, {"waveform": wave[None, None] * 0.5, "sample_rate": rate})
    expected = torch.sin(torch.arange(5120) / 16_000 * 440 * 2 * torch.pi) * 0.5
    for heard in seen:
        assert (heard[0, 100:-100, 0] - expected[100:-100]).abs().max() < 0.01


@pytest.mark.parametrize(
    ("samples", "kept"), [(80_384, 157), (80_000, 157), (78_848, 157), (78_847, 153), (40_000, 78), (1024, 2)]
)
def test_whole_latent_steps_of_the_sound_are_kept(vaes, caplog, samples, kept):
    """157 steps are 80384 samples; a sound that ends less than 0.1 s before them is taken to fill them."""
    with caplog.at_level(logging.WARNING):
        latent = lock_audio(vaes, tone(samples, 16_000), latent=tiny.empty_latent(seconds=5.0))
    mask = latent["noise_mask"].unbind()[1]
    assert mask.shape == (1, 1, 157)
    assert (mask[..., :kept] == denoise_mask.FOLLOW).all()
    assert (mask[..., kept:] == 1).all()
    assert (latent["samples"].unbind()[1][:, :, :kept].abs().amax(dim=1) > 0).all()
    assert not latent["samples"].unbind()[1][:, :, kept:].any()
    assert ("Ovi generates the rest" in caplog.text) == (kept < 157)


@pytest.mark.parametrize("seconds", [0.5, 5.1, 9.0, 12.0])
def test_a_latent_that_keeps_its_length_needs_no_context_windows(vaes, caplog, seconds):
    with caplog.at_level(logging.WARNING):
        lock_audio(vaes, tone(round(seconds * 16_000), 16_000), latent=tiny.empty_latent(seconds=10.0))
    assert "Context Windows" not in caplog.text


def test_a_sound_of_five_seconds_comes_back_as_it_was(vaes, save):
    given = tone(5 * 44_100, 44_100, 2)
    _, audio, video = decoded(vaes, lock_audio(vaes, given, latent=tiny.empty_latent(seconds=5.0)))
    assert torch.equal(audio["waveform"], given["waveform"])
    facts = save(video)
    assert (facts.frames, facts.fps, facts.sample_rate, facts.channels) == (121, 24, 44_100, 2)
    assert abs(facts.audio_seconds - facts.video_seconds) < 1 / 24


@pytest.mark.parametrize(("rate", "channels", "saved"), [(192_000, 2, (48_000, 2)), (15_000, 4, (48_000, 1))])
def test_a_sound_that_aac_cannot_hold_can_be_saved(vaes, save, rate, channels, saved):
    given = tone(rate, rate, channels)
    _, audio, video = decoded(vaes, lock_audio(vaes, given))
    assert torch.equal(audio["waveform"], given["waveform"][..., : rate * 9 // 24])
    facts = save(video)
    assert (facts.sample_rate, facts.channels) == saved
    assert abs(facts.audio_seconds - facts.video_seconds) < 1 / 24


@pytest.mark.parametrize(("start", "first"), [(0.0, 0), (0.5, 22_050), (1.2345, 54_441)])
def test_the_clip_begins_where_in_the_sound_it_is_told_to(vaes, start, first):
    given = tone(2 * 44_100, 44_100)
    _, audio, _ = decoded(vaes, lock_audio(vaes, given, start))
    assert torch.equal(audio["waveform"], given["waveform"][..., first : first + 16_538])


@pytest.mark.parametrize("gain", [1e-3, 0.1, 1.0, 32767.0])
def test_only_what_is_louder_than_full_scale_is_heard_quieter(vaes, seen, gain):
    given = tone(16_000, 16_000, gain=gain)
    latent = lock_audio(vaes, given)
    peak = float(given["waveform"][..., :5120].abs().max())
    assert float(seen[0].abs().max()) == pytest.approx(min(peak, 1.0), rel=1e-5)
    assert torch.equal(decoded(vaes, latent)[1]["waveform"], given["waveform"][..., :6000])


def test_silence_is_a_sound(vaes):
    given = {"waveform": torch.zeros(1, 1, 16_000), "sample_rate": 16_000}
    latent = lock_audio(vaes, given)
    assert latent["samples"].unbind()[1].isfinite().all()
    assert torch.equal(decoded(vaes, latent)[1]["waveform"], given["waveform"][..., :6000])


# -- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "found", "remedy"),
    [
        (torch.zeros(0, 64, 64, 3), "shape [0, 64, 64, 3]", "Get Video Components"),
        (torch.zeros(1, 64, 64, 3), "1 image", "Ovi Image To Video"),
        (torch.zeros(9, 64, 64), "shape [9, 64, 64]", "Get Video Components"),
        (None, "no images", "Get Video Components"),
        (torch.zeros(9, 64, 64, 4), "transparency", "background"),
        (torch.zeros(9, 8, 64, 3), "64x8 px", "larger image"),
        (torch.full((9, 64, 64, 3), float("inf")), "not numbers", "node that made it"),
    ],
)
def test_a_clip_that_is_none_is_refused(vaes, images, found, remedy):
    expected = {"node": "Ovi Lock Video", "input": "images", "found": found, "remedy": remedy}
    refusal(OviLockVideo.execute, vaes[0], tiny.empty_latent(), images, 24.0, "clean", **expected)


@pytest.mark.parametrize("rate", [0.0, -24.0, float("nan"), float("inf")])
def test_a_frame_rate_that_is_none_is_refused(vaes, rate):
    expected = {"node": "Ovi Lock Video", "input": "frame_rate", "found": f"{rate:g}", "remedy": "Set frame_rate to "}
    refusal(OviLockVideo.execute, vaes[0], tiny.empty_latent(), counted(9), rate, "clean", **expected)
    expected |= {"node": "", "remedy": "own frame rate"}
    refusal(lock_video_core, vaes[0], tiny.empty_latent(), counted(9), rate, "clean", **expected)


def wave(*shape, rate=16_000, value=0.1):
    return {"waveform": torch.full(shape, value), "sample_rate": rate}


@pytest.mark.parametrize(
    ("audio", "found", "remedy"),
    [
        (None, "no audio", "Load Audio"),
        ({"sample_rate": 16_000}, "without a waveform", "Load Audio"),
        (wave(1, 16_000), "shape [1, 16000]", "Load Audio"),
        (wave(1, 1, 0), "shape [1, 1, 0]", "Load Audio"),
        (wave(1, 0, 16_000), "shape [1, 0, 16000]", "Load Audio"),
        (wave(1, 1, 16_000, rate=0), "sample rate of 0", "Load Audio"),
        (wave(1, 1, 16_000, rate=None), "sample rate of None", "Load Audio"),
        (wave(1, 1, 16_000, rate=float("nan")), "sample rate of nan", "Load Audio"),
        (wave(1, 1, 16_000, rate=44_100.5), "sample rate of 44100.5", "Load Audio"),
        (wave(1, 1, 16_000, value=float("nan")), "NaN", "again"),
        (wave(3, 1, 16_000), "3 audio(s) for 2 clip(s)", "one audio"),
        (wave(1, 1, 1000), "audio of 0.062 s", "longer piece"),
    ],
)
def test_a_sound_that_is_none_is_refused(vaes, audio, found, remedy):
    expected = {"node": "Ovi Lock Audio", "input": "audio", "found": found, "remedy": remedy}
    refusal(OviLockAudio.execute, vaes[1], tiny.empty_latent(2), audio, 0.0, "clean", **expected)


@pytest.mark.parametrize("start", [-1.0, 0.95, 3.0, float("nan"), float("inf")])
def test_a_start_outside_the_sound_is_refused(vaes, start):
    expected = {"input": "start_seconds", "found": "in audio of 1.00 s", "remedy": "where in the audio"}
    given = vaes[1], tiny.empty_latent(), wave(1, 1, 16_000), start, "clean"
    refusal(lock_audio_core, *given, node="", **expected)
    if not 0 <= start <= 86_400:
        expected |= {"found": f"{start:g}", "remedy": "Set start_seconds to "}
    refusal(OviLockAudio.execute, *given, node="Ovi Lock Audio", **expected)


def test_what_is_endless_is_refused_where_the_latent_would_be_as_long(vaes):
    expected = {"node": "Ovi Lock Audio", "input": "audio", "found": "3600 s", "remedy": "Cut it"}
    long = {"waveform": torch.zeros(1, 1, 1).expand(1, 1, 3600 * 8000), "sample_rate": 8000}
    refusal(OviLockAudio.execute, vaes[1], tiny.empty_latent(), long, 0.0, "clean", "the whole sound", **expected)
    expected |= {"node": "Ovi Lock Video", "input": "images", "found": "900 s"}
    slow = torch.zeros(1, 32, 48, 3).expand(900, -1, -1, -1)
    refusal(OviLockVideo.execute, vaes[0], tiny.empty_latent(), slow, 1.0, "clean", "the whole clip", **expected)


ONE_PART = {"samples": torch.zeros(1, 48, 3, 4, 4)}
WRONG_MASK = {**tiny.empty_latent(), "noise_mask": joint.join(torch.ones(1, 1, 3, 4, 6), torch.ones(1, 10))}


@pytest.mark.parametrize(
    ("latent", "found", "remedy"), [(ONE_PART, "1 part(s)", "Empty Ovi Latent"), (WRONG_MASK, "[1, 10]", "Mask fits")]
)
def test_a_latent_that_is_not_ovis_is_refused(vaes, latent, found, remedy):
    expected = {"input": "latent", "found": found, "remedy": remedy}
    refusal(OviLockVideo.execute, vaes[0], latent, counted(9), 24.0, "clean", node="Ovi Lock Video", **expected)
    refusal(OviLockAudio.execute, vaes[1], latent, tone(9000, 16_000), 0.0, "clean", node="Ovi Lock Audio", **expected)


def test_the_other_vae_is_named(vaes):
    latent = tiny.empty_latent()
    expected = {"node": "Ovi Lock Video", "input": "vae", "found": "20 latent channels", "remedy": "wan2.2_vae"}
    refusal(OviLockVideo.execute, vaes[1], latent, counted(9), 24.0, "clean", **expected)
    expected = {"node": "Ovi Lock Audio", "input": "audio_vae", "found": "48 latent", "remedy": "Load Ovi Audio VAE"}
    refusal(OviLockAudio.execute, vaes[0], latent, tone(9000, 16_000), 0.0, "clean", **expected)


def test_inputs_are_left_as_they_were(vaes):
    latent, images, audio = tiny.empty_latent(), counted(9), tone(16_000, 16_000)
    before = [part.clone() for part in latent["samples"].unbind()] + [images.clone(), audio["waveform"].clone()]
    lock_video(vaes, images, latent=latent)
    lock_audio(vaes, audio, latent=latent)
    assert list(latent) == ["samples"]
    after = [*latent["samples"].unbind(), images, audio["waveform"]]
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
