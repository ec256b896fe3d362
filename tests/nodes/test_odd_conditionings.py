"""CONDITIONINGs as other nodes may give them: named before the first step, by our sampler, a stock one and training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from native_cases import empty_latent, sample, text, write_tiny
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.model.base_model import AUDIO_TEXT
from refusals import refusal
from training_cases import train

from nodes import ConditioningSetArea, ConditioningSetAreaPercentage, ConditioningSetMask, KSampler

WORDS = text(5)[0][0]
PARTS: dict[str, tuple[Callable[[], list], str]] = {
    "area": (lambda: ConditioningSetArea().append(text(5), 64, 64, 0, 0, 1.0)[0], "with an area"),
    "share": (lambda: ConditioningSetAreaPercentage().append(text(5), 0.5, 0.5, 0, 0, 1.0)[0], "with an area"),
    "mask": (lambda: ConditioningSetMask().append(text(5), torch.ones(1, 64, 64), "default", 1.0)[0], "with a mask"),
}
TEXTS: dict[str, tuple[list, str]] = {
    "none": ([[None, {}]], "no text"),
    "a string": ([["rain", {}]], "a str for text"),
    "NaN": ([[WORDS * torch.nan, {}]], "NaN"),
    "one infinite value": ([[WORDS.where(WORDS.max() > WORDS, torch.inf), {}]], "infinite"),
    "meta": ([[WORDS.to("meta"), {}]], "on meta"),
    "sparse": ([[WORDS.to_sparse(), {}]], "sparse"),
    "two axes": ([[WORDS[0], {}]], "text of width"),
    "no rows": ([[WORDS[:0], {}]], "text of no prompt"),
    "NaN for the audio": ([[WORDS, {AUDIO_TEXT: WORDS * torch.nan}]], "NaN"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(write_tiny(tmp_path_factory.mktemp("model")))


def refused_by_samplers(model: Any, words: list, input: str, found: str, remedy: str) -> None:
    prompts = {"positive": text(5), "negative": text(6)} | {input: words}
    with torch.inference_mode():  # as ComfyUI runs nodes
        refusal(sample, model, **prompts, node="Ovi Dual-Tower Sampler", input=input, found=found, remedy=remedy)
        settings = (model, 1, 2, 4.0, "euler", "simple", *prompts.values(), empty_latent())
        refusal(KSampler().sample, *settings, node="", input=input, found=found, remedy=remedy)


@pytest.mark.parametrize("input", ["positive", "negative"])
@pytest.mark.parametrize(("words", "found"), PARTS.values(), ids=PARTS)
def test_a_conditioning_of_a_part_of_the_frame_is_refused(model, words, found, input):
    refused_by_samplers(model, words(), input, found, "Ovi Keep Span")


@pytest.mark.parametrize(("words", "found"), TEXTS.values(), ids=TEXTS)
def test_what_is_no_text_of_the_encoder_is_refused(model, words, found):
    refused_by_samplers(model, words, "positive", found, "encode with Ovi Text Encode")


@pytest.mark.parametrize("name", ["none", "NaN", "meta"])
def test_training_refuses_it_before_the_first_step(model, name):
    words, found = TEXTS[name]
    expected = {"node": "Train Ovi LoRA", "input": "positive", "found": found, "remedy": "Ovi Text Encode"}
    refusal(train, model, None, [words], **expected)
