"""The script of a storyboard: what is read from it, and that every mistake is reported with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.spec import VARIANTS
from ovi_native.ovi_core.story.script import HIGHEST_SEED, LONGEST_SHOT, MOST_SHOTS, Shot, parse
from ovi_native.ovi_core.text.prompt_builder import build

SCRIPT = """\ufeff# The lighthouse
seed: 7
sound: gulls,
  waves against wood

Shot 1: 5 s
scene: A woman in a red coat
stands on a pier.
speech:
The woman: Good morning.

  # to be checked
The sailor (in French): Bonjour.
  Sound: a name, for it is indented
guidance: 4, 3
picture: pier.png

shot 2.5 seconds, go on
Scene: She turns round.

SHOT, cut
scene: Night.
seed: 18446744073709551615
sound:
"""
SPEECH = ["The woman: Good morning.", "", "", "The sailor (in French): Bonjour.", "Sound: a name, for it is indented"]


def test_a_script_is_read():
    first, second, third = parse(SCRIPT)
    assert first == Shot(
        line=6,
        seconds=5.0,
        goes_on=False,
        scene="A woman in a red coat stands on a pier.",
        speech="\n" * 9 + "\n".join(SPEECH),
        sound="gulls, waves against wood",
        picture="pier.png",
        seed=7,
        guidance=(4.0, 3.0),
    )
    assert second == Shot(18, 2.5, True, "She turns round.", "", "gulls, waves against wood", "", None, None)
    assert third == Shot(21, None, False, "Night.", "", "", "", 2**64 - 1, None)


def test_the_documented_example_is_one():
    page = (Path(__file__).parents[2] / "docs" / "storyboard.md").read_text(encoding="utf-8")
    shots = parse(page.split("```")[1])
    assert [(shot.seconds, shot.goes_on) for shot in shots] == [(5.0, False), (5.0, True), (10.0, False)]
    assert [shot.seed for shot in shots] == [7, None, 12]
    assert shots[2].picture == "lighthouse.png"


def test_lines_of_speech_are_counted_as_in_the_script():
    shot = parse(SCRIPT)[0]
    _, report = build(shot.scene, shot.speech, shot.sound, VARIANTS["960x960_5s"])
    assert "Line 10, The woman" in report
    assert "Line 13, The sailor" in report


@pytest.mark.parametrize("heading", ["shot 5", "shot 5s", "SHOT 5 sec,", "shot: 5.0 seconds", "shot 7: 5 s, cut"])
def test_a_length_may_be_written_in_several_ways(heading):
    shot = parse(f"{heading}\nscene: x")[0]
    assert (shot.seconds, shot.goes_on) == (5.0, False)


def test_above_the_first_shot_stands_what_holds_for_all():
    a, b, c = parse("scene: A\npicture: p.png\nseed: 3\nguidance: 1 1\nshot\nshot, go on\nscene: B\nshot\nseed: 4")
    assert [shot.scene for shot in (a, b, c)] == ["A", "B", "A"]
    assert [shot.picture for shot in (a, b, c)] == ["p.png", "", "p.png"]
    assert [shot.seed for shot in (a, b, c)] == [3, None, 4]
    assert {shot.guidance for shot in (a, b, c)} == {(1.0, 1.0)}


@pytest.mark.parametrize(
    ("script", "found", "remedy"),
    [
        ("", "no shot", "shot 5 s"),
        ("scene: a pier", "no shot", "shot 5 s"),
        ("shot 5 s\nA pier.", '"A pier.", which belongs to no field, in line 2', "scene:"),
        ("shot 5 s\nscene: x\nsceen: y", "'sceen:', which is no field, in line 3", "Write 'scene:'"),
        ("shot 5 s\nscene: x\nCamera: slow", "'Camera:', which is no field, in line 3", "begin the line with a blank"),
        ("shot 5 s\nscene: x\nspeech: hi\nsounds: y", "'sounds:', which is no field, in line 4", "Write 'sound:'"),
        ("shot 5 s\nscene: x\nscene: y", "a second 'scene:' in line 3", "Make one of both"),
        ("shot 5 s\nscene: x\nseed: 1\nmore", '"more", which belongs to no field, in line 4', "#"),
        ("shot five\nscene: x", "\"five\" behind 'shot' in line 1", "heading"),
        ("shot 5 s, 6 s\nscene: x", "\"6 s\" behind 'shot' in line 1", "heading"),
        ("shot 5 s, cut, go on\nscene: x", "\"go on\" behind 'shot' in line 1", "heading"),
        ("shot 0 s\nscene: x", "a length of 0 s in line 1", "shot 5 s"),
        ("\nshot 5 s, go on\nscene: x", "'go on' in line 2", "first shot"),
        ("shot\nscene: x\nshot, go on\nscene: y\npicture: p.png", "a picture for a shot that goes on in line 5", "cut"),
        ("shot\nscene: x\n\nshot 5 s\nspeech: hi", "a shot without a scene in line 4", "scene:"),
        ("shot\nscene: x\nseed: -1", 'the seed "-1" in line 3', "seed: 7"),
        ("shot\nscene: x\nseed: 18446744073709551616", "the seed", "seed: 7"),
        ("shot\nscene: x\nguidance: 4", 'the guidance "4" in line 3', "guidance: 4, 3"),
        ("shot\nscene: x\nguidance: 4, nan", 'the guidance "4, nan" in line 3', "guidance: 4, 3"),
        ("shot\nscene: x\nguidance: 4, 31", "the guidance", "guidance: 4, 3"),
    ],
)
def test_a_mistake_is_told_with_its_line(script, found, remedy):
    with pytest.raises(OviError) as caught:
        parse(script)
    error = caught.value
    assert error.input == "script"
    assert found in error.found
    assert remedy in error.remedy
    assert error.accepted
    assert len(str(error)) < 500


# -- bounds


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("shot 9999999999999 s\nscene: x", "a length of 1e+13 s in line 1"),
        ("shot 60.1 s\nscene: x", "a length of 60.1 s in line 1"),
        (f"shot {'9' * 5000} s\nscene: x", "a length of inf s in line 1"),
        (f"shot 0.{'0' * 5000}1 s\nscene: x", "a length of 0 s in line 1"),
        (f"shot\nscene: x\nseed: {'9' * 5000}", "the seed"),
        (f"shot\nscene: x\nseed: 1{'0' * 20}", "the seed"),
        (f"shot\nscene: x\nguidance: {'9' * 5000}, 1", "the guidance"),
        ("shot\nscene: x\nguidance: 1e400, 1", "the guidance"),
        ("shot\nscene: x\n" * (MOST_SHOTS + 1), "a shot number 1,001 in line 2001"),
        (f"shot\nscene: {'x' * 5001}", "'scene:' of 5,001 characters in line 2"),
        ("shot\nscene: x\nspeech:\n" + f" {'y' * 99}\n" * 60, "'speech:' of 5,940 characters in line 3"),
        (f"shot\nscene: x\npicture: {'y' * 5001}", "'picture:' of 5,001 characters"),
        (f"scene: {'x' * 5000}\n" + "shot\n" * 201, "too much text in line 202"),
        ("\n" * 10_001 + "shot\nscene: x", "10,003 lines"),
        ("x" * 500_001, "500,001 characters"),
        ("shot\nscene: a\ud800b", "half of a character in line 2"),
    ],
)
def test_numbers_and_sizes_have_upper_bounds(script, found):
    with pytest.raises(OviError) as caught:
        parse(script)
    assert found in caught.value.found
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)


def test_the_bounds_themselves_are_taken():
    (shot,) = parse(f"shot {LONGEST_SHOT:g} s\nscene: {'x' * 5000}\nseed: {'0' * 5000}{HIGHEST_SEED}")
    assert (shot.seconds, shot.seed, len(shot.scene)) == (60.0, HIGHEST_SEED, 5000)
    assert len(parse("shot\nscene: x\n" * MOST_SHOTS)) == MOST_SHOTS


@pytest.mark.parametrize(
    "row",
    [
        "shot" + " " * 490_000 + "x",
        "shot" + "7" * 490_000 + "x",
        "shot " + "5" * 490_000,
        "shot" + "," * 490_000,
        "scene" + " " * 490_000 + "x",
        "a" + " " * 490_000 + "x",
        "shot\nscene: x\nseed: " + "0" * 490_000 + "x",
        "shot\nscene: x\nguidance: " + "1 " * 240_000,
        "\t" * 490_000,
    ],
)
def test_a_long_row_is_read_at_once(row):
    """In linear time: a quadratic pattern would take minutes here, and longer than CI waits."""
    with pytest.raises(OviError):
        parse(row)


HEADINGS = ["shot", "shot 5 s", "shot 1 s, go on", "SHOT: 2, cut", "shot 3:", "# x", "", "  go on", "scene: A."]
NAMES = ["scene", "speech", "sound", "seed", "guidance", "picture", "Sceen"]
ROWS = st.one_of(
    st.sampled_from(HEADINGS),
    st.tuples(st.sampled_from(NAMES), st.text(max_size=20)).map(": ".join),
    st.text(max_size=30),
)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(ROWS, max_size=12).map("\n".join))
@example("shot\x0bscene: x")
@example("\ufeff" * 3 + "shot\nscene: x")
@example("shot ٥ s\nscene: x\nseed: ٧")
def test_any_text_is_a_script_or_an_error_in_one_line(text):
    shots, problem = [], None
    try:
        shots = parse(text)
    except OviError as error:
        problem = error
    assert (problem is None) == bool(shots)
    if problem:
        assert problem.input == "script"
        assert "\n" not in str(problem)
        return
    assert not shots[0].goes_on
    for shot in shots:
        assert shot.scene
        assert shot.seconds is None or 0 < shot.seconds <= LONGEST_SHOT
        assert shot.seed is None or 0 <= shot.seed <= HIGHEST_SEED
