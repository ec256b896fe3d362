"""Going on from a clip: what the new one begins with, that it stays, films made so, and what is refused."""

from __future__ import annotations

import logging
import math

import pytest
import tiny_ovi as tiny
import torch
from comfy.latent_formats import Wan22
from join_cases import OVERLAPS, clip, filling, join, sound
from native_cases import small_vaes
from ovi_native.nodes.clips import OviExtend, OviJoin
from ovi_native.nodes.decoding import OviDecode
from ovi_native.nodes.sampling.sampler import OviSampler
from ovi_native.ovi_core.conditioning.extend import extend as extend_core
from ovi_native.ovi_core.media.resampling import resampled
from refusals import refusal

EXTEND, JOIN = {"node": "Ovi Extend"}, {"node": "Ovi Join Clips"}


pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture(scope="module")
def vaes():
    return small_vaes()


def extend(vaes, images, audio, overlap=0.5, seconds=1.0):
    return OviExtend.execute(*vaes, images, audio, overlap, seconds).result[0]


def kept_steps(latent):
    """How many steps at the start of the video and the audio are kept; what is kept is kept clean, the rest free."""
    counts = []
    for mask in latent["noise_mask"].unbind():
        steps = mask[0, 0].flatten(1).amax(dim=1) if mask.ndim == 5 else mask[0, 0]
        count = int((steps == 0).sum())
        assert (steps[:count] == 0).all()
        assert (mask[:, :, count:] == 1).all()
        counts.append(count)
    return counts


# -- going on -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "frames"), OVERLAPS[1:])
def test_the_new_clip_begins_with_the_last_frames_and_their_sound_kept_clean(vaes, seconds, frames):
    images, audio = clip(60), sound(filling(60, 44_100), 44_100, 2)
    latent = extend(vaes, images, audio, seconds, seconds=3.0)
    video, heard = latent["samples"].unbind()
    assert [part.shape[2] for part in (video, heard)] == [19, 94]
    steps, audio_frames = (frames + 3) // 4, int(frames / 24 * 31.25)
    assert kept_steps(latent) == [steps, audio_frames]
    assert torch.equal(video[:, :, :steps], vaes[0].encode(images[-frames:]))
    if audio_frames > 1:
        begin = math.floor((60 - frames) / 24 * 44_100 + 0.5)
        mono = resampled(audio["waveform"][..., begin:].mean(dim=1), 44_100, 16_000)
        expected = vaes[1].encode(mono[:, : audio_frames * 512, None])
        assert torch.allclose(heard[..., :audio_frames], expected, atol=1e-4)
    assert heard[..., :audio_frames].abs().amin() > 0


def test_what_stays_free_is_the_models_zero(vaes):
    latent = extend(vaes, clip(60), sound(40_000))
    video, heard = latent["samples"].unbind()
    assert Wan22().process_in(video)[:, :, 4:].abs().max() < 1e-6
    assert not heard[..., 16:].any()


def test_silence_that_only_fills_the_sound_up_is_not_gone_on_from(vaes):
    """0.5 s are 13 frames, and their sound 16 steps; 18 ms of fill at the end take one of them."""
    audio = sound(40_000)
    assert kept_steps(extend(vaes, clip(60), audio)) == [4, 16]
    audio["waveform"][..., -800:] = 0
    assert kept_steps(extend(vaes, clip(60), audio)) == [4, 15]


def test_without_sound_at_the_clips_end_the_new_sound_is_free(vaes, caplog):
    assert kept_steps(extend(vaes, clip(60), None)) == [4, 0]
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert kept_steps(extend(vaes, clip(60), sound(20_000))) == [4, 0]
    assert "ends before the overlap" in caplog.text


def test_a_clip_off_the_grid_goes_on_at_the_nearest_size_and_comes_back_at_its_own(vaes, caplog):
    images = clip(30, height=44, width=70)
    with caplog.at_level(logging.WARNING):
        latent = extend(vaes, images, None)
    assert latent["samples"].unbind()[0].shape == (1, 48, 7, 2, 4)
    assert "64x32 px" in caplog.text
    joined, _ = join(images, None, clip(25, height=32, width=64), None)
    assert joined.shape == (42, 44, 70, 3)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.load(tmp_path_factory.mktemp("joins"))


def made(model, latent, seed):
    settings = {"steps": 2, "video_cfg": 4.0, "audio_cfg": 3.0, "shift": 5.0, "solver": "unipc", "skip_layers": "1"}
    return OviSampler.execute(model, tiny.positive(), tiny.negative(), latent, seed=seed, **settings).result[0]


