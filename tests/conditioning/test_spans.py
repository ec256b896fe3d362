"""A clip that is there already: encoded, parts of it kept, parts redone, in seconds and in the picture."""

from __future__ import annotations

import logging

import pytest
import tiny_ovi as tiny
import torch
from comfy_extras.nodes_audio import VAEEncodeAudio
from comfy_extras.nodes_lt import LTXVConcatAVLatent
from hypothesis import given
from hypothesis import strategies as st
from native_cases import drawn, sample, small_vaes, text
from ovi_native.nodes.decoding import OviDecode
from ovi_native.nodes.latents import EmptyOviLatent, OviEncodeClip, OviKeepSpan
from ovi_native.ovi_core.conditioning.inpaint import parse_spans
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.latents import denoise_mask, joint
from refusals import refusal

from nodes import KSampler, VAEEncode

NODE = "Ovi Keep Span"


pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture(scope="module")
def vaes():
    return small_vaes()


def clip(seconds=1.0, batch=1):
    """A LATENT as a sampler gives it: 1 s is 7 latent frames of 4x6 cells (25 frames) and 31 audio steps."""
    return tiny.drawn_latent(5, batch, seconds)


def marked(latent=None, action="redo", video="", audio="", mask=None, mode="follow the noise", combine=True):
    return OviKeepSpan.execute(latent or clip(), action, video, audio, mask, mode, combine).result[0]


def free(latent):
    """What the noise mask lets the sampler make: steps of the video, steps of the audio."""
    masks = latent["noise_mask"].unbind() if latent["noise_mask"].is_nested else [latent["noise_mask"]]
    return [[i for i in range(m.shape[2]) if bool((m[:, :, i] > 1e-3).any())] for m in masks]


# -- what is kept and what is made ----------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["Ovi", "euler", "uni_pc", "dpmpp_2m_sde"])
@pytest.mark.parametrize("mode", ["follow the noise", "clean"])
def test_outside_the_redone_span_everything_comes_back_bit_for_bit(model, sampler, mode):
    before = marked(video="0.4-0.6", audio="0.1-0.3", mode=mode)
    if sampler == "Ovi":
        after = sample(model, before)
    else:
        after = KSampler().sample(model, 1, 3, 4.0, sampler, "simple", text(5), text(6), before)[0]["samples"]
    made = free(before)
    assert made == [[3, 4], [3, 4, 5, 6, 7, 8, 9]]
    for old, new, steps in zip(before["samples"].unbind(), after.unbind(), made, strict=True):
        same = [i for i in range(old.shape[2]) if torch.equal(old[:, :, i], new[:, :, i])]
        assert same == [i for i in range(old.shape[2]) if i not in steps]


def test_one_tower_alone_is_touched(model):
    before = marked(audio="0.1-0.3")
    after = sample(model, before)
    assert torch.equal(after.unbind()[0], before["samples"].unbind()[0])
    assert not torch.equal(after.unbind()[1], before["samples"].unbind()[1])


@pytest.mark.parametrize(
    ("spans", "video", "audio"),
    [
        ("0-0.04", [0], [0, 1]),  # frame 0, up to 1/24 s; 32 ms a step
        ("0.05-0.2", [1], [1, 2, 3, 4, 5, 6]),  # frames 1 to 4
        ("0.2084-0.3749", [2], [6, 7, 8, 9, 10, 11]),  # frames 5 to 8, from 0.2083 to 0.375 s
        ("0-0.04, 0.9-end", [0, 6], [0, 1, 28, 29, 30]),
        ("0.96-0.992;0.1 – 0.101\n", [1, 6], [3, 30]),
        ("0-END", list(range(7)), list(range(31))),
    ],
)
def test_whole_latent_steps_that_a_span_touches_belong_to_it(spans, video, audio):
    assert free(marked(video=spans, audio=spans)) == [video, audio]
    kept = free(marked(action="keep", video=spans, audio=spans)) if len(video) < 7 else [[], []]
    assert kept == [[i for i in range(7) if i not in video], [i for i in range(31) if i not in audio]]


def test_the_frames_of_a_latent_step_are_those_the_vae_gives_it(vaes):
    """Changing the latent steps that a span takes changes no frame before it."""
    latent = clip()
    before = OviDecode.execute(latent, *vaes, "off").result[0]
    video, audio = latent["samples"].unbind()
    changed = video.clone()
    steps = free(marked(video="0.4-0.6"))[0]
    changed[:, :, steps] += 1
    after = OviDecode.execute({"samples": joint.join(changed, audio)}, *vaes, "off").result[0]
    first = next(i for i in range(25) if not torch.equal(before[i], after[i]))
    assert first == 9  # 0.375 s: the first of the four frames that hold 0.4 s
    assert first / 24 <= 0.4 < (first + 4) / 24


