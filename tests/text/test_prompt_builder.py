"""The prompt builder: fields to the prompts that the reference reads, and what its report tells about them."""

import json
from pathlib import Path

import pytest
import safetensors.torch
from ovi_native.nodes.clips import OviPromptBuilder
from ovi_native.nodes.conditioning import OviTextEncode
from ovi_native.ovi_core.spec import VARIANTS
from ovi_native.ovi_core.text.prompt import format_for, problems, speech_lines, speech_seconds
from ovi_native.ovi_core.text.umt5 import read_text_encoder
from refusals import refusal

from tools import standins

PROMPTS = json.loads((Path(__file__).parents[1] / "golden" / "prompts.json").read_text())
MODEST = "Ovi was trained mostly on English; other languages come out less surely."


def build(scene="", speech="", audio_caption="", variant="960x960_5s"):
    """The prompt, and the lines of the report."""
    prompt, report = OviPromptBuilder.execute(scene, speech, audio_caption, variant).result
    return prompt, report.splitlines()


def prompt_of(*fields, **settings):
    return build(*fields, **settings)[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_fields_become_the_references_own_prompt(variant):
    golden = "A man at a desk. He says, <S>Hello there, world.<E> Audio: Calm male voice, room tone."
    formatted = {case["variant"]: case["formatted"] for case in PROMPTS if case["prompt"] == golden}
    fields = ("A man at a desk.", "He: Hello there, world.", "Calm male voice, room tone.")
    assert prompt_of(*fields, variant=variant) == formatted.get(variant, golden)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "fields",
    [
        ("Two people < 3 m apart (at 5:30)", "Anna (softly): Hi!\nBob: 你好\n: a (b) c: d", "rain,\nthunder"),
        ("", "Hello", ""),
        ("", "", "rain"),
        ("He says <S>hi<E> and goes. [a sign] {cup}", "She replies: bye", ""),
        ("A pier.\n\nFog.", "", "gulls"),
        ("", "", ""),
    ],
)
def test_a_built_prompt_is_well_formed_and_final(fields, variant):
    prompt = prompt_of(*fields, variant=variant)
    assert problems(prompt, VARIANTS[variant]) == []
    assert format_for(prompt, VARIANTS[variant]) == prompt
    assert prompt == prompt.strip()


@pytest.mark.parametrize(
    ("speech", "written"),
    [
        ("The woman in red: Good morning.", "The woman in red says, <S>Good morning.<E>"),
        ("Anna (whispering, in French): Bonjour.", "Anna says, whispering, in French, <S>Bonjour.<E>"),
        ("Anna: (softly) Hello.", "Anna says, softly, <S>Hello.<E>"),
        ("Anna (smiling): (softly) Hello.", "Anna says, smiling, softly, <S>Hello.<E>"),
        ("The children shout: Hurray!", "The children shout, <S>Hurray!<E>"),
        ("Anna whispers in French: Oui.", "Anna whispers in French, <S>Oui.<E>"),
        ("The man who speaks French: Oui.", "The man who speaks French says, <S>Oui.<E>"),
        ('Anna: "Good morning."', "Anna says, <S>Good morning.<E>"),
        ('Anna: "Good" is "bad"', 'Anna says, <S>"Good" is "bad"<E>'),
        ("  Anna :  Good   morning. ", "Anna says, <S>Good morning.<E>"),
        ("小明（smiling）：走吧", "小明 says, smiling, in Chinese, <S>走吧<E>"),
        ("Hello.", "The person says, <S>Hello.<E>"),
        (": Listen: the wind.", "The person says, <S>Listen: the wind.<E>"),
        (": (one) two", "The person says, <S>(one) two<E>"),
        ("It is 5:30 now", "The person says, <S>It is 5:30 now<E>"),
        ("See you :)", "The person says, <S>See you :)<E>"),
    ],
)
def test_a_row_is_a_speaker_a_manner_and_words(speech, written):
    assert prompt_of("", speech) == written


