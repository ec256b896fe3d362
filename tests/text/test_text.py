"""Text encoding, against ComfyUI's own umt5 classes at a tiny size and its own tokenizer."""

import io

import comfy.sd
import comfy.supported_models_base
import pytest
import sentencepiece
import torch
from comfy.sd1_clip import SD1Tokenizer
from comfy.sdxl_clip import SDXLTokenizer
from comfy.text_encoders.lt import LTXVT5Tokenizer
from comfy.text_encoders.wan import WanT5Model, WanT5Tokenizer
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.spec import SPOKEN, VARIANTS
from ovi_native.ovi_core.text.encode import encode

FIVE, TAGGED = VARIANTS["960x960_5s"], VARIANTS["720x720_5s"]
WIDTH = 32
SENTENCES = [
    "A man at a desk says hello there, world.",
    "Rain falls on a tin roof while thunder rolls far away.",
    "She whispers softly: it's 5:30, isn't it?",
    "Audio: calm male voice, room tone, (quiet) and embedding:name",
]


@pytest.fixture(scope="module")
def spiece():
    """A small vocabulary with umt5's ids: padding 0, end 1, start 2, unknown 3; any character as bytes."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20),
        model_writer=model,
        vocab_size=340,
        byte_fallback=True,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


@pytest.fixture(scope="module")
def clip(spiece):
    """ComfyUI's umt5 at a tiny size, with random weights."""
    target = comfy.supported_models_base.ClipTarget(WanT5Tokenizer, WanT5Model)
    size = {
        "d_model": WIDTH,
        "d_ff": 64,
        "d_kv": 16,
        "num_heads": 2,
        "num_layers": 2,
        "vocab_size": spiece.get_piece_size(),
    }
    clip = comfy.sd.CLIP(
        target,
        tokenizer_data={
            "spiece_model": torch.frombuffer(bytearray(spiece.serialized_model_proto()), dtype=torch.uint8)
        },
        model_options={"umt5xxl_model_config": size, "dtype": torch.float32},
    )
    random = torch.Generator().manual_seed(0)
    for weight in clip.cond_stage_model.parameters():
        weight.data.normal_(0, 0.2, generator=random)
    return clip


def encoded_ids(clip, ids):
    """What ComfyUI's encoder makes of ``ids``, followed by the end of the text and padded to 512."""
    ids = [*ids, 1] + [0] * (511 - len(ids))
    return clip.encode_from_tokens({"umt5xxl": [[(token, 1.0) for token in ids]]})


def test_plain_text_is_what_the_hosts_own_text_node_gives(clip):
    for text in SENTENCES[:3]:
        (mine, extra), *others = encode(clip, text, FIVE)[0]
        ((host, host_extra),) = clip.encode_from_tokens_scheduled(clip.tokenize(text))
        assert not others
        assert extra.keys() == host_extra.keys()
        assert torch.equal(mine, host)


@pytest.mark.parametrize("text", ["(rain:1.3)", "a ((very)) (old:0.5) roof", r"a \(quiet\) voice"])
def test_prompt_weights_are_read_as_the_words_they_are(clip, spiece, text):
    ((mine, _),), warnings = encode(clip, text, FIVE)
    assert warnings == []
    assert torch.equal(mine, encoded_ids(clip, spiece.encode(text)))
    assert not torch.equal(mine, clip.encode_from_tokens(clip.tokenize(text))), "ComfyUI reads a weight here"


@pytest.mark.parametrize("text", ["a roof embedding:name falls", "embedding:name", "a man (softly", "1) a man", "\\"])
def test_embeddings_and_lone_brackets_are_read_as_the_words_they_are(clip, spiece, text):
    ((mine, _),), warnings = encode(clip, text, FIVE)
    assert warnings == []
    assert torch.equal(mine, encoded_ids(clip, spiece.encode(text)))


