"""Ovi Text Encode for weights that read captions of people, and the variant it takes from its CLIP."""

from __future__ import annotations

import json

import pytest
import torch
from fusion_cases import GOLDEN
from ovi_native.nodes.conditioning import OviTextEncode
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.spec import METADATA_KEY, SPOKEN, VARIANTS
from ovi_native.ovi_core.text import encode as encoding
from ovi_native.ovi_core.text.prompt import clean, problems
from ovi_native.ovi_core.text.umt5 import load_text_encoder
from ovi_native.ovi_core.weights.variant_note import note_variant

from tools import standins

PROMPTS = json.loads((GOLDEN / "identity_extra.json").read_text())["prompts"]
DREAMID, TEN, TAGGED = VARIANTS["dreamid_omni"], VARIANTS["960x960_10s"], VARIANTS["720x720_5s"]
ONE = "<img1>: A fisherman, identified as <sub1>."


@pytest.fixture(scope="module")
def clip():
    return load_text_encoder(standins.text_encoder(0))


@pytest.fixture
def read(clip, monkeypatch):
    """The text that the tokenizer gets for a prompt, and the notes."""
    seen, real = [], encoding._token_ids

    def token_ids(spiece, text):
        seen.append(text)
        return real(spiece, text)

    monkeypatch.setattr(encoding, "_token_ids", token_ids)

    def of(prompt: str, variant) -> tuple[str, list[str]]:
        _, notes = encoding.encode(clip, prompt, variant)
        return seen[-1], notes

    return of


@pytest.mark.parametrize("case", PROMPTS, ids=range(len(PROMPTS)))
@pytest.mark.parametrize("as_file", [False, True])
def test_a_pasted_caption_file_is_read_as_the_reference_reads_it(read, case, as_file):
    text, _ = read(json.dumps(case["in"]) if as_file else case["in"], DREAMID)
    assert text == clean(case["out"])


@pytest.mark.parametrize(
    "prompt",
    [
        f"{ONE} Audio: gulls",
        f"{ONE} Audio: gulls Audio: wind",
        '"Wait," he says, "for me."',
        "Plain words.",
        "He says <S>Wait!<E> Audio: wind. <S>No.<E>",
        "",
    ],
)
def test_other_text_is_left_as_it_is_without_advice(read, prompt):
    assert read(prompt, DREAMID) == (" ".join(prompt.split()), [])
    assert problems(prompt, DREAMID) == []


def test_speech_is_still_counted(clip):
    conditioning, _ = encoding.encode(clip, f"{ONE} <S>{'word ' * 40}<E>", DREAMID)
    assert [options[SPOKEN] for _, options in conditioning] == [16.0]


@pytest.mark.parametrize(
    ("prompt", "quoted"),
    [
        (f"{ONE} <sub2> waves.", "<sub2>"),
        ("<img2>: A fisherman, identified as <sub1>.", "<img2>"),
        (json.dumps(f"[A_START]{ONE}[A_END]\n< sub1> waves."), "< sub1>"),
        (f'"{ONE}" <sub3> waves', "<sub3>"),
        (f"{ONE} <S>Wait.", "never closed"),
        ('"[A_START] cut off', "JSON that cannot be read"),
    ],
)
def test_misnumbered_tags_and_damaged_files_are_refused_with_the_place(clip, prompt, quoted):
    with pytest.raises(OviError) as caught:
        OviTextEncode.execute(clip, prompt, "dreamid_omni")
    assert quoted in caught.value.found
    assert caught.value.input == "prompt"


def test_ovis_own_weights_read_such_text_word_for_word(read):
    assert read("<sub2> and [A_START] <img5>", TEN)[0] == "<sub2> and [A_START] <img5>"


# The variant of the CLIP.


def known(clip, variant):
    copy = clip.clone()
    note_variant(copy.patcher, variant)
    return copy


@pytest.mark.parametrize("variant", [DREAMID, TAGGED, TEN], ids=lambda variant: variant.name)
def test_auto_is_the_variant_that_the_clip_was_loaded_for(clip, variant):
    prompt = "A pier. Audio: gulls"
    ((auto, options),) = OviTextEncode.execute(known(clip, variant), prompt, "auto").result[0]
    ((chosen, _),) = OviTextEncode.execute(clip, prompt, variant.name).result[0]
    assert torch.equal(auto, chosen)
    assert options[METADATA_KEY] == variant.name


@pytest.mark.parametrize(
    ("noted", "prompt", "chosen", "expected", "note"),
    [
        (None, "A pier. Audio: gulls", None, TEN, ""),
        (None, "A pier. <AUDCAP>gulls<ENDAUDCAP>", None, TEN, "<AUDCAP>"),
        (None, ONE, None, TEN, "<img1>"),
        (None, ONE, DREAMID, DREAMID, ""),
        (DREAMID, ONE, None, DREAMID, ""),
        (DREAMID, ONE, TEN, TEN, "loaded for dreamid_omni"),
        (TEN, ONE, VARIANTS["mini"], VARIANTS["mini"], ""),  # both read the same form
        (TAGGED, "A pier.", TEN, TEN, "loaded for 720x720_5s"),
    ],
)
def test_doubts_about_the_variant_are_reported(clip, noted, prompt, chosen, expected, note):
    variant, doubts = encoding.variant_for(known(clip, noted) if noted else clip, prompt, chosen)
    assert variant is expected
    assert bool(doubts) == bool(note)
    assert all(note in doubt for doubt in doubts)


@pytest.mark.parametrize("clip", [None, 3, "text"])
def test_what_is_no_clip_is_refused_as_ever(clip):
    with pytest.raises(OviError) as caught:
        OviTextEncode.execute(clip, "A pier.", "auto")
    assert caught.value.input == "clip"