def test_keeping_a_span_in_one_tower_leaves_the_other_free():
    assert free(marked(action="keep", audio="0-end")) == [list(range(7)), []]


def test_the_artist_is_told_what_is_made(caplog):
    with caplog.at_level(logging.WARNING):
        marked(video="0.4-0.6", audio="0.1-0.2, 0.5-end")
    assert "video 0.38-0.71 s; sound 0.10-0.22 s, 0.48-0.99 s" in caplog.text


def test_a_latent_of_one_tower_has_spans_of_its_own(model):
    for towers, spans in (("video only", {"video": "0.4-0.6"}), ("audio only", {"audio": "0.1-0.3"})):
        empty = EmptyOviLatent.execute(96, 64, 1.0, 1, towers).result[0]
        before = marked({"samples": tiny.noise_for(empty, 3)}, **spans)
        made = free(before)[-1]
        after = KSampler().sample(model, 1, 2, 4.0, "euler", "simple", text(5), text(6), before)[0]["samples"]
        old, new = (x.unbind()[1] if x.is_nested else x for x in (before["samples"], after))
        assert [i for i in range(old.shape[2]) if not torch.equal(old[:, :, i], new[:, :, i])] == made


# -- in the picture -------------------------------------------------------------------------------------------------


def test_a_mask_says_where_in_the_picture():
    white = torch.zeros(1, 64, 96)
    white[:, 17, 90] = 1  # cell 1, 5
    mask = marked(video="0.4-0.6", mask=white)["noise_mask"].unbind()[0]
    assert mask.shape == (1, 1, 7, 4, 6)
    assert (mask > 0.5).nonzero().tolist() == [[0, 0, 3, 1, 5], [0, 0, 4, 1, 5]]
    always = marked(mask=white)["noise_mask"].unbind()[0]
    assert (always > 0.5).nonzero().tolist() == [[0, 0, i, 1, 5] for i in range(7)]
    kept = marked(action="keep", mask=white, mode="clean")["noise_mask"].unbind()[0]
    assert torch.equal(kept == 0, always > 0.5)


def test_a_moving_mask_counts_for_the_frames_of_each_step():
    white = torch.zeros(25, 128, 192)  # larger than the clip, of its shape
    white[5, :32, :32] = 1  # frame 5, latent step 2
    white[24, 100:, 100:] = 0.5  # half: half as free
    mask = marked(mask=white, mode="clean")["noise_mask"].unbind()[0][0, 0]
    assert (mask == 1).nonzero().tolist() == [[2, 0, 0]]
    assert {tuple(i[:1]) for i in (mask == 0.5).nonzero().tolist()} == {(6,)}


def test_the_picture_outside_a_mask_comes_back_bit_for_bit(model):
    white = torch.zeros(1, 64, 96)
    white[:, :32, :32] = 1
    before = marked(mask=white)
    after = sample(model, before).unbind()[0]
    changed = after != before["samples"].unbind()[0]
    assert changed[..., :2, :2].all()
    assert not changed[..., 2:].any()
    assert not changed[..., 2:, :].any()


# -- with the mask that is there ------------------------------------------------------------------------------------


def test_what_was_kept_stays_kept_as_it_was():
    latent = tiny.first_frame_kept(clip())
    mask = marked(latent, video="0-0.3", audio="0-end")["noise_mask"].unbind()[0][0, 0]
    assert (mask[0] == 0).all()  # clean, as it was
    assert (mask[1:3] == 1).all()
    assert (mask[3:] == denoise_mask.FOLLOW).all()


def test_without_combine_the_old_mask_is_forgotten_and_another_span_can_be_redone(model):
    first = marked(audio="0.1-0.3")
    again = {**first, "samples": sample(model, first)}
    remedy = {"node": NODE, "input": "latent", "found": "already excludes", "remedy": "combine off"}
    refusal(OviKeepSpan.execute, again, "redo", "", "0.5-0.6", **remedy)
    assert free(marked(again, audio="0.5-0.6", combine=False)) == [[], [15, 16, 17, 18]]


