"""Ovi Person: faces and voices prepared as the engine of DreamID-Omni prepares them, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from fusion_cases import GOLDEN, seeded
from native_cases import drawn, empty_latent, small_vaes, text
from ovi_native.ovi_core.conditioning.person import fitted_face, with_person
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.network.references import KEY, of_people

EXTRA = json.loads((GOLDEN / "identity_extra.json").read_text())
RATE = 16_000


def speech(samples: int = 2 * RATE, rate: int = RATE, channels: int = 1, batch: int = 1) -> dict:
    return {"waveform": 0.3 * drawn(batch, channels, samples), "sample_rate": rate}


def face(batch: int = 1, height: int = 48, width: int = 40) -> torch.Tensor:
    return drawn(batch, height, width, 3).sigmoid()


def person(face=None, voice=None, start=1.0, positive=None, negative=None, latent=None):
    vae, audio_vae = small_vaes()
    return with_person(
        positive or text(1), negative or text(2), vae, audio_vae, latent or empty_latent(), face, voice, start
    )


def people_of(conditioning: list) -> list[dict]:
    return conditioning[0][1][KEY]


@pytest.mark.parametrize("n", range(len(EXTRA["fits"])))
def test_a_face_is_fitted_to_the_pixel(n):
    case = EXTRA["fits"][n]
    picture = np.clip(np.rint(128 + 50 * seeded.draw("picture", (*case["image"], 3), case["seed"])), 0, 255)
    fitted = fitted_face(picture.astype(np.uint8), case["clip"][1], case["clip"][0])
    assert np.array_equal(fitted, np.load(GOLDEN / "identity_extra.npz")[f"fit{n}.pixels"])


@pytest.mark.parametrize(("samples", "frames"), EXTRA["voice_steps"])
def test_a_voice_has_the_frames_of_the_reference(samples, frames):
    positive, negative, _ = person(voice=speech(RATE + samples))
    for conditioning in (positive, negative):
        (one,) = people_of(conditioning)
        assert one["voice"].shape == (1, 20, frames)
        assert one["face"] is None


def test_the_second_second_is_taken_without_a_change_of_loudness():
    voice = speech(3 * RATE, channels=2)
    taken = people_of(person(voice=voice)[0])[0]["voice"]
    second = {"waveform": voice["waveform"].mean(dim=1, keepdim=True)[..., RATE : 2 * RATE], "sample_rate": RATE}
    assert torch.equal(taken, people_of(person(voice=second, start=0.0)[0])[0]["voice"])
    quieter = {**voice, "waveform": voice["waveform"] / 4}
    assert not torch.allclose(taken, people_of(person(voice=quieter)[0])[0]["voice"], rtol=0.05)


def test_transparency_of_a_face_is_left_out():
    plain, clear = face(), torch.cat((face(), torch.zeros(1, 48, 40, 1)), dim=-1)
    ours, theirs = (people_of(person(face=image)[0])[0]["face"] for image in (plain, clear))
    assert ours.shape == (1, 48, 1, 4, 4)
    assert torch.equal(ours, theirs)


def test_each_clip_of_a_batch_has_a_face_and_a_voice_of_its_own():
    latent = empty_latent(batch=2)
    both = people_of(person(face(2), speech(batch=2), latent=latent)[0])[0]
    apart = [
        people_of(
            person(
                face(2)[i : i + 1],
                {"waveform": speech(batch=2)["waveform"][i : i + 1], "sample_rate": RATE},
                latent=latent,
            )[0]
        )[0]
        for i in range(2)
    ]
    for name in ("face", "voice"):
        assert torch.allclose(both[name], torch.cat([one[name] for one in apart]), atol=1e-5)


def test_two_people_are_chained_and_other_options_stay():
    positive, negative, notes = person(face(), speech(), positive=[[text(1)[0][0], {"pooled_output": None}]])
    positive, negative, notes = person(face(), None, positive=positive, negative=negative)
    assert [one["voice"] is None for one in people_of(positive)] == [False, True]
    assert len(people_of(negative)) == 2
    assert "pooled_output" in positive[0][1]
    assert not notes
    with pytest.raises(OviError, match="up to 2 people"):
        person(face(), None, positive=positive, negative=negative)


def test_a_person_for_all_clips_stands_beside_one_for_each():
    latent = empty_latent(batch=2)
    positive, negative, _ = person(face(), speech(), latent=latent)
    positive, _, _ = person(face(2), speech(batch=2), positive=positive, negative=negative, latent=latent)
    (first, second), references = people_of(positive), of_people(people_of(positive))
    for name, part in (("face", references.faces), ("voice", references.voices)):
        expected = [torch.cat((first[name], second[name][i : i + 1]), dim=2) for i in range(2)]
        assert torch.equal(part, torch.cat(expected)), name


def test_people_for_clips_of_two_sizes_are_refused_before_sampling():
    positive, negative, _ = person(face())
    wider = empty_latent(width=6)
    with pytest.raises(OviError, match="Connect the latent that is sampled") as caught:
        person(face(), positive=positive, negative=negative, latent=wider)
    assert "[1, 48, 1, 4, 4] and [1, 48, 1, 4, 6]" in caught.value.found


@pytest.mark.parametrize("people", ["ab", 5, {"a": 1}, [5], [{"face": "x"}], [{"voice": torch.zeros(1, 20, 0)}]])
def test_what_another_node_left_in_the_place_of_people_is_refused(people):
    with pytest.raises(OviError, match="as Ovi Person gives them"):
        person(face(), positive=[[text(1)[0][0], {KEY: people}]])


def test_it_is_said_when_a_voice_stands_with_another_face():
    positive, negative, _ = person(face())
    _, _, notes = person(face(), speech(), positive=positive, negative=negative)
    assert any("person 2" in note and "person 1" in note for note in notes)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "neither"),
        ({"face": face(height=8)}, "32 px"),
        ({"face": face(3)}, "one image"),
        ({"face": "a"}, "type str"),
        ({"face": face() * float("nan")}, "NaN"),
        ({"voice": speech(RATE + 400)}, "nothing is left"),
        ({"voice": speech(RATE // 2)}, "nothing is left"),
        ({"voice": {"waveform": torch.zeros(1, 1, 2 * RATE), "sample_rate": RATE}}, "silence"),
        ({"voice": {"waveform": torch.full((1, 1, 2 * RATE), torch.nan), "sample_rate": RATE}}, "NaN"),
        ({"voice": speech(), "start": float("nan")}, "voice_start"),
        ({"voice": speech(), "start": -1.0}, "voice_start"),
        ({"voice": speech(), "start": 1e30}, "nothing is left"),
        ({"face": face(), "latent": {"samples": empty_latent()["samples"].unbind()[0][:, :20, 0, 0]}}, "latent"),
    ],
)
def test_what_cannot_be_a_person_is_refused(given, message):
    with pytest.raises(OviError, match=message):
        person(**given)
