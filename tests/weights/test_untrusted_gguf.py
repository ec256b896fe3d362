"""GGUF files whose counts, offsets and tables are wrong: refused at once, without the memory that they ask for."""

from __future__ import annotations

import struct

import pytest
import resource_use
import torch
from ovi_native.ovi_core.text.umt5 import read_text_encoder
from ovi_native.ovi_core.weights.gguf_header import read_gguf_header
from untrusted import refused


def gguf(path, tensors=0, fields=(), tail=b""):
    """A GGUF file of raw fields: key, number of the type, bytes."""
    head = b"GGUF" + struct.pack("<IQQ", 3, tensors, len(fields))
    for key, kind, content in fields:
        head += struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + content
    path.write_bytes(head + tail + bytes(64))
    return path


def array(kind, count, content=b""):
    return struct.pack("<IQ", kind, count) + content


@pytest.mark.parametrize(
    "field",
    [
        *((b"k", 9, array(kind, 1 << 60)) for kind in range(13)),
        (b"k", 9, array(9, 5, array(9, 5, array(9, 5)))),
        (b"k", 8, struct.pack("<Q", 1 << 62)),
        (b"k", 99, b""),
        (b"general.alignment", 4, struct.pack("<I", 0)),
        (b"general.alignment", 4, struct.pack("<I", 1 << 31)),
        (b"general.alignment", 8, struct.pack("<Q", 2) + b"32"),
        (b"\xff\xfe", 4, bytes(4)),
    ],
)
def test_a_field_that_the_file_cannot_hold_is_refused(field, tmp_path):
    with resource_use.memory_below(32 << 20):
        refused(gguf(tmp_path / "m.gguf", 0, [field]), "'m.gguf', which is damaged")


@pytest.mark.parametrize("tensors", [20, 1 << 40, (1 << 64) - 1])
def test_more_tensors_than_the_file_holds_are_refused(tensors, tmp_path):
    refused(gguf(tmp_path / "m.gguf", tensors), "'m.gguf', which is damaged")


def tensor(name, axes, kind, offset=0):
    return struct.pack("<Q", len(name)) + name + struct.pack(f"<I{len(axes)}QIQ", len(axes), *axes, kind, offset)


@pytest.mark.parametrize(
    "tensors",
    [
        [tensor(b"a", [1 << 40], 0)],
        [tensor(b"a", [1 << 32, 1 << 32], 0)],
        [tensor(b"a", [4], 0, (1 << 64) - 32)],
        [tensor(b"a", [4], 77)],
        [tensor(b"a", [33], 8)],
        [tensor(b"a", [1] * 9, 0)],
        [tensor(b"a", [4], 0), tensor(b"a", [4], 0)],
        [tensor(b"a%d" % i, [16], 0) for i in range(200)],
        [tensor(b"\xff", [4], 0)],
    ],
)
def test_tensors_that_do_not_lie_in_the_file_are_refused(tensors, tmp_path):
    refused(gguf(tmp_path / "m.gguf", len(tensors), tail=b"".join(tensors)), "'m.gguf', which is damaged")


def test_the_header_is_read_as_the_library_reads_it(tmp_path):
    library = pytest.importorskip("gguf")
    writer = library.GGUFWriter(str(tmp_path / "m.gguf"), "t5encoder")
    writer.add_string("text", "é\n")
    writer.add_array("texts", ["a", "", "ü"])
    writer.add_array("numbers", [1, -2, 3])
    writer.add_float64("wide", 0.1)
    writer.add_bool("yes", True)
    writer.add_custom_alignment(64)
    writer.add_tensor("a", torch.arange(6.0).reshape(2, 3).numpy())
    writer.add_tensor(
        "b", torch.arange(34, dtype=torch.uint8)[None].numpy(), raw_dtype=library.GGMLQuantizationType.Q8_0
    )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    ours, theirs = read_gguf_header(str(tmp_path / "m.gguf"), input="file"), library.GGUFReader(tmp_path / "m.gguf")
    for key, field in theirs.fields.items():
        if not key.startswith("GGUF."):
            found = ours.fields[key]
            found = found.tolist() if hasattr(found, "tolist") else found
            assert (
                [t.decode() if isinstance(t, bytes) else t for t in found] == field.contents()
                if isinstance(found, list)
                else found == field.contents()
            )
    for tensor in theirs.tensors:
        placed = ours.tensors[tensor.name]
        assert (placed.kind, placed.start, placed.size) == (tensor.tensor_type.name, tensor.data_offset, tensor.n_bytes)
        assert placed.shape == tuple(reversed(tensor.shape.tolist()))


@pytest.mark.parametrize(
    "change",
    [
        {"token_type": [1, -1]},
        {"token_type": [1, 9]},
        {"token_type": [1]},
        {"scores": [0.5]},
        {"scores": [0.5, float("nan")]},
        {"scores": ["a", "b"]},
        {"tokens": "text"},
        {"add_space_prefix": "text"},
        {"precompiled_charsmap": ["a"]},
    ],
)
def test_a_tokenizer_whose_tables_do_not_fit_is_refused(change, tmp_path):
    library = pytest.importorskip("gguf")
    writer = library.GGUFWriter(str(tmp_path / "m.gguf"), "t5encoder")
    tables = {"model": "t5", "tokens": ["a", "b"], "scores": [0.5, 0.5], "token_type": [1, 1], **change}
    for name, value in tables.items():
        add = writer.add_string if isinstance(value, str) else writer.add_array
        add(f"tokenizer.ggml.{name}", value)
    writer.add_tensor("token_embd.weight", torch.zeros(2, 4).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    refused(str(tmp_path / "m.gguf"), run=read_text_encoder)