def test_a_batch_is_marked_alike_and_the_given_latent_stays_as_it_was():
    latent = tiny.first_frame_kept(clip(batch=2), (True, False))
    before = [part.clone() for part in (*latent["samples"].unbind(), *latent["noise_mask"].unbind())]
    mask = marked(latent, video="0-0.3")["noise_mask"].unbind()[0]
    assert [bool((mask[i, :, 0] == 0).all()) for i in range(2)] == [True, False]
    after = (*latent["samples"].unbind(), *latent["noise_mask"].unbind())
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


# -- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spans", "found"),
    [
        ("1.2", "'1.2'"),
        ("0.2-0.3, speech", "'speech'"),
        ("-1-0.5", "'-1-0.5'"),
        ("0.5-0.2", "'0.5-0.2' in a clip of 1.04 s"),
        ("0.5-0.5", "'0.5-0.5'"),
        ("0.5-2", "'0.5-2'"),
        ("3-end", "'3-end'"),
    ],
)
def test_a_span_that_is_none_is_refused(spans, found):
    expected = {"node": NODE, "found": found.split(" in ")[0]}
    error = refusal(OviKeepSpan.execute, clip(), "redo", spans, input="video_spans", remedy="span", **expected)
    refusal(OviKeepSpan.execute, clip(), "redo", "", spans, input="audio_spans", remedy="span", **expected)
    assert found in error.found


@pytest.mark.parametrize(
    "spans",
    [
        "1" * 5000 + "-end",
        "0-" + "2" * 5000,
        "0." + "0" * 5000 + "x",
        "0.1" + " " * 50_000 + "- 0.2 x",
        "-" * 50_000,
        "0.1-0.2," * 501,
        "1e-3-0.2",
        "nan-inf",
    ],
    ids=lambda spans: spans[:9],
)
def test_endless_spans_and_numbers_that_are_none_are_refused(spans):
    refusal(OviKeepSpan.execute, clip(), "redo", spans, node=NODE, input="video_spans", found="", remedy="span")


@given(
    st.lists(st.tuples(st.integers(0, 103), st.integers(1, 104)).filter(lambda span: span[0] < span[1]), max_size=20)
)
def test_spans_that_are_written_are_read(spans):
    """In hundredths of a second of a clip of 1.04 s."""
    text = ", ".join(f"{start / 100}{'-' if start % 2 else ' – '}{end / 100:.3f}" for start, end in spans)
    assert parse_spans(text, "video_spans", 1.04) == [(start / 100, end / 100) for start, end in spans]


@given(st.text(alphabet="0123456789.-–end,; \n", max_size=60) | st.text(max_size=30))
def test_any_text_is_spans_within_the_clip_or_refused(text):
    try:
        spans = parse_spans(text, "video_spans", 5.0)
    except OviError:
        return
    assert all(0 <= start < end <= 5.0 + 1 / 24 for start, end in spans)


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [
        ((1, 64, 64), "crop it"),
        ((7, 64, 96), "crop it"),
        ((1, 64, 96, 1), "Load Image"),
        ((1, 0, 96), "Load Image"),
        ((96,), "Load Image"),
    ],
)
def test_a_mask_of_another_shape_is_refused(shape, remedy):
    expected = {"node": NODE, "input": "mask", "found": f"shape {[*shape]}", "remedy": remedy}
    refusal(OviKeepSpan.execute, clip(), "redo", "", "", torch.ones(shape), **expected)


@pytest.mark.parametrize("kind", ["bool", "uint8", "float16", "bfloat16", "float64", "no batch", "not contiguous"])
def test_a_mask_of_any_type_marks_the_same_cells(kind):
    white = torch.zeros(1, 64, 96)
    white[:, :32, :32] = 1
    if kind == "uint8":
        other = (white * 255).to(torch.uint8)
    elif kind == "no batch":
        other = white[0]
    elif kind == "not contiguous":
        other = white.transpose(1, 2).contiguous().transpose(1, 2)
    else:
        other = white.to(getattr(torch, kind))
    ours, expected = (marked(mask=mask)["noise_mask"].unbind()[0] for mask in (other, white))
    assert torch.equal(ours, expected)


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (torch.full((1, 64, 96), float("nan")), "not numbers"),
        (torch.zeros(1, 64, 96, dtype=torch.complex64), "complex64"),
        (torch.zeros(1, 64, 96).numpy(), "ndarray"),
        ("white", "str"),
    ],
    ids=["NaN", "complex", "numpy", "text"],
)
def test_a_mask_that_is_none_is_refused(mask, found):
    refusal(OviKeepSpan.execute, clip(), "redo", "", "", mask, node=NODE, input="mask", found=found, remedy="")


