"""Captions of reference people: read as the engine of DreamID-Omni reads them, built from parts, with whole tags."""

from __future__ import annotations

import json

import pytest
from fusion_cases import GOLDEN
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.text.people_prompt import build, check_tags, read_caption

PROMPTS = json.loads((GOLDEN / "identity_extra.json").read_text())["prompts"]


@pytest.mark.parametrize("case", PROMPTS, ids=range(len(PROMPTS)))
@pytest.mark.parametrize("as_file", [False, True])
def test_a_caption_file_becomes_the_prompt_of_the_reference(case, as_file):
    assert read_caption(json.dumps(case["in"]) if as_file else case["in"]) == case["out"]


def test_parts_make_the_caption_that_the_reference_has_of_them():
    built = build(
        "An old fisherman with a white beard.\n\nA girl in a red scarf",
        "A harbour before dawn. The shot is an upper-body close-up.",
        "<sub1> wears a yellow oilskin.",
        "<sub1> coils a rope.",
        "1 (gruffly): The tide waits for nobody.\n<sub2>: It waited for me!",
    )
    introduced, scene, looks, actions = PROMPTS[1]["out"].split("\n")[:2], *PROMPTS[1]["out"].split("\n")[2:5]
    assert built.split("\n")[:5] == [*introduced, scene, looks, actions]
    assert built.split("\n")[5] == (
        "<sub1> says, gruffly, <S>The tide waits for nobody.<E> <sub2> says, <S>It waited for me!<E>"
    )
    assert read_caption(built) == built


@pytest.mark.parametrize(
    ("prompt", "quoted"),
    [
        ("<img1>: a man, identified as <sub2>.", "<sub2>"),
        ("<img2>: a man, identified as <sub1>.", "<img2>"),
        ("<img1>: a man, identified as <sub1>.\n<img1>: a girl, identified as <sub2>.", "<img1>"),
        ("<img1>: a man, identified as <sub1>. <sub2> waves.", "<sub2>"),
        ("<img1>: a man, identified as <sub1>. <sub3> waves.", "<sub3>"),
        ("<img1>: a man, identified as <sub1>. < sub 1> waves.", "< sub 1>"),
        ("<img1>: a man, identified as <SUB1>.", "<SUB1>"),
        ("<img1>: a man, identified as <sub>.", "<sub>"),
        ("<img0>: a man, identified as <sub1>.", "<img0>"),
        ("<sub1> waves. <img1>: a man, identified as <sub999999999>.", "<sub999999999>"),
    ],
)
def test_misnumbered_tags_are_quoted_with_their_place(prompt, quoted):
    with pytest.raises(OviError) as caught:
        check_tags(prompt, "prompt")
    assert quoted in caught.value.found
    assert "line " in caught.value.found


@pytest.mark.parametrize(
    ("people", "speech", "found"),
    [
        ("", "", "0 rows"),
        ("a\nb\nc", "", "3 rows"),
        ("a man", "2: Hello.", "a speaker 2 in row 1"),
        ("a man", "0: Hello.", "a speaker 0 in row 1"),
    ],
)
def test_people_and_speakers_are_counted(people, speech, found):
    with pytest.raises(OviError, match=r"speech|people") as caught:
        build(people, "", "", "", speech)
    assert caught.value.found == found


@pytest.mark.parametrize("text", ['"cut off', '"[A]" and more', "x" * 30_000])
def test_a_caption_that_cannot_be_read_is_refused(text):
    with pytest.raises(OviError):
        read_caption(text)
