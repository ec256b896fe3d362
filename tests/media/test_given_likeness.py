"""Files say that a person's face or voice was given; read back by libav, a plain XML parser and the C2PA library."""

from __future__ import annotations

import json
from types import SimpleNamespace
from xml.etree import ElementTree

import av
import folder_paths
import mark_cases as marks
import pytest
import torch
from comfy_api.latest import InputImpl
from native_cases import empty_latent, small_vaes, text, write_tiny
from ovi_native.nodes.decoding import OviDecode
from ovi_native.nodes.person import OviPerson
from ovi_native.nodes.sampling.sampler import OviSampler
from ovi_native.nodes.saving import OviSaveVideo
from ovi_native.nodes.shared import graph
from ovi_native.ovi_core.latents import source_media
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.media import provenance

INFORMATION = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}AIPromptInformation"
BOTH = "A person's face and voice were given to the model."
VOICE = "A person's voice was given to the model."


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    monkeypatch.setattr(folder_paths, "user_directory", str(tmp_path / "user"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(write_tiny(tmp_path_factory.mktemp("model")))


def said(file):
    """What a file's tag and its XMP say, and its digital source type."""
    with av.open(str(file), options={"export_xmp": "1"}) as container:
        tags = dict(container.metadata)
    packet = ElementTree.fromstring(tags["xmp"])
    told = [element.attrib[INFORMATION] for element in packet.iter() if INFORMATION in element.attrib]
    assert tags["digital_source_type"].strip('"') == marks.GENERATED
    return tags.get("given_likeness", "").strip('"'), "".join(told)


def people(face=True, voice=True):
    recording = {"waveform": 0.3 * torch.randn(1, 1, 32_000), "sample_rate": 16_000} if voice else None
    shown = torch.rand(1, 40, 40, 3) if face else None
    return OviPerson.execute(text(5), text(6), *small_vaes(), empty_latent(), shown, recording).result


def sampled(model, positive, negative, latent=None):
    return OviSampler.execute(
        model, positive, negative, latent or empty_latent(), seed=1, steps=1, video_cfg=1.0, audio_cfg=1.0, shift=5.0,
        solver="unipc", skip_layers="0",
    ).result[0]  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "expected"),
    [({}, BOTH), ({"face": False}, VOICE), ({"voice": False}, "A person's face was given to the model.")],
)
def test_a_saved_clip_says_what_was_given_of_people(model, parts, expected):
    video = OviDecode.execute(sampled(model, *people(**parts)), *small_vaes()).result[2]
    assert said(marks.saved(video=video)) == (expected, expected)
    assert said(marks.stock(video=video)) == (expected, expected)
    again = marks.saved(video=InputImpl.VideoFromFile(str(marks.stock(video=video))))
    assert said(again) == (expected, expected)


def test_a_clip_without_people_says_nothing_of_them(model):
    latent = sampled(model, text(5), text(6))
    assert source_media.LIKENESS not in latent
    video = OviDecode.execute(latent, *small_vaes()).result[2]
    assert said(marks.saved(video=video)) == ("", "")


def test_a_clip_that_is_sampled_on_without_people_was_made_of_them_still(model):
    first = sampled(model, *people(face=False))
    assert source_media.likeness_of(sampled(model, text(5), text(6), first)) == ("voice",)
    assert source_media.likeness_of(sampled(model, *people(voice=False), first)) == ("face", "voice")


@pytest.mark.parametrize("mark", [None, 7, "face", {"face": 1}, ["nose", 3], torch.ones(2)])
def test_what_another_node_left_in_a_latent_is_no_mark(mark):
    assert source_media.likeness_of({source_media.LIKENESS: mark}) == ()


# -- ComfyUI's own samplers: what stands before the node ------------------------------------------------------------

GRAPH = {
    "1": {"class_type": "OviPerson", "inputs": {"positive": ["9", 0], "voice": ["8", 0], "voice_start": 1.0}},
    "2:1": {"class_type": "KSampler", "inputs": {"positive": ["1", 0], "latent_image": ["7", 0], "seed": 3}},
    "3": {"class_type": "OviDecode", "inputs": {"samples": ["2:1", 0]}},
    "4": {"class_type": "OviSaveVideo", "inputs": {"video": ["3", 2]}},
    "5": {"class_type": "OviSaveVideo", "inputs": {"video": ["6", 2]}},
}


@pytest.mark.parametrize(("node", "parts"), [("3", ("voice",)), ("4", ("voice",)), ("5", ()), ("x", ())])
def test_people_are_found_before_a_node(node, parts):
    assert graph.likeness_before(SimpleNamespace(prompt=GRAPH, unique_id=node)) == parts


@pytest.mark.parametrize(
    "prompt",
    [
        None, [], {"4": None}, {"4": {}}, {"4": {"inputs": []}}, {"4": {"inputs": {"video": [["4"], 0]}}},
        {"4": {"inputs": {"video": ["4", 0]}}}, {"4": {"inputs": {"a": [{}], "b": [None], "c": []}, "class_type": []}},
    ],
)  # fmt: skip
def test_a_graph_of_any_form_is_looked_through(prompt):
    assert graph.likeness_before(SimpleNamespace(prompt=prompt, unique_id="4")) == ()


def test_a_clip_of_stock_samplers_says_what_was_given(model):
    latent = sampled(model, *people(face=False))
    del latent[source_media.LIKENESS]  # as SamplerCustomAdvanced and KSampler give it
    node = OviDecode.PREPARE_CLASS_CLONE(None)
    node.hidden = SimpleNamespace(prompt=GRAPH, unique_id="3")
    video = node.execute(latent, *small_vaes()).result[2]
    assert said(marks.stock(video=video)) == (VOICE, VOICE)
    bare = InputImpl.VideoFromComponents(video.get_components())  # as Create Video makes it
    hidden = SimpleNamespace(prompt=GRAPH, unique_id="4", extra_pnginfo=None)
    assert said(marks.saved(OviSaveVideo, bare, hidden)) == (VOICE, VOICE)


def test_a_clip_without_a_mark_says_nothing():
    video = provenance.MarkedVideo(marks.components(), likeness=("face", "voice"))
    content = marks.saved(video=video, mark_as_ai="off").read_bytes()
    assert b"given_likeness" not in content
    assert BOTH.encode() not in content


def test_credentials_say_it_too():
    marks.set_up()
    video = provenance.MarkedVideo(marks.components(), likeness=("face", "voice"))
    found, state = marks.manifest(marks.saved(video=video, credentials="required"))
    assert state == "Valid"
    assert BOTH in json.dumps(found["assertions"])