@pytest.mark.parametrize(
    ("variant", "prompt", "read"),
    [
        (FIVE, " Rain <AUDCAP>drops\n<ENDAUDCAP>\n", "Rain Audio: drops"),
        (TAGGED, "Rain. Audio: drops,\nthunder\n", "Rain. <AUDCAP>drops, thunder<ENDAUDCAP>"),
        (FIVE, "Tom &amp;amp; Ann\u2019s\u00a0 roof", "Tom & Ann's roof"),
        (FIVE, "She says <S>hello<E> (softly)", "She says <S>hello<E> (softly)"),
        (FIVE, "", ""),
    ],
)
def test_captions_are_converted_and_text_is_cleaned_before_encoding(clip, spiece, variant, prompt, read):
    ((mine, _),), _ = encode(clip, prompt, variant)
    assert torch.equal(mine, encoded_ids(clip, spiece.encode(read)))


def test_positions_after_the_end_are_zero(clip, spiece):
    ((mine, _),), _ = encode(clip, SENTENCES[0], FIVE)
    length = len(spiece.encode(SENTENCES[0])) + 1
    assert mine.shape == (1, 512, WIDTH)
    assert mine[:, :length].abs().amax(dim=-1).gt(0).all()
    assert not mine[:, length:].any()


def test_a_prompt_over_512_tokens_is_cut_and_the_lost_words_are_quoted(clip, spiece):
    prompt = " ".join(f"word{n}" for n in range(600))
    ids = spiece.encode(prompt)
    lost = spiece.decode(ids[511:])
    ((mine, _),), (warning,) = encode(clip, prompt, FIVE)
    assert mine.shape == (1, 512, WIDTH)
    assert torch.equal(mine, encoded_ids(clip, ids[:511]))
    assert prompt.endswith(lost)
    assert f"The last {len(lost.split())} words are not read" in warning
    assert " ".join(lost.split()[:12]) in warning


def test_a_prompt_of_exactly_511_tokens_is_read_whole(clip, spiece):
    prompt = "a"
    while len(spiece.encode(prompt + " a")) <= 511:
        prompt += " a"
    assert len(spiece.encode(prompt)) == 511
    assert encode(clip, prompt, FIVE)[1] == []
    assert "The last 1 words" in encode(clip, prompt + " a", FIVE)[1][0]


def test_what_is_odd_in_a_prompt_comes_back_as_warnings(clip):
    _, warnings = encode(clip, "He says <S> <E> Audio: rain Audio: wind", FIVE)
    assert [warning.split(":")[0] for warning in warnings] == ["nothing is said here", "2 captions of the audio"]


def test_how_long_the_speech_takes_goes_with_the_conditioning_and_is_not_compared_with_the_variant(clip):
    conditioning, warnings = encode(clip, "He says <S>" + "one " * 20 + "<E> Audio: rain", FIVE)
    assert (warnings, [options[SPOKEN] for _, options in conditioning]) == ([], [8.0])


def test_wrong_tags_stop_the_run_and_are_quoted(clip):
    with pytest.raises(OviError) as caught:
        encode(clip, "He says <S>hello</S> and <s>bye.", FIVE)
    error = caught.value
    assert error.input == "prompt"
    assert '</S> is not a tag of Ovi: "He says <S>hello»</S>« and <s>bye."' in error.found
    assert "<s> is not a tag of Ovi" in error.found
    assert "Write <E> after the last spoken word." in error.remedy


def test_many_wrong_tags_are_told_a_few_at_a_time(clip):
    with pytest.raises(OviError, match="and 7 more") as caught:
        encode(clip, "<E> and " * 10, FIVE)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("tokenizer", "named"),
    [(SD1Tokenizer, "SD1Tokenizer, l"), (SDXLTokenizer, "SDXLTokenizer"), (LTXVT5Tokenizer, "LTXVT5Tokenizer, t5xxl")],
)
def test_a_clip_of_another_family_is_named(tokenizer, named):
    other = comfy.sd.CLIP(no_init=True)
    other.tokenizer = tokenizer()
    with pytest.raises(OviError, match=r"umt5-xxl.*CLIPLoader, type 'wan'") as caught:
        encode(other, "rain", FIVE)
    assert caught.value.input == "clip"
    assert caught.value.found == f"a CLIP of another family ({named})"


def test_a_missing_clip_is_told(clip):
    with pytest.raises(OviError, match="no text encoder"):
        encode(None, "rain", FIVE)
