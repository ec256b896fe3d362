"""The routes of the page, on a real server: a malformed request gets a sentence, a large one is refused at once."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from ovi_native.nodes import sharing
from ovi_native.nodes.sharing import INPUTS, LARGEST_BODY, MOST_NODES, BadRequest, answers, placed

from tools.dev.server import Server

LOADER = {"type": "OviLoraLoader", "values": ["faces.safetensors", 1.0, 1.0]}


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


MALFORMED = {
    "nothing": b"",
    "no JSON": b"{",
    "bytes": bytes(range(256)),
    "no UTF-8": b'["\xff"]',
    "a NUL": b"\0",
    "null": b"null",
    "a number": b"5",
    "a string": b'"OviLoraLoader"',
    "an object": body(LOADER),
    "NaN": b'[{"type": "OviLoraLoader", "values": [NaN]}]',
    "Infinity": b'[{"type": "OviLoraLoader", "values": [-Infinity]}]',
    "a long number": b"[" + b"9" * 10_000 + b"]",
    "deep": b"[" * 100_000,
    "deep and closed": b"[" * 50_000 + b"]" * 50_000,
    "a list of null": b"[null]",
    "a list of lists": b"[[]]",
    "a list of strings": b'["OviLoraLoader"]',
    "an empty object": b"[{}]",
    "no values": body([{"type": "OviLoraLoader"}]),
    "no type": body([{"values": []}]),
    "a type that is none of ours": body([{"type": "KSampler", "values": []}]),
    "a type that is a list": body([{"type": ["OviLoraLoader"], "values": []}]),
    "a type that is an object": body([{"type": {}, "values": []}]),
    "values that are an object": body([{"type": "OviLoraLoader", "values": {"0": "a"}}]),
    "values that are a string": body([{"type": "OviLoraLoader", "values": "faces"}]),
    "values that are null": body([{"type": "OviLoraLoader", "values": None}]),
    "a name of 100,000 characters": body([{"type": "OviLoraLoader", "values": ["x" * 100_000]}]),
    "one good node and one bad": body([LOADER, None]),
    "20,000 nodes": body([LOADER] * 20_000),
    "a large body": b'["' + b"x" * (LARGEST_BODY + 1) + b'"]',
}
ODD = {
    "no nodes": (b"[]", 0),
    "values that are no names": (body([{"type": "OviLoraLoader", "values": [None, 5, [], {}]}]), 1),
    "a number for a name": (body([{"type": "OviModelLoader", "values": [5, True]}]), 1),
    "no values": (body([{"type": "OviModelLoader", "values": []}]), 1),
    "a name of half a character": (b'[{"type": "OviLoraLoader", "values": ["\\ud800"]}]', 1),
    "names that climb": (body([{"type": "OviLoraLoader", "values": ["../../etc/passwd", "C:\\x"]}]), 1),
    "a name with a NUL": (body([{"type": "OviAudioVAELoader", "values": ["a\0b", "\n"]}]), 1),
    "fields that we do not know": (body([{**LOADER, "id": 5, "__proto__": {}}]), 1),
    "a thousand nodes": (body([LOADER] * MOST_NODES), MOST_NODES),
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_request_is_a_sentence(sent: bytes):
    if len(sent) > LARGEST_BODY:
        pytest.skip("the route itself refuses it")
    with pytest.raises(BadRequest) as caught:
        answers(sent)
    assert str(caught.value).endswith(".")
    assert len(str(caught.value)) < 200


def test_a_request_for_examples_is_a_list_of_names():
    for sent in (b"", b"{", b"{}", b"[5]", b"[[]]", body([None]), body(["x"] * (MOST_NODES + 1)), b"[" * 100_000):
        with pytest.raises(BadRequest):
            placed(sent)
    assert placed(body(["../../etc/passwd", "C:\\x", "a\0b", "\ud800"])) == {"placed": [], "notes": []}


@pytest.mark.parametrize(("sent", "count"), ODD.values(), ids=ODD)
def test_an_odd_request_is_answered_for_every_node(sent: bytes, count: int):
    found = answers(sent)
    assert [len(answer["values"]) for answer in found] == [len(node["values"]) for node in json.loads(sent)]
    assert len(found) == count
    assert all(answer.keys() == {"values", "notes", "models"} for answer in found)


def test_equal_names_are_looked_up_once(monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr(sharing, "stand_in", lambda name, *_: asked.append(name))
    answers(body([LOADER] * MOST_NODES))
    assert asked == ["faces.safetensors"]


def test_values_after_the_names_come_back_as_they_were_sent():
    for kind, names in INPUTS.items():
        values = [None] * len(names) + ["fp8", {"a": [1, 2]}, 0.5]
        assert answers(body([{"type": kind, "values": values}]))[0]["values"] == values


def test_a_real_server_answers_them_all_and_logs_no_traceback(shared_server: Server):
    server = shared_server
    before = tracebacks(server)
    for name, sent in MALFORMED.items():
        status, answer = post(server, sent)
        assert status in (400, 413), name
        if status == 400:
            assert answer["error"].endswith("."), name
    for sent, count in ODD.values():
        status, answer = post(server, sent)
        assert (status, len(answer)) == (200, count)
    with urllib.request.urlopen(server.url + "/ovi_native") as about:
        assert json.load(about)["loaders"] == sorted(INPUTS)
    assert tracebacks(server) == before


def tracebacks(server: Server) -> int:
    """How many its log has, also of the tests before."""
    return Path(server.log).read_text(encoding="utf-8", errors="replace").count("Traceback")


def post(server: Server, sent: bytes) -> tuple[int, Any]:
    request = urllib.request.Request(server.url + "/ovi_native/opened", sent, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())
    except urllib.error.URLError:  # the server hung up before all was sent
        return 413, None
