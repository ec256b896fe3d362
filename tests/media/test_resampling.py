"""Audio at another sample rate, against sampled tones; and frames at another rate."""

from __future__ import annotations

import math
import resource
import sys
from fractions import Fraction

import pytest
import torch
from ovi_native.ovi_core.media.resampling import mono_at, nearest_frames, resampled, samples_before

ODD = [44_101, 42_777, 22_254, 11_127, 8_000]  # Hz; the first four have kernels of gigabytes in torchaudio


def tone(rate: int, seconds: float, hertz: float) -> torch.Tensor:
    return torch.sin(2 * math.pi * hertz * torch.arange(math.ceil(seconds * rate), dtype=torch.float64) / rate).float()


def error(rate: int, new_rate: int, hertz: float, seconds: float = 2.0) -> float:
    """Relative error of a tone that is resampled, half a second from its ends."""
    found, wanted = resampled(tone(rate, seconds, hertz), rate, new_rate), tone(new_rate, seconds, hertz)
    assert found.shape == wanted.shape
    inner = slice(new_rate // 2, len(wanted) - new_rate // 2)
    return float((found - wanted)[inner].norm() / wanted[inner].norm())


@pytest.mark.parametrize(("hertz", "most"), [(440, 5e-5), (3_000, 5e-5), (7_000, 0.05)])
@pytest.mark.parametrize("rate", [44_100, 48_000, 44_101, 22_254])
def test_a_tone_keeps_its_time_and_level(rate, hertz, most):
    assert error(rate, 16_000, hertz) < most


@pytest.mark.parametrize(("rate", "new_rate"), [(16_000, 44_100), (16_000, 48_000), (8_000, 16_000), (11_127, 16_000)])
def test_upwards_too(rate, new_rate):
    assert error(rate, new_rate, 440) < 5e-5


@pytest.mark.parametrize("rate", ODD)
def test_any_rate_takes_a_few_megabytes(rate):
    unit = 1024 if sys.platform != "darwin" else 1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    assert resampled(torch.zeros(2, rate), rate, 16_000).shape == (2, 16_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before < 50e6


@pytest.mark.parametrize("samples", [0, 1, 2, 3, 17, 1_000, 65_536, 65_537])
@pytest.mark.parametrize("rate", [44_100, 8_000, 1])
def test_lengths_are_exact(rate, samples):
    samples = min(samples, 100) if rate == 1 else samples
    assert resampled(torch.zeros(1, 2, samples), rate, 16_000).shape == (1, 2, math.ceil(samples * 16_000 / rate))


def test_channels_and_parts_do_not_mix():
    """Longer than what is resampled at a time, and each channel its own."""
    both = torch.stack([tone(44_100, 4, 440), torch.zeros(4 * 44_100)])
    found = resampled(both[None], 44_100, 16_000)[0]
    assert not found[1].any()
    inner = slice(8_000, 56_000)
    assert torch.allclose(found[0][inner], tone(16_000, 4, 440)[inner], atol=1e-4)


def test_an_equal_rate_returns_the_samples_themselves():
    samples = torch.randn(1, 2, 100)
    assert resampled(samples, 16_000, 16_000) is samples


def test_mono_is_averaged_cut_and_no_louder_than_full_scale():
    loud = torch.stack([torch.full((1000,), 3.0), torch.full((1000,), 1.0)])[None]
    assert torch.equal(mono_at(loud, 16_000, 16_000, 600), torch.ones(1, 600))
    assert torch.equal(mono_at(loud / 8, 16_000, 16_000, 2_000), torch.full((1, 1000), 0.25))
    assert mono_at(loud[..., :0], 16_000, 16_000, 600).shape == (1, 0)


def test_frames_are_the_nearest_in_time():
    assert nearest_frames(4, Fraction(12), 8, 24) == [0, 1, 1, 2, 2, 3, 3, 3]
    assert nearest_frames(9, Fraction(48), 4, 24) == [0, 2, 4, 6]
    assert samples_before(35, 24, 44_100) == 64_313
