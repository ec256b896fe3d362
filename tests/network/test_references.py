"""Reference people in the network: the numbers of the engine of DreamID-Omni."""

from __future__ import annotations

import pytest
import torch
from fusion_cases import published_weights, relative_error, write_model
from identity_cases import CASES, FORWARD_CASES, PeopleInputs, results
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.network.references import of_people

FORWARD_TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Models by their number of block pairs: the cases have two sizes."""
    return {
        case["model"]["num_layers"]: load_model(
            str(write_model(tmp_path_factory.mktemp("references"), published_weights(case["model"], case["seed"])))
        )
        for case in CASES.values()
    }


@pytest.mark.parametrize("name", FORWARD_CASES)
def test_one_forward_with_people_equals_the_reference(models, name):
    case = CASES[name]
    inputs = PeopleInputs(case)
    references = of_people(inputs.people())
    faces, voices = references.faces, references.voices
    if case["zeroed"] == "face":
        faces = torch.zeros_like(faces)
    if case["zeroed"] == "voice":
        voices = torch.zeros_like(voices)
    video, audio = ("vneg", "aneg") if case["text"] == "negative" else ("pos", "pos")
    with torch.no_grad():
        out = models[case["model"]["num_layers"]].model.diffusion_model(
            [inputs.video, inputs.audio],
            torch.tensor([case["t"]]),
            inputs.text(video),
            {},
            audio_context=inputs.text(audio),
            face_references=faces,
            voice_references=voices,
            voice_lengths=references.lengths,
        )
    assert relative_error(out[0][0], results()[f"{name}.video"]) <= FORWARD_TOLERANCE
    assert relative_error(out[1][0].T, results()[f"{name}.audio"]) <= FORWARD_TOLERANCE
