"""What the report on Ovi mini measures of given and of long clips: right clips hold, wrong ones do not."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from tools.mini.report import sections_given, sections_long
from tools.mini.report.figures import of_kinds
from tools.mini.report.scores import examined
from tools.mini.report.studio import Made, Order, spliced
from tools.mini.world.render import Rendered, render

SEEDS = 8


@cache
def rendered(order: Order) -> Rendered:
    return render(order.drawn())


class Perfect:
    """Makes every clip as the world has it."""

    def make(self, order: Order) -> Made:
        scene = rendered(Order(order.scene, order.kind, seconds=order.seconds))
        samples = -(-len(scene.frames) * 16_000 // 24)
        return Made(scene.frames, np.pad(scene.sound, (0, max(0, samples - len(scene.sound))))[:samples])


class Deaf(Perfect):
    """Keeps what is given, and makes the rest as if it knew nothing of it."""

    def make(self, order: Order) -> Made:
        own, other = super().make(order), super().make(replace(order, scene=order.scene + 500))
        kept = {"video": Made(own.frames, other.sound), "sound": Made(other.frames, own.sound)}
        return kept.get(order.given, other)


class Abrupt(Perfect):
    """Makes long clips of windows that do not go over into one another."""

    def make(self, order: Order) -> Made:
        own, other = super().make(order), super().make(replace(order, scene=order.scene + 500))
        return Made(
            sections_long.end_to_end(own.frames, other.frames, 24),
            sections_long.end_to_end(own.sound, other.sound, 16_000),
        )


def held(section, studio) -> dict[str, bool]:
    return {figure.what: figure.holds for figure in section(studio, SEEDS) if figure.bound}


@pytest.mark.parametrize("section", [sections_given.locked, sections_given.ends, sections_long.windowed])
def test_right_clips_hold(section):
    figures = held(section, Perfect())
    assert len(figures) >= 2
    assert all(figures.values()), figures


@pytest.mark.parametrize("section", [sections_given.locked, sections_given.ends])
def test_clips_that_do_not_follow_what_is_given_fail_every_figure(section):
    figures = held(section, Deaf())
    assert not any(figures.values()), figures


def test_long_clips_that_do_not_follow_or_meet_fail():
    deaf = held(sections_long.windowed, Deaf())
    assert [holds for what, holds in deaf.items() if "contacts" in what or "seen" in what] == [False] * 4, deaf
    abrupt = held(sections_long.windowed, Abrupt())
    assert [holds for what, holds in abrupt.items() if "click" in what or "cut" in what] == [False] * 2, abrupt


def test_a_wrong_sound_is_told_from_one_that_was_made_anew():
    some = of_kinds(sections_given.BALLS, SEEDS, given="wrong sound")
    right = [examined(order, Perfect().make(order)) for order in some]
    after, before = sections_given.redone_sound(right)
    assert after.events == before.events > 8
    assert (after.heard_share, after.seen_share) == (1, 1)
    assert max(before.heard_share, before.seen_share) < 0.5
    for order, clip in zip(some, right, strict=True):
        sound = spliced(order)
        assert np.array_equal(sound[:8000], clip.made.sound[:8000])
        assert not np.array_equal(sound[8000:24_000], clip.made.sound[8000:24_000])


def test_drift_is_that_of_the_end_against_the_start():
    rng = np.random.default_rng(0)
    frames, sound = rng.uniform(0.2, 0.6, (96, 8, 8, 3)), rng.normal(0, 0.1, 64_000)
    still = sections_long.drift_of(Made(np.tile(frames[:48], (2, 1, 1, 1)), np.tile(sound[:32_000], 2)))
    assert max(still.colour, still.contrast, still.loudness) < 1e-6
    frames[48:] = frames[:48] * 1.2 + [0.0, 0.1, 0.0]
    sound[32_000:] = sound[:32_000] / 2
    drifted = sections_long.drift_of(Made(frames, sound))
    assert drifted.colour == pytest.approx(0.1 + 0.2 * 0.4, abs=0.01)
    assert drifted.loudness == pytest.approx(6.02, abs=0.01)
    assert not drifted.small
