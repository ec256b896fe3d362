"""Prompts: the reference's conversion and cleaning, and what an artist is told about a prompt that would be misread."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ovi_native.ovi_core.spec import VARIANTS
from ovi_native.ovi_core.text.prompt import clean, format_for, problems, speech_lines, speech_seconds

ROOT = Path(__file__).resolve().parents[2]
PROMPTS = json.loads((ROOT / "tests" / "golden" / "prompts.json").read_text())
TEN, FIVE, TAGGED = VARIANTS["960x960_10s"], VARIANTS["960x960_5s"], VARIANTS["720x720_5s"]


def found(prompt, variant=FIVE, seconds=None):
    return [(problem.severity, problem.found) for problem in problems(prompt, variant, seconds)]


@pytest.mark.parametrize("case", PROMPTS, ids=lambda case: f"{case['variant']}-{case['prompt'][:20]}")
def test_captions_are_converted_as_the_reference_does(case):
    assert format_for(case["prompt"], VARIANTS[case["variant"]]) == case["formatted"]


def test_the_mini_weights_read_captions_as_the_960_weights_do():
    assert format_for("Rain. <AUDCAP>heavy\nrain<ENDAUDCAP>", VARIANTS["mini"]) == "Rain. Audio: heavy\nrain"


def test_outer_blanks_stay_out_of_the_caption():
    assert format_for("\n Rain. Audio: heavy rain\n", TAGGED) == "Rain. <AUDCAP>heavy rain<ENDAUDCAP>"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  a\n\tb \u3000 c\u00a0d ", "a b c d"),
        ("schÃ¶n", "schön"),
        ("it\u2019s \u201cfine\u201d", 'it\'s "fine"'),
        ("Tom &amp;amp; Ann &lt;3", "Tom & Ann <3"),
        ("a\u2028b&nbsp;&nbsp;c", "a b c"),
        ("\uff33\uff0c\ufb01", "S,fi"),
        (r"(a:1.2) \( embedding:b", r"(a:1.2) \( embedding:b"),
        ("", ""),
    ],
)
def test_text_is_cleaned_as_the_reference_does(text, cleaned):
    """Expected texts come from the reference's own cleaning."""
    assert clean(text) == cleaned