@pytest.mark.parametrize("correct", ["to the overlap", "to the start", "off"])
def test_a_film_is_made_clip_by_clip(model, vaes, correct):
    """Decode, go on, sample, decode, join; twice. What was there before an overlap stays bit for bit."""
    images, audio, _ = OviDecode.execute(made(model, tiny.empty_latent(seconds=1.0), 1), *vaes, "off").result
    for n in (1, 2):
        latent = extend(vaes, images, audio, 0.2, 1.0)
        after = made(model, latent, 1 + n)
        for part, before, steps in zip(
            after["samples"].unbind(), latent["samples"].unbind(), kept_steps(latent), strict=True
        ):
            assert torch.equal(part[:, :, :steps], before[:, :, :steps])
            assert (part[:, :, steps:] - before[:, :, steps:]).abs().mean() > 0.1
        new_images, new_audio, _ = OviDecode.execute(after, *vaes, "off").result
        film, heard = join(images, audio, new_images, new_audio, 0.2, correct)
        start = len(images) - 5
        assert len(film) == 25 + n * 20
        assert heard["waveform"].shape == (1, 1, filling(len(film), 16_000))
        assert torch.equal(film[:start], images[:start])
        until = math.floor(start / 24 * 16_000 + 0.5)
        assert torch.equal(heard["waveform"][..., :until], audio["waveform"][..., :until])
        assert film.isfinite().all()
        assert heard["waveform"].isfinite().all()
        images, audio = film, heard


# -- clips of other frame rates --------------------------------------------------------------------------------------


def flash_and_beep(rate, at=1.5, seconds=2.0):
    """A black clip at ``rate`` frames a second with a white frame at a moment, and silence with a beep there."""
    frames = torch.zeros(round(rate * seconds), 32, 64, 3)
    frames[round(at * rate)] = 1
    waveform = torch.zeros(1, 1, round(16_000 * seconds))
    waveform[..., round(at * 16_000) :][..., :800] = 0.5
    return frames, {"waveform": waveform, "sample_rate": 16_000}


@pytest.mark.parametrize("rate", [24.0, 25.0, 30.0, 48.0, 60.0, 29.97])
def test_a_clip_of_another_frame_rate_stays_in_sync(vaes, monkeypatch, rate):
    """Flash and beep at 1.5 s of 2 s, in the last second that the new clip starts with, and in the joined clip."""
    images, audio = flash_and_beep(rate)
    seen = []
    for vae in vaes:
        monkeypatch.setattr(vae, "encode", lambda x, encode=vae.encode: (seen.append(x), encode(x))[1])
    OviExtend.execute(*vaes, images, audio, 1.0, 2.0, rate)
    flash, beep = seen[0].amax(dim=(1, 2, 3)), seen[1][0, :, 0]
    assert len(flash) == 25
    assert abs(int(flash.argmax()) / 24 - int((beep > 0.1).nonzero()[0]) / 16_000) <= 1 / 24
    joined, sound_of_it = OviJoin.execute(images, audio, clip(48), sound(32_000), 0.0, "off", rate).result
    shown = int(joined[:47].amax(dim=(1, 2, 3)).argmax()) / 24
    heard = int((sound_of_it["waveform"][0, 0] > 0.3).nonzero()[0]) / 16_000
    assert abs(shown - 1.5) <= 1 / 24
    assert abs(heard - 1.5) <= 1 / 24


def test_at_24_frames_a_second_the_input_changes_nothing(vaes):
    images, audio = clip(60), sound(40_000)
    given, default = (OviExtend.execute(*vaes, images, audio, 0.5, 1.0, *rate).result[0] for rate in ((24.0,), ()))
    assert all(torch.equal(a, b) for a, b in zip(given["samples"].unbind(), default["samples"].unbind(), strict=True))


def test_a_clip_that_seems_to_have_another_frame_rate_is_reported(vaes, caplog):
    images, audio = flash_and_beep(30.0)
    with caplog.at_level(logging.WARNING):
        OviExtend.execute(*vaes, images, audio, 0.2, 1.0)
        OviJoin.execute(images, audio, clip(48), None, 0.0, "off")
    assert caplog.text.count("seems to have 30 frames a second") == 2
    caplog.clear()
    OviExtend.execute(*vaes, images, audio, 0.2, 1.0, 30.0)
    OviExtend.execute(*vaes, clip(121), sound(80_000), 0.2, 1.0)
    assert "seems to have" not in caplog.text


@pytest.mark.parametrize("rate", [0.0, -30.0, 1e9, float("nan"), float("inf"), "30"])
def test_a_frame_rate_that_is_none_is_refused(vaes, rate):
    expected = {"input": "frame_rate", "found": "" if rate == "30" else f"{rate:g}"}
    settings = 0.2, 1.0, rate
    refusal(OviExtend.execute, *vaes, clip(48), None, *settings, remedy="frame_rate to ", **EXTEND, **expected)
    refusal(extend_core, *vaes, clip(48), None, *settings, node="", remedy="own frame rate", **expected)


def test_a_clip_of_another_rate_shorter_than_the_overlap_is_refused(vaes):
    expected = {"input": "overlap_seconds", "found": "25 frames (1.04 s) and 24 in images", "remedy": "Shorten"}
    refusal(OviExtend.execute, *vaes, clip(30), None, 1.0, 2.0, 30.0, **EXTEND, **expected)


