"""More speech than the clip has time for: every sampler compares the prompt with the latent that it is given."""

from __future__ import annotations

import logging

import node_helpers
import pytest
import tiny_ovi as tiny
import torch
from ovi_native.ovi_core.sampling.variant_settings import latent_speech_notes, speech_notes
from ovi_native.ovi_core.spec import SPOKEN, ClipShape
from sampler_cases import each_sampler_of_prompts


def saying(seconds: float):
    return node_helpers.conditioning_set_values(tiny.positive(), {SPOKEN: seconds})


@pytest.mark.parametrize(
    ("spoken", "seconds", "warned"),
    [(8.0, 5.0, "About 8.0 s of speech for a clip of 5.04 s"), (8.0, 10.0, ""), (12.0, 10.0, "for a clip of 10 s")],
)
def test_the_clips_own_length_counts(spoken, seconds, warned):
    clip = ClipShape.from_seconds(64, 64, seconds)
    for shapes in ([clip.video_shape(), clip.audio_shape()], [clip.video_shape()]):
        notes = speech_notes([{SPOKEN: spoken}], shapes)
        assert len(notes) == bool(warned)
        assert all(warned in note and "make the clip longer" in note for note in notes)
    alone = speech_notes([{SPOKEN: spoken}], [(1, 48, 1, 1, 1), clip.audio_shape()])
    assert len(alone) == bool(warned)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "8", None, True, [8.0]])
def test_what_is_no_length_is_none(value):
    assert speech_notes([{SPOKEN: value}, {}, "no options"], [(1, 48, 2, 2, 2)]) == []
    assert latent_speech_notes([[torch.zeros(1), {SPOKEN: 9.0}]], {"samples": "no latent"}) == []
    assert latent_speech_notes([[torch.zeros(1), {SPOKEN: 9.0}]], {}) == []


@each_sampler_of_prompts
@pytest.mark.parametrize(("spoken", "times"), [(100.0, 1), (0.1, 0)])
def test_every_sampler_warns_once(model, sample, spoken, times, caplog):
    with caplog.at_level(logging.WARNING), torch.inference_mode():
        sample(model, saying(spoken), tiny.negative())
    assert sum("of speech for a clip of" in record.getMessage() for record in caplog.records) == times
