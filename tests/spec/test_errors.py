"""An error is one line that every console can show, whatever a file or a workflow put into it."""

import pickle

import pytest
from ovi_native.ovi_core.errors import OviError


def message(found: str) -> str:
    return str(OviError(input="path", found=found, accepted="a name", remedy="Choose another name."))


@pytest.mark.parametrize(
    "breaking", ["\n", "\r\n", "\x0b", "\x0c", "\x1b[31m", "\x85", "\u2028", "\u2029", "\t\t", "\0", "\x9b2J"]
)
def test_line_breaks_and_control_characters_become_blanks(breaking):
    text = message(f"a{breaking}b")
    assert text.isprintable()
    assert len(text.splitlines()) == 1
    assert "found a " in text
    assert "b. Accepted" in text


@pytest.mark.parametrize("hidden", ["\u200b", "\u202e", "\u2066", "\ufeff"])
def test_what_cannot_be_seen_is_left_out(hidden):
    assert "found ab." in message(f"a{hidden}b")


def test_a_long_value_keeps_its_beginning_and_its_end():
    text = message("begin" + "x" * 10**6 + "end.safetensors")
    assert "found begin" in text
    assert "end.safetensors. Accepted" in text
    assert len(text) < 800


def test_a_file_name_that_is_no_utf_8_can_be_printed():
    message(b"caf\xe9.mp4".decode("utf-8", "surrogateescape")).encode("utf-8")


def test_ordinary_text_stays_as_it_is():
    text = "视频 “café” — 1 × 2,  100 %"
    assert f"found {text}." in message(text)


def test_what_is_replaced_on_the_way_is_flattened_too():
    error = OviError(input="a", found="b", accepted="c", remedy="d.")
    error.found, error.node = "line 1\nline 2", "Node\u2028name"
    assert str(error) == "Node name, input 'a': found line 1 line 2. Accepted: c. d."


def test_an_error_survives_being_sent_to_another_process():
    error = OviError(input="a", found="b\nc", accepted="d", remedy="e")
    copy = pickle.loads(pickle.dumps(error, protocol=4))
    assert str(copy) == str(error)
