"""The measures find what the world put into a clip, and their controls fail."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from ovi_native.ovi_core.spec import ClipShape
from scipy.ndimage import gaussian_filter

from tools.mini.measure.checks import Measured, Sync, judge, log_mel_distance, match, measure, psnr, sync
from tools.mini.measure.sound import material_heard
from tools.mini.world.casting import SHARES, draw_scene
from tools.mini.world.render import Rendered, Truth, render

PER_KIND = 3


@cache
def clips(size: int, rough: bool) -> list[tuple[Rendered, Measured]]:
    """Rendered clips of every kind and what is measured in them; ``rough``: after blur and noise, like a VAE's."""
    found = []
    for number, kind in enumerate(SHARES):
        for i in range(PER_KIND):
            made = render(draw_scene(5000 + 100 * number + i, ClipShape.from_seconds(size, size, 2), kind=kind))
            frames, sound = made.frames, made.sound
            if rough:
                rng = np.random.default_rng(i)
                blurred = gaussian_filter(frames, (0.3, size / 130, size / 130, 0))
                frames = np.clip(blurred + rng.normal(0, 0.03, frames.shape), 0, 1)
                sound = sound + rng.normal(0, 0.001, sound.shape)
            found.append((made, measure(frames, sound)))
    return found


CASES = pytest.mark.parametrize(("size", "rough"), [(96, False), (96, True), (128, True)])


def with_contacts(size: int, rough: bool) -> list[tuple[Rendered, Measured]]:
    return [(made, found) for made, found in clips(size, rough) if made.truth.contacts or made.truth.openings]


@CASES
def test_contacts_and_openings_are_found_where_they_are(size: int, rough: bool) -> None:
    wanted = met = made_up = seen = 0
    for made, found in clips(size, rough):
        truth = sorted((*made.truth.contacts, *made.truth.openings))
        count, hits = match(truth, found.events, found.seconds)
        wanted, met = wanted + count, met + hits
        count, hits = match(found.events, truth, found.seconds)
        seen, made_up = seen + count, made_up + count - hits
    assert wanted > 30
    assert met / wanted >= 0.98
    assert made_up / seen <= 0.02


@CASES
def test_every_event_has_its_onset_and_every_onset_its_event(size: int, rough: bool) -> None:
    total = sum((sync(found) for _, found in with_contacts(size, rough)), Sync())
    assert total.events > 30
    assert total.heard_share >= 0.98
    assert total.seen_share >= 0.98


def test_the_sound_of_another_clip_does_not_match() -> None:
    pairs = with_contacts(96, False)
    found = [measured for _, measured in pairs]
    total = Sync()
    for step in (1, 5, 7):
        total = sum(
            (sync(one, found[(i + step) % len(found)].onsets) for i, one in enumerate(found)),
            total,
        )
    assert total.heard_share < 0.5
    assert total.seen_share < 0.5


@CASES
def test_colour_kind_count_and_loudness_are_read_right(size: int, rough: bool) -> None:
    verdicts = [judge(found, made.truth) for made, found in clips(size, rough)]
    assert np.mean([verdict.right for verdict in verdicts]) >= 0.96


def test_another_prompt_is_judged_wrong() -> None:
    pairs = clips(96, False)
    truths = [made.truth for made, _ in pairs]
    for i, (_, found) in enumerate(pairs):
        for other in range(1, len(pairs), 4):
            truth = truths[(i + other) % len(pairs)]
            same = {f for f in ("colours", "kinds", "count", "loud") if _facts(truth, f) == _facts(truths[i], f)}
            verdict = judge(found, truth)
            assert verdict.right == (len(same) == 4)
            assert verdict.colour == ("colours" in same)
            assert verdict.loud == ("loud" in same)


def test_a_ball_and_a_lamp_in_each_other_s_colours_are_judged_wrong() -> None:
    made, found = next(pair for pair in clips(96, False) if pair[0].truth.kinds == ("lamp", "ball"))
    assert judge(found, made.truth).right
    verdict = judge(found, replace(made.truth, colours=made.truth.colours[::-1]))
    assert verdict == replace(judge(found, made.truth), colour=False)


def _facts(truth: Truth, name: str) -> object:
    value = getattr(truth, name)
    return frozenset(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("kind", ["lamp", "bar"])
def test_hum_and_tone_follow_the_picture_and_not_that_of_another_clip(kind: str) -> None:
    made = [render(draw_scene(seed, ClipShape.from_seconds(96, 96, 2), kind=kind)) for seed in range(12)]
    own = [measure(clip.frames, clip.sound).follows for clip in made]
    other = [measure(clip.frames, made[i - 1].sound).follows for i, clip in enumerate(made)]
    assert all(value is not None and value > 0.9 for value in own)
    assert np.mean([value for value in other if value is not None]) < 0.5


@pytest.mark.parametrize("kind", ["floor", "two balls", "ball and lamp"])
def test_a_balls_material_is_heard_and_silence_has_none(kind: str) -> None:
    made = [render(draw_scene(seed, ClipShape.from_seconds(96, 96, 2), kind=kind)) for seed in range(8)]
    right = [material_heard(clip.sound) in clip.truth.materials for clip in made if clip.truth.contacts]
    assert len(right) > 5
    assert np.mean(right) > 0.9
    others = [material_heard(clip.sound) in made[i - 1].truth.materials for i, clip in enumerate(made)]
    assert np.mean(others) < 0.7
    assert material_heard(np.zeros(16000)) is None


def test_a_ball_that_turns_gently_has_no_contact() -> None:
    for seed in range(6):
        made = render(draw_scene(seed, ClipShape.from_seconds(96, 96, 5), kind="float"))
        assert len(measure(made.frames, made.sound).events) == 0


def test_a_frozen_picture_has_no_events_and_noise_no_things() -> None:
    made = render(draw_scene(3, ClipShape.from_seconds(96, 96, 2), kind="floor"))
    frozen = np.repeat(made.frames[:1], len(made.frames), axis=0)
    assert len(measure(frozen, made.sound).events) == 0
    noise = np.random.default_rng(0).random(made.frames.shape, dtype=np.float32)
    assert not any(judge(measure(noise, made.sound), made.truth).__dict__[fact] for fact in ("colour", "count"))


def test_matching_counts_what_lies_within_two_frames() -> None:
    assert match([0.5, 1.0], [0.58, 1.09], 2.0) == (2, 1)
    assert match([0.5], [], 2.0) == (1, 0)
    assert match([0.01, 1.99], [], 2.0) == (0, 0)  # their partners may lie outside the clip
    assert all(type(number) is int for number in match(np.array([0.5]), np.array([0.5]), 2.0))  # for JSON


def test_psnr_is_that_of_the_textbook() -> None:
    zero = np.zeros((2, 4, 4, 3))
    assert psnr(zero, zero + 0.1) == pytest.approx(20.0)


def test_the_distance_of_sounds_is_in_decibels() -> None:
    sound = 0.1 * np.random.default_rng(0).standard_normal(16000)
    assert log_mel_distance(sound, sound) == 0
    assert log_mel_distance(sound, 2 * sound) == pytest.approx(6.02, abs=0.1)