def test_rows_without_a_speaker_go_on_with_the_last_one():
    speech = "Hm.\nAnna (in French): Oui.\n\nNon.\n(softly): Si.\nThe twins shout: No!\nNever!\nAnna: Well."
    prompt, report = build("", speech)
    assert prompt == (
        "The person says, <S>Hm.<E> Anna says, in French, <S>Oui.<E> Anna says, in French, <S>Non.<E> "
        "Anna says, softly, <S>Si.<E> The twins shout, <S>No!<E> The twins shout, <S>Never!<E> Anna says, <S>Well.<E>"
    )
    assert report[0] == "7 spoken lines, 3 speakers (The person, Anna, The twins)."
    assert 'Line 4, Anna: about 0.4 s, "Non."' in report


@pytest.mark.parametrize(
    ("scene", "prompt"),
    [
        ("A woman looks up and says", "A woman looks up and says <S>Hi.<E>"),
        ("She turns to him:", "She turns to him: <S>Hi.<E>"),
        ("A man on a pier in the morning", "A man on a pier in the morning. The person says, <S>Hi.<E>"),
        ("A man on a pier!", "A man on a pier! The person says, <S>Hi.<E>"),
    ],
)
def test_a_scene_that_leads_up_to_the_words_introduces_them(scene, prompt):
    assert prompt_of(scene, "Hi.") == prompt


def test_the_report_counts_words_against_the_clip():
    speech = "Anna: " + "one " * 10 + "\nBob: two three"
    assert build("Fog. He says <S>four five six<E>", speech, "rain")[1][:5] == [
        "3 spoken lines, 2 speakers (Anna, Bob).",
        "About 6.0 s of speech for 5 s: about 1.0 s too long.",
        'In the scene: about 1.2 s, "four five six"',
        'Line 1, Anna: about 4.0 s, "one one one one one one one one one one"',
        'Line 2, Bob: about 0.8 s, "two three"',
    ]
    assert build("", speech, variant="960x960_10s")[1][1] == "About 4.8 s of speech for 10 s: about 5.2 s left."


def test_speech_that_is_too_long_brings_the_warning_of_the_prompt():
    prompt, report = build("", "Anna: " + "one " * 18, "rain")
    (problem,) = problems(prompt, VARIANTS["960x960_5s"])
    assert problem.severity == "warning"
    assert problem.found == "about 7.2 s of speech for a clip of 5 s"
    assert report[-1] == f"Warning: {problem.message}"


def test_the_reports_seconds_are_those_of_the_prompt():
    prompt, report = build("He says <S>hi<E>.", "Anna: 今日はいい天気です\nBob: Well, hello there")
    total = sum(map(speech_seconds, speech_lines(prompt)))
    assert report[1].startswith(f"About {total:.1f} s of speech for 5 s")


@pytest.mark.parametrize(
    ("words", "language"),
    [
        ("你好，世界", "Chinese"),
        ("東京へ行きましょう", "Japanese"),
        ("カタカナ", "Japanese"),
        ("ｶﾀｶﾅ", "Japanese"),
        ("안녕하세요", "Korean"),
        ("Καλημέρα", "Greek"),
        ("שלום", "Hebrew"),
        ("สวัสดี", "Thai"),
    ],
)
def test_a_language_with_letters_of_its_own_is_named_in_the_prompt(words, language):
    prompt, report = build("", f"Anna: {words}")
    assert prompt == f"Anna says, in {language}, <S>{words}<E>"
    assert f"Line 1: the prompt names the language, in {language}." in report
    assert MODEST in report
    named = prompt_of("", f"Anna (in her Cantonese): {words}")
    assert named == f"Anna says, in her Cantonese, <S>{words}<E>"
    assert prompt_of("", f"Anna (in {language.lower()}): {words}") == f"Anna says, in {language.lower()}, <S>{words}<E>"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("Привет, как дела", "Line 1 is in Cyrillic letters. Name its language"),
        ("مرحبا", "Line 1 is in Arabic letters. Name its language"),
        ("नमस्ते", "Line 1 is in Devanagari letters. Name its language"),
        ("¿Qué pasa?", "Line 1: if this is not English, name its language"),
    ],
)
def test_a_language_that_cannot_be_told_is_asked_for_and_not_guessed(words, hint):
    prompt, report = build("", f"Anna: {words}")
    assert prompt == f"Anna says, <S>{words}<E>"
    assert [line for line in report if line.startswith(hint)]
    assert MODEST in report
    answered = build("", f"Anna (in Uzbek): {words}")[1]
    assert "Line 1: the prompt names the language, in Uzbek." in answered
    assert not [line for line in answered if line.startswith(hint)]