# -- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "found", "remedy"),
    [
        (None, "no images", "Ovi AV Decode"),
        (torch.zeros(0, 64, 64, 3), "shape [0, 64, 64, 3]", "Ovi AV Decode"),
        (torch.zeros(30, 64, 64), "shape [30, 64, 64]", "Ovi AV Decode"),
        (torch.zeros(30, 64, 64, 4), "transparency", "background"),
        (torch.full((30, 64, 64, 3), float("nan")), "not numbers", "node that made it"),
    ],
)
def test_frames_that_are_none_are_refused(vaes, images, found, remedy):
    expected = {"found": found, "remedy": remedy}
    refusal(OviExtend.execute, *vaes, images, None, input="images", **EXTEND, **expected)
    refusal(OviJoin.execute, images, None, clip(48), None, input="images_a", **JOIN, **expected)
    refusal(OviJoin.execute, clip(48), None, images, None, input="images_b", **JOIN, **expected)


@pytest.mark.parametrize(
    ("audio", "found", "remedy"),
    [
        ({"sample_rate": 16_000}, "without a waveform", "Load Audio"),
        (sound(100, rate=0), "sample rate of 0", "Load Audio"),
        (sound(100, batch=2), "2 audios", "one clip at a time"),
        ({"waveform": torch.full((1, 1, 100), float("inf")), "sample_rate": 16_000}, "NaN or infinite", "again"),
    ],
)
def test_a_sound_that_is_none_is_refused(vaes, audio, found, remedy):
    expected = {"found": found, "remedy": remedy}
    refusal(OviExtend.execute, *vaes, clip(48), audio, input="audio", **EXTEND, **expected)
    refusal(OviJoin.execute, clip(48), audio, clip(48), None, input="audio_a", **JOIN, **expected)
    refusal(OviJoin.execute, clip(48), None, clip(48), audio, input="audio_b", **JOIN, **expected)


def test_an_overlap_longer_than_a_clip_is_refused(vaes):
    expected = {"input": "overlap_seconds", "remedy": "Shorten the overlap"}
    found = "25 frames (1.04 s) and 24 in images"
    refusal(OviExtend.execute, *vaes, clip(24), None, 1.0, found=found, **EXTEND, **expected)
    refusal(OviJoin.execute, clip(24), None, clip(48), None, found=found + "_a", **JOIN, **expected)
    refusal(OviJoin.execute, clip(48), None, clip(24), None, found=found + "_b", **JOIN, **expected)


def test_a_silent_clip_is_one_without_audio(vaes):
    silent, none = (extend(vaes, clip(30), audio) for audio in (sound(0), None))
    assert all(torch.equal(a, b) for a, b in zip(silent["samples"].unbind(), none["samples"].unbind(), strict=True))
    for a, b in ((sound(0), sound(48_000)), (sound(48_000), sound(0)), (sound(0, batch=0), None)):
        assert join(clip(48), a, clip(48), b)[1]["waveform"].shape[-1] == filling(83, 16_000)


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_an_overlap_that_is_no_length_is_refused(vaes, seconds):
    expected = {"input": "overlap_seconds", "found": f"{seconds:g}", "remedy": "Set overlap_seconds to "}
    refusal(OviExtend.execute, *vaes, clip(24), None, seconds, **EXTEND, **expected)
    refusal(OviJoin.execute, clip(24), None, clip(48), None, seconds, **JOIN, **expected)


def test_a_length_within_the_overlap_is_refused(vaes):
    expected = {"input": "seconds", "found": "1 s with an overlap of 1.04 s", "remedy": "shorten the overlap"}
    refusal(OviExtend.execute, *vaes, clip(48), None, 1.0, 1.0, **EXTEND, **expected)


def test_clips_of_different_sizes_are_refused():
    expected = {"input": "images_b", "found": "96x32 px after 64x32 px", "remedy": "Upscale Image"}
    refusal(OviJoin.execute, clip(48), None, clip(48, width=96), None, **JOIN, **expected)


def test_the_other_vae_is_named(vaes):
    expected = {"input": "vae", "found": "20 latent channels", "remedy": "wan2.2_vae"}
    refusal(OviExtend.execute, *vaes[::-1], clip(48), None, **EXTEND, **expected)
    expected = {"input": "audio_vae", "found": "48 latent", "remedy": "Load Ovi Audio VAE"}
    refusal(OviExtend.execute, vaes[0], vaes[0], clip(48), None, **EXTEND, **expected)


def test_inputs_are_left_as_they_were(vaes):
    a, b = (clip(48, 1), sound(32_000)), (clip(48, 2), sound(31_000))
    before = [x.clone() for x in (a[0], a[1]["waveform"], b[0], b[1]["waveform"])]
    join(*a, *b, correct="to the start")
    extend(vaes, *a)
    after = [a[0], a[1]["waveform"], b[0], b[1]["waveform"]]
    assert all(torch.equal(x, y) for x, y in zip(after, before, strict=True))
