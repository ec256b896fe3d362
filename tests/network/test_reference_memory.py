"""What a forward with reference people takes beside its weights, at the published sizes, on a simulated card."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from ovi_native.ovi_core.model.base_model import OviModelConfig
from ovi_native.ovi_core.model.reference_conds import NAMES, reference_shapes
from ovi_native.ovi_core.network.layers import CHUNK_TOKENS
from ovi_native.ovi_core.network.references import KEY, of_people
from ovi_native.ovi_core.network.run_cache import SamplingRun
from ovi_native.ovi_core.network.transformer import OviConfig
from simulated_card import DEVICE, Living, flash_attention
from torch._subclasses.fake_tensor import FakeTensorMode

BLOCKS = 2
CLIPS = {
    "1280x704": ((31, 44, 80), 157),
    "992x512": ((31, 32, 62), 157),
    "one second": ((7, 44, 80), 31),
    "short and small": ((2, 8, 8), 5),
}
PEOPLE = {
    "a face": [(True, 0)],
    "a voice": [(False, 31)],
    "a person": [(True, 31)],
    "two people": [(True, 31), (True, 31)],
    "two faces and a long voice": [(True, 400), (True, 0)],
}


def people_of(kinds: list[tuple[bool, int]], rows: int, cells: tuple[int, int, int], **how: Any) -> list[dict]:
    """People as Ovi Person gives them: for each whether there is a face, and the audio frames of the voice."""
    return [
        {
            "face": torch.empty(rows, 48, 1, *cells[1:], **how) if face else None,
            "voice": torch.empty(rows, 20, voice, **how) if voice else None,
        }
        for face, voice in kinds
    ]


@functools.cache
def measured(clip: str, people: str, rows: int, chunk_tokens: int = 0) -> tuple[int, int]:
    """Peak of a forward in bytes, and what the model reports to ComfyUI that it needs."""
    with FakeTensorMode(), torch.no_grad():
        config = OviModelConfig({"image_model": "ovi", **OviConfig(num_layers=BLOCKS).as_dict()})
        config.set_inference_dtype(torch.bfloat16, None)
        model = config.get_model({}, device=DEVICE)
        new = functools.partial(torch.empty, dtype=torch.bfloat16, device=DEVICE)
        cells, steps = CLIPS[clip]
        x = [new(rows, 48, *cells), new(rows, 20, steps)]
        timestep, text = torch.empty(rows, device=DEVICE), new(rows, 512, 4096)
        options = {"optimized_attention_override": flash_attention, CHUNK_TOKENS: chunk_tokens}
        references = of_people(people_of(PEOPLE[people], rows, cells, dtype=torch.bfloat16, device=DEVICE))
        parts = dict(zip(NAMES, (references.faces, references.voices), strict=True))
        inputs = [*x, timestep, text, *(part for part in parts.values() if part is not None)]
        with Living([*model.diffusion_model.parameters(), *model.diffusion_model.buffers(), *inputs]) as living:
            model.diffusion_model(x, timestep, text, options, **parts, voice_lengths=references.lengths)
        shapes = {name: [part.shape] for name, part in parts.items() if part is not None}
        packed = (rows, 1, sum(part[0].numel() for part in x))
        with model.sampling(SamplingRun(latent_shapes=[part.shape for part in x], chunk_tokens=chunk_tokens)):
            return living.peak, model.memory_required(packed, cond_shapes=shapes)


@pytest.mark.parametrize(
    ("clip", "people"),
    [
        *(("one second", people) for people in PEOPLE),
        *((clip, people) for clip in ("1280x704", "992x512") for people in ("a person", "two people")),
    ],
)
def test_people_are_counted_within_a_tenth(clip, people):
    peak, reported = measured(clip, people, 2)
    assert reported == pytest.approx(peak, rel=0.1)


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("chunk_tokens", [0, 4096])
def test_in_every_batch_and_in_chunks(rows, chunk_tokens):
    peak, reported = measured("1280x704", "two people", rows, chunk_tokens)
    assert reported == pytest.approx(peak, rel=0.1)


def test_what_people_add_to_a_short_clip_is_counted():
    alone, beside = (measured("short and small", people, 2) for people in ("a voice", "two faces and a long voice"))
    assert beside[0] > 1.25 * alone[0]
    assert beside[1] > 1.25 * alone[1]


def test_comfyui_is_given_the_shapes_of_what_is_appended():
    options = {KEY: people_of(PEOPLE["two people"], 1, (31, 4, 6))}
    for person in options[KEY]:
        for part in person.values():
            part.zero_()
    assert reference_shapes(options) == {NAMES[0]: [1, 48, 2, 4, 6], NAMES[1]: [1, 20, 62]}