def test_english_brings_no_word_about_languages():
    report = build("", "Anna: Hello there.\nBob (in English): Café.", "rain")[1]
    assert len(report) == 4


def test_a_foreign_word_does_not_make_a_line_foreign():
    assert prompt_of("", "Anna: Say 你 to her.") == "Anna says, <S>Say 你 to her.<E>"


def test_times_of_languages_without_blanks_are_said_to_be_too_short():
    assert "Line 1 has no blanks between words, so its time is underestimated." in build("", "Anna: สวัสดีครับ")[1]


def test_empty_fields_are_told():
    assert build() == ("", ["The prompt is empty: video and audio are left to Ovi."])
    assert build("Rain.")[1] == ["No speech: 5 s without words.", "No audio caption: the audio is left to Ovi."]
    assert build(" \n", " \n ", "rain") == ("Audio: rain", ["No speech: 5 s without words."])


@pytest.mark.parametrize("name", ["I told you. Listen", "When I was a child we used to live by the sea"])
def test_words_that_were_taken_for_a_speaker_are_pointed_out(name):
    (warning,) = [line for line in build("", f"{name}: the wind.")[1] if line.startswith("Warning")]
    assert name[:40] in warning
    assert "begin the line with a colon" in warning
    assert prompt_of("", f": {name}: the wind.") == f"The person says, <S>{name}: the wind.<E>"


def test_titles_and_initials_are_names():
    report = build("", "Mr. Smith: One.\nDr. J. Doe: Two.", "rain")[1]
    assert report[0] == "2 spoken lines, 2 speakers (Mr. Smith, Dr. J. Doe)."
    assert len(report) == 4


def test_a_missing_speaker_is_pointed_out_once():
    assert len([line for line in build("", "Hi.\nHo.")[1] if "names no speaker" in line]) == 1
    assert not [line for line in build("", "Anna: Hi.\nHo.")[1] if "names no speaker" in line]


