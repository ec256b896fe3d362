"""What a sound holds, by its samples alone: onsets, silence, loudness and pitch over time, distance between two."""

from __future__ import annotations

import numpy as np
from ovi_native.ovi_core.spec import SAMPLE_RATE
from scipy.ndimage import maximum_filter1d

from ..world.audio import TICKS
from ..world.scene import Array

WINDOW, HOP = 512, 128  # samples; a column every 8 ms
BANDS = 40
LOWEST, HIGHEST = 60.0, 8000.0  # Hz
FLOOR = 3e-4  # magnitude below which a band counts as silent
SILENT_RMS = 0.004  # 48 dB below full scale
LAG = 3  # columns between which a rise is measured
RISE = 0.35  # least mean rise over all bands, in powers of ten, that makes an onset
SHARE_OF_STRONGEST = 0.3  # least rise of an onset, of the strongest in the sound
WIDE = 0.35  # least share of the bands that rise by a factor of two at an onset
GAP = 0.07  # seconds between two onsets


def spectrogram(sound: Array) -> Array:
    """Magnitude of bands with logarithmic centres over time, [columns, bands]; a sine of amplitude 1 gives about 1.

    Column i is centred on sample 128 i; those whose window would reach beyond the end are left out.
    """
    padded = np.pad(np.asarray(sound, dtype=np.float32), (WINDOW // 2, 0), mode="reflect")
    columns = 1 + (len(padded) - WINDOW) // HOP
    starts = np.arange(columns) * HOP
    window = np.hanning(WINDOW).astype(np.float32)
    pieces = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[starts] * window
    power = np.abs(np.fft.rfft(pieces, axis=1)) ** 2 / (window.sum() / 2) ** 2
    return np.sqrt(power @ _bands().T)


def _bands() -> Array:
    """Triangles over the bins [bands, bins], their centres in equal steps of the mel scale."""

    def mel(hz: Array | float) -> Array:
        return 2595 * np.log10(1 + np.asarray(hz) / 700)

    points = np.linspace(mel(LOWEST), mel(HIGHEST), BANDS + 2)[:, None]
    bins = mel(np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE))[None, :]
    rise = (bins - points[:-2]) / (points[1:-1] - points[:-2])
    fall = (points[2:] - bins) / (points[2:] - points[1:-1])
    return np.clip(np.minimum(rise, fall), 0, None)


def rms(sound: Array) -> float:
    return float(np.sqrt(np.mean(np.square(sound, dtype=np.float64)))) if len(sound) else 0.0


def is_silent(sound: Array) -> bool:
    return rms(sound) < SILENT_RMS


def onsets(sound: Array) -> Array:
    """Seconds at which something begins to sound: energy rises at once in many bands.

    A glide or a hum moves energy slowly or in few bands, and is none.
    """
    if is_silent(sound):
        return np.zeros(0)
    bands = np.log10(np.maximum(spectrogram(sound), FLOOR))
    # Against the loudest of the neighbouring bands shortly before, so that a moving tone does not count as a new one.
    rise = np.clip(bands[LAG:] - maximum_filter1d(bands, 3, axis=1)[:-LAG], 0, None)
    strength = np.where((rise > 0.3).mean(axis=1) >= WIDE, rise.mean(axis=1), 0)
    limit = max(RISE, SHARE_OF_STRONGEST * strength.max())
    return _peaks(strength, limit) + (LAG / 2) * HOP / SAMPLE_RATE


def _peaks(strength: Array, limit: float) -> Array:
    """Seconds of the highest point of each stretch above ``limit``, at least ``GAP`` apart."""
    reach = int(GAP * SAMPLE_RATE / HOP)
    highest = maximum_filter1d(strength, 2 * reach + 1)
    found = np.flatnonzero((strength == highest) & (strength > limit))
    kept = [index for i, index in enumerate(found) if i == 0 or index - found[i - 1] > reach]
    return np.array(kept, dtype=float) * HOP / SAMPLE_RATE


def loudness(sound: Array, times: Array) -> Array:
    """Root mean square of the sound around each of ``times`` (seconds), within 60 ms."""
    half = int(0.03 * SAMPLE_RATE)
    total = np.concatenate([[0], np.cumsum(np.square(sound, dtype=np.float64))])
    middle = (np.asarray(times) * SAMPLE_RATE).astype(int)
    low, high = np.clip(middle - half, 0, len(sound)), np.clip(middle + half, 0, len(sound))
    return np.sqrt((total[high] - total[low]) / np.maximum(high - low, 1))


def pitch(sound: Array, times: Array, low: float = 150.0, high: float = 1200.0) -> Array:
    """Hz of the strongest tone between ``low`` and ``high`` around each of ``times`` (seconds), within 64 ms."""
    size = 1024
    padded = np.pad(np.asarray(sound, dtype=np.float32), size)
    starts = np.clip((np.asarray(times) * SAMPLE_RATE).astype(int) + size // 2, 0, len(padded) - size)
    pieces = np.lib.stride_tricks.sliding_window_view(padded, size)[starts] * np.hanning(size)
    hz = np.fft.rfftfreq(4 * size, 1 / SAMPLE_RATE)
    power = np.abs(np.fft.rfft(pieces, 4 * size, axis=1))
    inside = (hz >= low) & (hz <= high)
    return hz[inside][power[:, inside].argmax(axis=1)]


def material_heard(sound: Array) -> str | None:
    """The material whose ticks are nearest in pitch to what begins to sound; None where nothing does."""
    times = onsets(sound)
    if not len(times):
        return None
    heard = float(np.median(pitch(sound, times + 0.03, 100, 2400)))
    return min(TICKS, key=lambda material: abs(np.log(TICKS[material][0] / heard)))


def log_mel_distance(one: Array, other: Array) -> float:
    """Mean difference of two sounds' band magnitudes in decibels, over their common length."""
    common = min(len(one), len(other))
    a, b = (20 * np.log10(np.maximum(spectrogram(sound[:common]), FLOOR)) for sound in (one, other))
    return float(np.abs(a - b).mean())
