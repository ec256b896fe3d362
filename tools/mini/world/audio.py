"""Makes the sound of a scene from the motion that its frames show: mono, 16 kHz, in -1..1."""

from __future__ import annotations

import numpy as np
from ovi_native.ovi_core.spec import SAMPLE_RATE

from .scene import RADII, Array, Ball, Bar, Face, Lamp, Scene

# Of each material: pitch of a medium ball in Hz, seconds of decay, partials as (ratio to the pitch, strength).
TICKS = {
    "rubber": (190.0, 0.07, ((1.0, 1.0), (2.0, 0.25))),
    "wood": (620.0, 0.045, ((1.0, 1.0), (2.57, 0.5), (4.2, 0.25))),
    "metal": (1400.0, 0.16, ((1.0, 1.0), (2.76, 0.6), (4.07, 0.35))),
}
# Formants in Hz of each syllable's vowel, with their widths.
FORMANTS = {"ba": (730, 1090, 2440), "bee": (270, 2290, 3010), "bo": (570, 840, 2410), "boo": (300, 870, 2240)}
FORMANT_WIDTHS = (90.0, 120.0, 180.0)
FORMANT_STRENGTHS = (1.0, 0.6, 0.3)
LOWEST_TONE, OCTAVES = 220.0, 1.5  # of the sweeping bar; a small vocoder gets no higher
CLICK_SECONDS = 0.004


def tick_pitch(ball: Ball) -> float:
    """Hz: the smaller the ball, the higher."""
    return TICKS[ball.material][0] * RADII["medium"] / ball.radius


def bar_tone(place: Array) -> Array:
    """Hz at each place of the bar, 0 (left) to 1 (right)."""
    return LOWEST_TONE * 2 ** (OCTAVES * place)


def make_sound(scene: Scene) -> Array:
    """Samples [S] float32."""
    samples = scene.clip.samples
    t = np.arange(samples) / SAMPLE_RATE
    sound = np.zeros(samples)
    rng = np.random.default_rng([scene.seed, 2])
    for thing in scene.things:
        if isinstance(thing, Ball):
            _ticks(sound, thing, rng)
        elif isinstance(thing, Lamp):
            sound += _hum(thing, t)
        elif isinstance(thing, Bar):
            tone = bar_tone(thing.place(t))
            turn = 2 * np.pi * np.cumsum(tone) / SAMPLE_RATE
            sound += 0.16 * (np.sin(turn) + 0.3 * np.sin(2 * turn)) * np.minimum(t / 0.03, 1)
        else:
            _speech(sound, thing, t)
    return np.clip(sound, -1, 1).astype(np.float32)


def _ticks(sound: Array, ball: Ball, rng: np.random.Generator) -> None:
    pitch, (_, decay, partials) = tick_pitch(ball), TICKS[ball.material]
    length = int(decay * 7 * SAMPLE_RATE)
    t = np.arange(length) / SAMPLE_RATE
    tick = sum(
        strength * np.sin(2 * np.pi * ratio * pitch * t) * np.exp(-t * ratio**0.5 / decay)
        for ratio, strength in partials
    )
    tick = np.asarray(tick) * np.minimum(t / 0.001, 1) / sum(strength for _, strength in partials)
    click = int(CLICK_SECONDS * SAMPLE_RATE)
    tick[:click] += 0.35 * rng.standard_normal(click) * np.linspace(1, 0, click)
    for time in ball.contacts(len(sound) / SAMPLE_RATE):
        start = round(time * SAMPLE_RATE)
        part = sound[start : start + length]
        part += 0.6 * tick[: len(part)]


def _hum(lamp: Lamp, t: Array) -> Array:
    pitch = 12.0 / lamp.radius  # 110 Hz of a small lamp, 70 Hz of a large one
    tone = sum(np.sin(2 * np.pi * pitch * k * t) / k**0.7 for k in range(1, 8))
    return 0.16 * lamp.loudness(t) * np.asarray(tone)


def _speech(sound: Array, face: Face, t: Array) -> None:
    """Each syllable: a burst, then the voice's harmonics as loud as the vowel's formants let them through."""
    length = int((face.length + 0.02) * SAMPLE_RATE)
    own = np.arange(length) / SAMPLE_RATE
    glide = face.pitch * (1.06 - 0.12 * own / face.length)
    turn = 2 * np.pi * np.cumsum(glide) / SAMPLE_RATE
    harmonics = np.arange(1, int(4000 / face.pitch))
    hz = harmonics * face.pitch
    gain = sum(
        strength / (1 + ((hz - formant) / width) ** 2)
        for formant, width, strength in zip(FORMANTS[face.word], FORMANT_WIDTHS, FORMANT_STRENGTHS, strict=True)
    )
    gain = (np.asarray(gain) + 0.02) / harmonics**0.3
    voice = gain @ np.sin(harmonics[:, None] * turn)
    voice *= 0.45 / np.abs(voice).max()
    envelope = np.clip(own / 0.02, 0, 1) * np.clip((face.length - own) / 0.07, 0, 1)
    for start in face.starts:
        at = round(start * SAMPLE_RATE)
        part = sound[at : at + length]
        part += (voice * envelope)[: len(part)]
