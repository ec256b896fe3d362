"""Clips that go on from one another: what is kept, counts to the sample, seams, and drift over many joins."""

from __future__ import annotations

import math

import pytest
import torch
import torchaudio.functional
from join_cases import OVERLAPS, clip, filling, join, sound
from native_cases import drawn

RATES = [16_000, 22_050, 44_100, 48_000, 44_056]


pytestmark = pytest.mark.usefixtures("no_gradients")


# -- counts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "overlap"), OVERLAPS)
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_the_overlap_is_shown_once_and_the_sound_fills_the_frames(seconds, overlap, rate):
    a, b = clip(50, 1), clip(57, 2)
    images, audio = join(a, sound(filling(50, rate), rate), b, sound(filling(57, rate), rate), seconds)
    assert len(images) == 107 - overlap
    assert audio["waveform"].shape == (1, 1, filling(107 - overlap, rate))
    assert torch.equal(images[: 50 - overlap], a[: 50 - overlap])
    assert torch.equal(images[50:], b[overlap:])


@pytest.mark.parametrize("rate", RATES)
def test_frames_and_samples_stay_exact_over_many_joins(rate):
    """Clicks in each clip's sound, at the beginning of one of its frames: they stay within a sample of that frame."""
    frames, overlap, clicked = 33, 13, 20

    def clip_with_click(seed):
        audio = torch.zeros(1, 1, filling(frames, rate) - rate // 50)  # 20 ms short, as Ovi's own
        audio[..., round(clicked / 24 * rate)] = 1
        return clip(frames, seed, 32, 32), {"waveform": audio, "sample_rate": rate}

    images, audio = clip_with_click(0)
    for n in range(1, 13):
        images, audio = join(images, audio, *clip_with_click(n))
        assert len(images) == frames + n * (frames - overlap)
        assert audio["waveform"].shape[-1] == filling(len(images), rate)
        assert audio["sample_rate"] == rate
    clicks = torch.nonzero(audio["waveform"][0, 0] > 0.9).flatten().tolist()
    assert len(clicks) == 13
    for n, click in enumerate(clicks):
        assert abs(click - (clicked + n * (frames - overlap)) / 24 * rate) <= 1


@pytest.mark.parametrize("more", [-400, 900])
def test_a_sound_that_is_shorter_or_longer_than_its_frames_does_not_shift_what_follows(more):
    a, b = sound(32_000 + more, seed=1), sound(32_000, seed=2)
    _, audio = join(clip(48), a, clip(48), b, 0.5)
    start, waveform = 23_333, audio["waveform"]  # 35 frames
    assert torch.equal(waveform[..., :start], a["waveform"][..., :start])
    assert torch.equal(waveform[..., 32_000 : start + 32_000], b["waveform"][..., 32_000 - start :])


def tone(samples, rate, hertz=440):
    return 0.1 * torch.sin(2 * math.pi * hertz * torch.arange(samples, dtype=torch.float64) / rate)[None, None].float()


def test_a_second_sound_of_another_rate_and_channels_is_brought_to_the_first():
    a, b = sound(filling(48, 44_100), 44_100, 2), {"waveform": tone(filling(48, 16_000), 16_000), "sample_rate": 16_000}
    _, audio = join(clip(48), a, clip(48), b)
    assert audio["sample_rate"] == 44_100
    assert audio["waveform"].shape == (1, 2, filling(83, 44_100))
    expected = tone(filling(48, 44_100), 44_100)
    start = 64_313  # 35 frames
    for channel in audio["waveform"][0]:
        assert torch.allclose(channel[90_000:120_000], expected[0, 0, 90_000 - start : 120_000 - start], atol=1e-4)


def test_a_clip_without_sound_is_silent():
    b = sound(filling(48, 48_000), 48_000, 2)
    _, audio = join(clip(48), None, clip(48), b)
    assert audio["waveform"].shape == (1, 2, filling(83, 48_000))
    assert not audio["waveform"][..., :70_000].any()
    assert audio["waveform"][..., 100_000:].any()
    _, audio = join(clip(48), None, clip(48), None)
    assert audio["waveform"].shape == (1, 1, filling(83, 16_000))
    assert not audio["waveform"].any()


# -- seams ----------------------------------------------------------------------------------------------------------


def test_pictures_go_over_evenly():
    a, b = torch.zeros(20, 32, 32, 3), torch.ones(20, 32, 32, 3)
    images, _ = join(a, None, b, None, 0.5)
    levels = images.mean(dim=(1, 2, 3))
    assert torch.allclose(levels[7:20], torch.arange(1, 14) / 14, atol=1e-6)
    assert float(levels.diff().max()) < 0.08


def rendering(audio, likeness, seed):
    """Another sound of the same power whose correlation with ``audio`` is ``likeness``."""
    other = torch.randn(audio.shape, generator=torch.Generator().manual_seed(seed)) * audio.std()
    return likeness * audio + math.sqrt(1 - likeness**2) * other


@pytest.mark.parametrize("likeness", [0.0, 0.3, 0.8, 1.0])
def test_sound_crosses_in_equal_power(likeness):
    """Whatever the overlap of b has in common with a: nothing, the same sound, or another rendering of it."""
    power = torch.zeros(16_000 * 83 // 24)
    for seed in range(40):
        a = drawn(1, 1, 32_000, seed=seed) * 0.1
        b = torch.cat((a[..., -8667:], drawn(1, 1, 32_000 - 8667, seed=100 + seed) * 0.1), dim=-1)
        b = {"waveform": rendering(b, likeness, 200 + seed), "sample_rate": 16_000}
        a = {"waveform": a, "sample_rate": 16_000}
        power += join(clip(48), a, clip(48), b, 0.5)[1]["waveform"][0, 0, : len(power)].pow(2)
    steps = power[20_000:36_000].unflatten(0, (-1, 160)).mean(dim=1) / 40 / 0.01
    assert (10 * steps.log10()).abs().max() < 0.6  # dB, of which 0.45 are chance


@pytest.mark.parametrize("seconds", [0.0, 0.5])
def test_no_click_where_loud_tones_meet(seconds):
    """No step of the waveform is larger than those of the tones; a cut would make one of 0.3 and more."""
    tone = 0.5 * torch.sin(torch.arange(32_000) * 2 * math.pi * 220 / 16_000 + 1.0).reshape(1, 1, -1)
    other = 0.5 * torch.cos(torch.arange(32_000) * 2 * math.pi * 330 / 16_000).reshape(1, 1, -1)
    a, b = ({"waveform": x, "sample_rate": 16_000} for x in (tone, other))
    _, audio = join(clip(48), a, clip(48), b, seconds)
    steps = audio["waveform"][0, 0, 100:-100].diff().abs()
    assert float(steps.max()) < 1.5 * float(other.diff().abs().max())  # two tones may add up to sqrt(2)


# -- drift ----------------------------------------------------------------------------------------------------------

FRAMES, JOINS, RATE = 48, 12, 16_000
BOUNDS = {"colour": 0.01, "contrast": 0.01, "loudness": 0.3}  # of the first clip's mean, of its contrast, dB


def scene():
    """A picture of soft shapes, 2 s of it passing by, and noise: colours and loudness do not change of themselves."""
    planes = torch.nn.functional.interpolate(drawn(1, 3, 4, 8, seed=1), (32, 64), mode="bicubic")[0]
    picture = (0.4 + 0.08 * planes / planes.std()).clamp(0, 1).permute(1, 2, 0)
    images = torch.stack([picture.roll(i, dims=1) for i in range(FRAMES)])
    return images, {"waveform": drawn(1, 1, 2 * RATE, seed=3) * 0.1, "sample_rate": RATE}


def going_on(images, audio, overlap, within, seed):
    """What a model makes of a clip's end: the same goes on, but a little harder, redder and louder; and not quite it.

    Args:
        overlap: frames that the new clip begins with.
        within: the change grows over the clip, else all of it has it.
    """
    tail, heard = images[-overlap:], audio["waveform"][..., -2 * RATE :]
    rest = torch.stack([tail[-1].roll(i + 1, dims=1) for i in range(FRAMES - overlap)])
    begin = heard.shape[-1] - round(overlap / 24 * RATE)
    made = torch.cat((heard[..., begin:], heard), dim=-1)[..., : 2 * RATE]
    share = torch.ones(FRAMES) if not within else (torch.arange(FRAMES) - overlap).clamp(min=0) / (FRAMES - overlap)
    share = share.reshape(-1, 1, 1, 1)
    changed = torch.cat((tail, rest)) * (1 + 0.03 * share) + share * torch.tensor([0.01, 0.0, -0.01])
    loudness = torch.nn.functional.interpolate(share.reshape(1, 1, -1), 2 * RATE) * 0.7
    changed = changed + 0.005 * drawn(*changed.shape, seed=seed)
    made = rendering(made, 0.8, seed) * 10 ** (loudness / 20)
    return changed.clamp(0, 1), {"waveform": made, "sample_rate": RATE}


def drift_of(images, audio):
    """How far the last second is from the first, in the units of ``BOUNDS``; loudness as ITU-R BS.1770 has it."""
    (start_std, start), (end_std, end) = (torch.std_mean(part, dim=(0, 1, 2)) for part in (images[:24], images[-24:]))
    first, last = (
        float(torchaudio.functional.loudness(part, RATE))
        for part in (audio["waveform"][0, :, : 2 * RATE], audio["waveform"][0, :, -2 * RATE :])
    )
    return {
        "colour": float(((end - start) / start).abs().max()),
        "contrast": float((end_std / start_std - 1).abs().max()),
        "loudness": abs(last - first),
    }


def film(correct, within, overlap=13):
    images, audio = scene()
    for n in range(JOINS):
        images, audio = join(images, audio, *going_on(images, audio, overlap, within, n), overlap / 24, correct)
    assert len(images) == FRAMES + JOINS * (FRAMES - overlap)
    return drift_of(images, audio)


def test_colour_contrast_and_loudness_stay_over_twelve_joins():
    found = film("to the overlap", within=False)
    assert all(found[name] < bound for name, bound in BOUNDS.items()), found


def test_uncorrected_they_drift_away():
    found = film("off", within=False)
    assert all(found[name] > 10 * bound for name, bound in BOUNDS.items()), found


def test_what_changes_within_each_clip_is_brought_back_to_the_start():
    found = film("to the start", within=True)
    assert all(found[name] < 2 * bound for name, bound in BOUNDS.items()), found


@pytest.mark.parametrize("correct", ["to the overlap", "off"])
def test_what_changes_within_a_clip_stays_where_it_may_be_meant(correct):
    found = film(correct, within=True)
    assert all(found[name] > 5 * bound for name, bound in BOUNDS.items()), found


def test_what_a_correction_does_has_limits():
    """Clips that do not show the same are not forced to: contrast by 25 %, colour by a tenth, loudness by 3 dB."""
    a, b = 0.5 + 0.2 * (clip(48, 1) - 0.5), 0.3 + 0.02 * (clip(48, 2) - 0.5)
    quiet = sound(32_000, seed=5)
    quiet["waveform"] = quiet["waveform"] / 10
    images, audio = join(a, sound(32_000), b, quiet, correct="to the overlap")
    made, heard = images[48:], audio["waveform"][..., 32_000:50_000]
    assert float(made.mean() - b[13:].mean()) == pytest.approx(0.1, abs=1e-3)
    assert float(made.std() / b[13:].std()) == pytest.approx(1.25, abs=0.01)
    before = quiet["waveform"][..., 32_000 - 23_333 :][..., :18_000]
    assert torch.allclose(heard, before * 10 ** (3 / 20), atol=1e-6)


@pytest.mark.parametrize("correct", ["to the overlap", "to the start"])
def test_black_pictures_and_silence_are_not_amplified(correct):
    noise = 1e-5 * drawn(48, 32, 64, 3)
    quiet = {"waveform": 1e-5 * drawn(1, 1, 32_000), "sample_rate": 16_000}
    images, audio = join(torch.zeros(48, 32, 64, 3), None, noise.clamp(0, 1), quiet, correct=correct)
    assert float(images.max()) < 1e-4
    assert float(audio["waveform"].abs().max()) < 1e-4


# -- clips without a shared part ------------------------------------------------------------------------------------

WARNING = "show different"


def moving(first, frames, speed=3):
    """A bright square on grey that moves ``speed`` px per frame, from frame ``first`` of its way on."""
    images = torch.full((frames, 64, 96, 3), 0.4)
    for i in range(frames):
        left = (first + i) * speed % 80
        images[i, 24:40, left : left + 16] = 0.9
    return images


def rendered(images):
    """As a VAE and a grade give them back: blurred, noisy, darker and of less contrast."""
    blurred = torch.nn.functional.avg_pool2d(images.movedim(-1, 1), 3, 1, 1).movedim(1, -1)
    return (0.85 * blurred + 0.02 + 0.02 * drawn(*images.shape)).clamp(0, 1)


@pytest.mark.parametrize("seconds", [0.04, 0.5, 1.0])
def test_an_overlap_that_shows_the_same_is_not_warned_of(seconds, caplog):
    overlap = {0.04: 1, 0.5: 13, 1.0: 25}[seconds]
    join(moving(0, 48), None, rendered(moving(48 - overlap, 48)), None, seconds)
    still = torch.full((48, 64, 96, 3), 0.5)
    join(still, None, still * 0.95, None, seconds)
    assert WARNING not in caplog.text


@pytest.mark.parametrize(
    "second", [moving(48, 48), clip(48, 7, 64, 96), moving(10, 48).flip(2), torch.zeros(48, 64, 96, 3)]
)
def test_an_overlap_that_shows_something_else_is_warned_of(second, caplog):
    images, _ = join(moving(0, 48), None, second, None, 0.5)
    assert len(images) == 83
    assert WARNING in caplog.text
    caplog.clear()
    join(moving(0, 48), None, second, None, 0.0)
    assert WARNING not in caplog.text
