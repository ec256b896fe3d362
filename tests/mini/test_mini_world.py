"""The procedural world: the same seed is the same clip, and sound is caused by picture."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from ovi_native.ovi_core.spec import FPS, SAMPLE_RATE, VARIANTS, ClipShape
from ovi_native.ovi_core.text.prompt import problems

from tools.mini.world.audio import bar_tone, make_sound, tick_pitch
from tools.mini.world.captions import caption
from tools.mini.world.casting import COLOURS, SHARES, draw_scene, is_held_out
from tools.mini.world.frames import draw_frames
from tools.mini.world.render import render
from tools.mini.world.scene import MATERIALS, WORDS, Ball, Bar, Face, Lamp

CLIP = ClipShape.from_seconds(96, 96, 2)


def test_a_seed_gives_the_same_bytes_again() -> None:
    first, again = (render(draw_scene(5, CLIP)) for _ in range(2))
    assert first.frames.tobytes() == again.frames.tobytes()
    assert first.sound.tobytes() == again.sound.tobytes()
    assert first.frames.tobytes() != render(draw_scene(6, CLIP)).frames.tobytes()


@pytest.mark.parametrize(("width", "height", "seconds"), [(96, 96, 2), (128, 96, 2), (96, 160, 5)])
def test_a_clip_has_the_frames_and_samples_of_the_model_s_clips(width: int, height: int, seconds: float) -> None:
    clip = ClipShape.from_seconds(width, height, seconds)
    for kind in SHARES:
        made = render(draw_scene(3, clip, kind=kind))
        assert made.frames.shape == (clip.frames, height, width, 3)
        assert made.sound.shape == (clip.samples,)
        assert made.frames.min() >= 0 <= 1 >= made.frames.max()
        assert np.abs(made.sound).max() <= 1


def test_training_never_yields_a_held_out_combination_and_the_other_split_always_does() -> None:
    train = [draw_scene(seed, CLIP, "train") for seed in range(1500)]
    held_out = [draw_scene(seed, CLIP, "held_out") for seed in range(300)]
    assert not any(is_held_out(thing) for scene in train for thing in scene.things)
    assert all(any(is_held_out(thing) for thing in scene.things) for scene in held_out)


def test_training_shows_every_single_fact() -> None:
    things = [thing for seed in range(1500) for thing in draw_scene(seed, CLIP).things]
    assert {thing.colour for thing in things if isinstance(thing, Ball)} == set(COLOURS)
    assert {thing.material for thing in things if isinstance(thing, Ball)} == set(MATERIALS)
    assert {thing.word for thing in things if isinstance(thing, Face)} == set(WORDS)
    assert {thing.motion for thing in things if isinstance(thing, Ball)} == {"floor", "walls", "float"}


def test_a_tick_begins_at_each_contact_and_nothing_sounds_before_the_first() -> None:
    for seed in range(12):
        scene = draw_scene(seed, CLIP, kind="floor")
        sound, contacts = make_sound(scene), render(scene).truth.contacts
        first = round(contacts[0] * SAMPLE_RATE)
        assert not sound[:first].any()
        for contact in contacts:
            start = round(contact * SAMPLE_RATE)
            before, after = sound[max(0, start - 160) : start], sound[start : start + 160]
            assert np.abs(after).max() > 4 * max(0.02, np.abs(before).max(initial=0))


def test_a_ball_is_on_the_floor_when_it_ticks() -> None:
    scene = draw_scene(4, CLIP, kind="floor")
    ball = scene.things[0]
    assert isinstance(ball, Ball)
    contacts = ball.contacts(2.0)
    _, y = ball.position(contacts, scene.stage, scene.width)
    np.testing.assert_allclose(y + ball.radius, scene.stage.floor, atol=1e-6)
    _, between = ball.position(contacts + ball.period / 2, scene.stage, scene.width)
    assert (between < y - 0.2).all()


def test_small_and_hard_balls_tick_higher() -> None:
    things = [thing for seed in range(400) for thing in draw_scene(seed, CLIP, kind="floor").things]
    balls = [thing for thing in things if isinstance(thing, Ball)]
    for lower, higher in pairwise(MATERIALS):
        one, other = ([tick_pitch(b) for b in balls if b.material == name] for name in (lower, higher))
        assert np.median(one) < np.median(other)
    small, large = ([tick_pitch(b) for b in balls if b.size == s and b.material == "wood"] for s in ("small", "large"))
    assert min(small) > max(large)


def test_the_hum_is_as_loud_as_the_lamp_is_bright() -> None:
    scene = draw_scene(2, CLIP, kind="lamp")
    lamp, sound = scene.things[0], make_sound(scene)
    assert isinstance(lamp, Lamp)
    power = np.sqrt(np.square(sound[: len(sound) // 512 * 512]).reshape(-1, 512).mean(axis=1))
    bright = lamp.brightness((np.arange(len(power)) + 0.5) * 512 / SAMPLE_RATE)
    assert np.corrcoef(power, bright)[0, 1] > 0.97


def test_the_tone_is_the_higher_the_further_right_the_bar() -> None:
    assert bar_tone(np.array([0.0, 0.5, 1.0])) == pytest.approx([220, 370, 622.25], abs=0.1)
    scene = draw_scene(2, CLIP, kind="bar")
    bar, sound = scene.things[0], make_sound(scene)
    assert isinstance(bar, Bar)
    middle = 1000 + np.arange(1024)
    spectrum = np.abs(np.fft.rfft(sound[middle] * np.hanning(1024), 8192))
    wanted = float(bar_tone(bar.place(middle / SAMPLE_RATE)).mean())
    assert abs(spectrum.argmax() * SAMPLE_RATE / 8192 - wanted) < 25


def test_a_face_sounds_only_while_its_mouth_is_open() -> None:
    scene = draw_scene(9, CLIP, kind="face")
    face, sound = scene.things[0], make_sound(scene)
    assert isinstance(face, Face)
    t = np.arange(len(sound)) / SAMPLE_RATE
    closed = face.opening(t) == 0
    assert np.abs(sound[closed]).max() < 0.05
    assert np.abs(sound[face.opening(t) == 1]).max() > 0.3


def test_silent_scenes_have_no_sound_at_all() -> None:
    made = render(draw_scene(1, CLIP, kind="float"))
    assert not made.truth.loud
    assert not made.sound.any()


def test_captions_are_prompts_without_fault_and_vary_in_wording() -> None:
    for seed in range(150):
        scene = draw_scene(seed, CLIP)
        texts = {caption(scene, wording) for wording in range(8)}
        assert len(texts) > 1
        for text in texts:
            assert " Audio: " in text
            assert problems(text, VARIANTS["mini"]) == []
            for thing in scene.things:
                assert thing.colour in text.lower()


def test_a_caption_quotes_what_the_face_says_as_often_as_it_says_it() -> None:
    scene = draw_scene(7, CLIP, kind="face")
    face = scene.things[0]
    assert isinstance(face, Face)
    assert f"<S>{' '.join([face.word] * len(face.starts))}<E>" in caption(scene, 0)


def test_edges_are_smooth() -> None:
    """A ball moved by a tenth of a pixel changes the picture: positions are not rounded to pixels."""
    scene = draw_scene(4, CLIP, kind="float")
    frames = render(scene).frames
    assert (np.abs(np.diff(frames, axis=0)).max(axis=(1, 2, 3)) > 0).mean() > 0.9
    assert scene.frame_times()[1] == 1 / FPS


def test_single_frames_are_those_of_the_clip() -> None:
    for kind in SHARES:
        scene = draw_scene(8, CLIP, kind=kind)
        times = scene.frame_times()[[3, 30]]
        np.testing.assert_allclose(draw_frames(scene, times), draw_frames(scene)[[3, 30]], atol=1e-5)