@pytest.mark.parametrize("latent", [None, {}, "latent", {"samples": None}, {"samples": [1]}], ids=str)
def test_a_latent_that_is_none_is_refused(latent):
    expected = {"node": NODE, "input": "latent", "found": "", "remedy": "Connect"}
    refusal(OviKeepSpan.execute, latent, "redo", "0-end", "", **expected)


def test_spans_of_nothing_are_refused():
    expected = {"node": NODE, "input": "video_spans and audio_spans", "found": "no span", "remedy": "Type what"}
    refusal(OviKeepSpan.execute, clip(), "redo", " ", "", **expected)
    sound, video = (EmptyOviLatent.execute(96, 64, 1.0, 1, f"{of} only").result[0] for of in ("audio", "video"))
    expected = {"node": NODE, "found": "of audio alone", "remedy": "use audio_spans"}
    refusal(OviKeepSpan.execute, sound, "redo", "0-end", "", input="video_spans", **expected)
    refusal(OviKeepSpan.execute, sound, "redo", "", "", torch.ones(1, 64, 96), input="mask", **expected)
    expected = {"node": NODE, "input": "audio_spans", "found": "of video alone", "remedy": "use video_spans"}
    refusal(OviKeepSpan.execute, video, "redo", "", "0-end", **expected)
    expected = {"node": NODE, "input": "latent", "found": "1 part(s)", "remedy": "Empty Ovi Latent"}
    refusal(OviKeepSpan.execute, {"samples": torch.zeros(1, 4, 8, 8)}, "redo", "0-end", "", **expected)


# -- an existing clip -----------------------------------------------------------------------------------------------


def encoded(vaes, images, audio, seconds=0.4, rate=24.0):
    return OviEncodeClip.execute(*vaes, tiny.empty_latent(seconds=seconds), images, audio, rate).result[0]


def sound(samples, rate=16_000, channels=1):
    return {"waveform": drawn(1, channels, samples, seed=4) * 0.1, "sample_rate": rate}


def test_a_clip_that_fits_is_what_the_stock_nodes_make_of_it(vaes):
    images, audio = drawn(9, 64, 96, 3, seed=3).sigmoid(), sound(10 * 512)
    (video,) = VAEEncode().encode(vaes[0], images)
    stock = LTXVConcatAVLatent.execute(video, VAEEncodeAudio.execute(vaes[1], audio).result[0]).result[0]["samples"]
    latent = encoded(vaes, images, audio)
    assert "noise_mask" not in latent
    assert all(torch.equal(a, b) for a, b in zip(latent["samples"].unbind(), stock.unbind(), strict=True))


def test_a_clip_of_another_rate_and_size_has_both_towers_of_one_length(vaes, caplog):
    images, audio = drawn(30, 90, 160, 3, seed=3).sigmoid(), sound(22_050, 44_100, 2)  # 1 s of pictures, 0.5 s of sound
    with caplog.at_level(logging.WARNING):
        latent = encoded(vaes, images, audio, seconds=3.0, rate=30.0)
    assert [tuple(part.shape[2:]) for part in latent["samples"].unbind()] == [(7, 4, 6), (31,)]
    assert "shortened to 1.04 s" in caplog.text
    assert "The sound ends 0.49 s before" in caplog.text
    frames, wave, _ = OviDecode.execute(latent, *vaes, "off").result
    assert torch.equal(frames, images)  # unchanged, it comes back as it was given
    assert torch.equal(wave["waveform"][..., :22_050], audio["waveform"])
    assert not wave["waveform"][..., 22_050:].any()


def test_a_redone_word_leaves_the_given_frames_as_they_were(model, vaes):
    images, audio = drawn(25, 64, 96, 3, seed=3).sigmoid(), sound(16_000)
    before = marked(encoded(vaes, images, audio, seconds=1.0), audio="0.3-0.5")
    after = {**before, "samples": sample(model, before)}
    frames, wave, _ = OviDecode.execute(after, *vaes, "off").result
    assert torch.equal(frames, images)
    assert not torch.equal(wave["waveform"][..., 5000:8000], audio["waveform"][..., 5000:8000])


def test_a_clip_without_sound_is_refused(vaes):
    images = drawn(9, 64, 96, 3).sigmoid()
    expected = {"node": "Ovi Encode Clip", "input": "audio", "found": "no audio", "remedy": "Load Audio"}
    refusal(OviEncodeClip.execute, *vaes, tiny.empty_latent(), images, None, **expected)