WRITES_THEM = "Delete the tags: the node writes them."
LABEL = "Describe the audio in audio_caption, without Audio: in it."
WRONG = [
    ("scene", "A man says <S>hi.", '<S> is never closed: "A man says »<S>«hi."', "Write <E> after the last"),
    ("scene", "A man says <s>hi<E>", '<s> is not a tag of Ovi: "A man says »<s>«hi<E>"', "Write <S> before the first"),
    ("scene", "hi <S\n/>", "<S /> is not a tag of Ovi", "Write <S> before the first"),
    ("scene", "Rain. Audio: drops", 'a caption of the audio: "Rain. Audio: drops"', "Move the caption to audio_"),
    ("scene", "<AUDCAP>drops<ENDAUDCAP>", 'a caption of the audio: "<AUDCAP>drops', "Move the caption to audio_"),
    ("speech", "Hi.\nAnna: <S>Hi<E>", 'a tag in line 2: "Anna: <S>Hi<E>"', WRITES_THEM),
    ("speech", "Anna <S>: Hi", 'a tag in line 1: "Anna <S>: Hi"', WRITES_THEM),
    ("speech", "Anna (<S>a<E>): Hi", 'a tag in line 1: "Anna (<S>a<E>): Hi"', WRITES_THEM),
    ("speech", "\nAnna: Hi</S> you", 'a tag in line 2: "Anna: Hi</S> you"', WRITES_THEM),
    ("speech", "Hi<E> you", 'a tag in line 1: "Hi<E> you"', WRITES_THEM),
    ("speech", "Hi &lt;S&gt;you&lt;E&gt;", "a tag in line 1", WRITES_THEM),
    ("speech", "Hi <AUDCAP>rain<ENDAUDCAP>", "a tag in line 1", WRITES_THEM),
    ("speech", "so " * 30 + "<S>hi<E>", 'a tag in line 1: "… so so', WRITES_THEM),
    ("speech", "Audio: rain", 'Audio:, which begins the caption of the audio, in line 1: "Audio: rain"', LABEL),
    ("speech", "Anna: Audio: check", 'in line 1: "Anna: Audio: check"', LABEL),
    ("speech", "Hi.\n\nAnna (softly): ", 'no words in line 3: "Anna (softly):"', "or delete the line."),
    ("speech", 'Anna: ""', "no words in line 1", "Write what is said after the colon"),
    ("speech", "Anna: (softly)", "no words in line 1", "Write what is said after the colon"),
    ("audio_caption", "Audio: rain", 'in the caption: "Audio: rain"', LABEL),
    ("audio_caption", "<AUDCAP>rain<ENDAUDCAP>", 'a tag in the caption: "<AUDCAP>rain<ENDAUDCAP>"', WRITES_THEM),
    ("audio_caption", "rain <S>hi<E>", 'a tag in the caption: "rain <S>hi<E>"', WRITES_THEM),
    ("audio_caption", "rain </AUDCAP>", 'a tag in the caption: "rain </AUDCAP>"', WRITES_THEM),
]


@pytest.mark.parametrize("variant", ["960x960_10s", "720x720_5s"])
@pytest.mark.parametrize(("field", "text", "found", "remedy"), WRONG)
def test_tags_typed_into_a_field_are_refused_and_quoted(field, text, found, remedy, variant):
    fields = {"scene": "A pier.", "speech": "Anna: Hi.", "audio_caption": "rain", "variant": variant, field: text}
    refusal(OviPromptBuilder.execute, node="Ovi Prompt Builder", input=field, found=found, remedy=remedy, **fields)


def test_the_text_encoder_takes_a_built_prompt(tmp_path):
    file = str(tmp_path / "ovi_mini_umt5.safetensors")
    safetensors.torch.save_file(standins.text_encoder(seed=0), file)
    clip = read_text_encoder(file)
    fields = ("A man at a desk.", "He: Hello there, world.", "Calm male voice, room tone.")
    by_hand = "A man at a desk. He says, <S>Hello there, world.<E> <AUDCAP>Calm male voice, room tone.<ENDAUDCAP>"
    for variant in ("mini", "720x720_5s"):
        ((built, _),) = OviTextEncode.execute(clip, prompt_of(*fields, variant=variant), variant).result[0]
        ((typed, _),) = OviTextEncode.execute(clip, by_hand, variant).result[0]
        assert built.shape[:2] == (1, 512)
        assert built.equal(typed)


def test_the_clips_own_length_counts_where_it_is_given():
    speech = "Anna: " + "one " * 20
    told = [OviPromptBuilder.execute("", speech, "", "960x960_5s", seconds).result[1] for seconds in (0.0, 10.0, 6.0)]
    assert ["of speech for 5 s: about 3.0 s too long" in told[0], "for a clip of 5 s" in told[0]] == [True, True]
    assert ["of speech for 10 s: about 2.0 s left" in told[1], "for a clip of" in told[1]] == [True, False]
    assert ["of speech for 6 s: about 2.0 s too long" in told[2], "for a clip of 6 s" in told[2]] == [True, True]
