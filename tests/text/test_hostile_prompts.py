"""Prompts that hide their tags, that are endless, or that are anything at all."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.spec import VARIANTS
from ovi_native.ovi_core.text import prompt
from ovi_native.ovi_core.text.prompt import LONGEST_PROMPT, clean, format_for, problems, speech_lines
from ovi_native.ovi_core.text.prompt_builder import build

TAGGED, PLAIN = VARIANTS["720x720_5s"], VARIANTS["960x960_10s"]
PARTS = (
    "<S>",
    "<E>",
    "<AUDCAP>",
    "<ENDAUDCAP>",
    "Audio:",
    "Audio：",
    "<",
    ">",
    "&lt;",
    "\u200b",
    " ",
    "\n",
    "Ann: ",
    "(",
    "a",
    "＜Ｓ＞",
)


@pytest.mark.parametrize("label", ["Audio:", "Audio：", "Ａｕｄｉｏ：", "Audio&colon;", "Audio&#58;"])
def test_a_caption_is_converted_however_its_label_is_written(label):
    assert format_for(clean(f"Rain. {label} drops"), TAGGED) == "Rain. <AUDCAP>drops<ENDAUDCAP>"


@pytest.mark.parametrize("mark", ["\u200b", "\u200d", "\u2060", "\u00ad"])
@pytest.mark.parametrize("tag", ["<S>", "<E>", "<AUDCAP>", "<ENDAUDCAP>"])
def test_a_tag_with_an_invisible_character_inside_is_noticed(mark, tag):
    hidden = tag[0] + mark + tag[1:]
    found = [problem for problem in problems(f"She says {hidden}hi", PLAIN) if "is not a tag of Ovi" in problem.found]
    assert len(found) == 1
    assert found[0].position == len("She says ")
    assert f"U+{ord(mark):04X}" in found[0].found


def test_a_byte_order_mark_inside_a_tag_is_cleaned_away():
    assert clean("<\ufeffS>hi<E>") == "<S>hi<E>"
    assert problems("<\ufeffS>hi<E>", PLAIN) == []


def test_a_label_with_an_invisible_character_inside_is_noticed():
    (found,) = problems("Rain. Aud\u200bio: drops", PLAIN)
    assert found.severity == "error"
    assert "U+200B" in found.found


def test_invisible_characters_of_a_script_stay():
    persian = "می\u200cروم"
    assert problems(f"<S>{persian}<E>", PLAIN) == []
    assert speech_lines(f"<S>{persian}<E>") == [persian]


class Counted(str):
    """A text that counts how much of it is searched."""

    searched = 0

    def find(self, *args):
        end = super().find(*args)
        Counted.searched += (len(self) if end < 0 else end) - args[1]
        return end


@pytest.mark.parametrize("text", ["<S>" * 4000, "<S>a<E>" * 2000, "<S>" * 2000 + "<E>" * 2000, "<AUDCAP>" * 1500])
def test_no_part_of_a_text_is_searched_again_and_again(text):
    for opener in ("<S>", "<AUDCAP>"):
        Counted.searched = 0
        list(prompt._enclosed(Counted(text), opener))
        assert Counted.searched <= 3 * len(text)


@pytest.mark.parametrize(
    "text", ["<S>" * 4000, "<" * 12_000, "<" + " " * 12_000, "[ /" * 4000, "<S" + " " * 12_000 + ">"]
)
def test_endless_tags_are_reported_each_once(text):
    assert len(problems(text, PLAIN)) <= text.count("<S>")


@pytest.mark.parametrize("variant", [TAGGED, PLAIN])
@pytest.mark.parametrize("field", ["scene", "speech", "audio_caption"])
@pytest.mark.parametrize("value", ["a" * (LONGEST_PROMPT + 1), None, 5, ["a"]])
def test_what_is_far_too_long_or_no_text_is_refused(variant, field, value):
    fields = {"scene": "A pier.", "speech": "Hi.", "audio_caption": "Waves.", field: value}
    with pytest.raises(OviError) as caught:
        build(**fields, variant=variant)
    assert caught.value.input == field


@given(text=st.one_of(st.text(max_size=200), st.lists(st.sampled_from(PARTS), max_size=60).map("".join)))
def test_any_text_is_read_or_refused(text):
    for variant in (TAGGED, PLAIN):
        for problem in problems(text, variant):
            assert "\n" not in problem.quote
            assert 0 <= problem.position <= len(text)
        format_for(clean(text), variant)
        with contextlib.suppress(OviError):
            build(text, "", "", variant)
        with contextlib.suppress(OviError):
            build("A pier.", text, text, variant)