def test_loading_the_pack_does_not_wait_for_ftfy():
    script = """
import sys, types
sys.modules["pack"] = types.ModuleType("pack")
sys.modules["pack"].__path__ = ["ovi_core"]
import pack.text.prompt
sys.exit("ftfy" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("case", PROMPTS, ids=lambda case: f"{case['variant']}-{case['prompt'][:20]}")
def test_prompts_of_the_reference_hold_no_error(case):
    assert not [p for p in problems(case["prompt"], VARIANTS[case["variant"]]) if p.severity == "error"]


@pytest.mark.parametrize(
    "prompt",
    [
        "a < b and c > d, if a <b and c> d",
        "i <3 u, 5 < x < 7, a < s > b, x<y>z, <html>, <whisper>",
        "a man (S) holds [1] a {cup}, [a sign] (E) [audio] [end] [e] \\(escaped\\)",
        "arrows -> <- <-> => <= >= and </> and <> and <S and E>",
        "the <audience> sees an email <anna@example.org>",
    ],
)
def test_ordinary_text_is_left_alone(prompt):
    for variant in VARIANTS.values():
        assert problems(prompt, variant) == []


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("<s>", "<S>"),
        ("< S >", "<S>"),
        ("<SPEECH>", "<S>"),
        ("<speech>", "<S>"),
        ("[S]", "<S>"),
        ("{S}", "<S>"),
        ("<S]", "<S>"),
        ("<e>", "<E>"),
        ("</S>", "<E>"),
        ("</s>", "<E>"),
        ("<\\S>", "<E>"),
        ("<S/>", "<E>"),
        ("</E>", "<E>"),
        ("<E/>", "<E>"),
        ("[E]", "<E>"),
        ("[/S]", "<E>"),
        ("</SPEECH>", "<E>"),
        ("<END_SPEECH>", "<E>"),
        ("<AUD>", "<AUDCAP>"),
        ("<audcap>", "<AUDCAP>"),
        ("<AUDCAP/>", "<AUDCAP>"),
        ("<AUDIO>", "<AUDCAP>"),
        ("<Audio Caption>", "<AUDCAP>"),
        ("<AUDCPA>", "<AUDCAP>"),
        ("[AUDCAP]", "<AUDCAP>"),
        ("&lt;AUDCAP&gt;", "<AUDCAP>"),
        ("＜AUDCAP＞", "<AUDCAP>"),
        ("</AUDCAP>", "<ENDAUDCAP>"),
        ("<AUDCAPEND>", "<ENDAUDCAP>"),
        ("<END AUDCAP>", "<ENDAUDCAP>"),
        ("</ENDAUDCAP>", "<ENDAUDCAP>"),
        ("<endaudcap>", "<ENDAUDCAP>"),
        ("<ENDAUDCP>", "<ENDAUDCAP>"),
    ],
)
def test_a_misspelt_tag_is_one_error_that_says_which_tag_is_meant(written, meant):
    right = "She says <S>hello<E> softly. <AUDCAP>rain<ENDAUDCAP>"
    prompt = right.replace(meant, written)
    (problem,) = problems(prompt, TAGGED)
    assert problem.severity == "error"
    assert problem.found == f"{written} is not a tag of Ovi"
    assert problem.remedy.startswith(f"Write {meant} ")
    assert prompt[problem.position :].startswith(written)
    assert f"»{written}«" in problem.quote
    assert all(part in problem.message for part in (problem.found, problem.quote, problem.remedy))


@pytest.mark.parametrize(
    ("prompt", "error", "place", "remedy"),
    [
        ("He says <S>hello.", "<S> is never closed", 8, "Write <E> after the last spoken word."),
        ("He says hello.<E> Bye.", "<E> without a <S>", 14, "Write <S> before the first spoken word, or delete"),
        ("<S>a <S>b<E>", "<S> inside a <S> that is still open", 5, "Write <E> before it, or in its place."),
        ("<S>a <S>b<E> c<E>", "<S> inside a <S> that is still open", 5, "Write <E> before it"),
        ("<S>a <AUDCAP>b<ENDAUDCAP><E>", "<AUDCAP> inside a <S> that is still open", 5, "Write <E> before it"),
        ("Rain. <AUDCAP>drops", "<AUDCAP> is never closed", 6, "Write <ENDAUDCAP> after the caption"),
        ("<AUDCAP>a <S>b<E> c", "<S> inside a <AUDCAP> that is still open", 10, "Write <ENDAUDCAP> before it"),
        ("Rain.<ENDAUDCAP>", "<ENDAUDCAP> without a <AUDCAP>", 5, "Write <AUDCAP> before the caption"),
        ("<S>hello<ENDAUDCAP>", "<ENDAUDCAP> where <S> is open", 8, "Write <E> instead."),
    ],
)
def test_one_fault_in_the_tags_is_one_error_at_its_place(prompt, error, place, remedy):
    (problem,) = problems(prompt, TAGGED)
    assert (problem.severity, problem.found, problem.position) == ("error", error, place)
    assert problem.remedy.startswith(remedy)


def test_faults_are_reported_in_order_of_place():
    assert found("hi<E> <S>a <S>b<E> <s>c</s> <AUDCAP>d") == [
        ("error", "<E> without a <S>"),
        ("error", "<S> inside a <S> that is still open"),
        ("error", "<s> is not a tag of Ovi"),
        ("error", "</s> is not a tag of Ovi"),
        ("error", "<AUDCAP> is never closed"),
    ]


def test_tags_that_cleaning_repairs_are_accepted():
    assert found("&lt;S&gt;hi&lt;E&gt; ＜S＞hi＜E＞") == []


def test_a_quote_is_short_and_on_one_line():
    (problem,) = problems("x" * 200 + "\n\n<S>" + "y" * 200, FIVE)
    assert problem.quote == "…" + "x" * 22 + " »<S>«" + "y" * 24 + "…"


def test_speech_is_what_stands_between_its_tags():
    assert speech_lines("A <S> one\ntwo <E> B <S>three<E>. <AUDCAP>four<ENDAUDCAP>") == ["one\ntwo", "three"]
    assert speech_lines("no speech") == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 0.0),
        ("one two three four five", 2.0),
        ("It's well-known — isn't it?!", 1.6),
        ("नमस्ते आप कैसे हैं दोस्त", 2.0),
        ("今日はいい天気です", 2.0),
        ("안녕하세요 여러분 반갑습니다 오늘은 좋아요", 2.0),
        ("hello world 你好，世界再见了吧啊！", 0.8 + 2.0),
        ("... — ?", 0.0),
    ],
)
def test_time_to_say_a_text(text, seconds):
    """Words counted by hand, at 2.5 a second; Chinese characters and kana at 4.5 a second."""
    assert speech_seconds(text) == pytest.approx(seconds)


def test_speech_that_runs_over_the_clip_is_quoted_where_it_runs_over():
    prompt = "He says <S>" + "one " * 10 + "<E> and she says <S>" + "two " * 8 + "<E> and <S>bye<E>"
    assert found(prompt, TEN) == []
    (problem,) = problems(prompt, FIVE)
    assert (problem.severity, problem.found) == ("warning", "about 7.6 s of speech for a clip of 5 s")
    assert problem.position == prompt.index("<S>two")
    assert "12 words" in problem.remedy
    assert found(prompt, FIVE, 8.0) == []


@pytest.mark.parametrize(
    ("prompt", "warning"),
    [
        ("He says <S> \n<E> and goes", "nothing is said here"),
        ("Rain. Audio: drops. Audio: thunder", "2 captions of the audio"),
        ("Rain. <AUDCAP>drops<ENDAUDCAP> Audio: thunder", "2 captions of the audio"),
        ("Audio: drops. He says <S>hi<E>", "<S> after Audio: is read as part of the caption of the audio"),
        ("<S>Audio: check<E>", "<E> after Audio: is read as part of the caption of the audio"),
    ],
)
def test_what_can_be_read_but_hardly_meant_is_a_warning(prompt, warning):
    for variant in (FIVE, TAGGED):
        assert found(prompt, variant) == [("warning", warning)]
