"""Small sound files of every format with a few bytes changed: what is raised is an OviError, whatever was changed."""

from __future__ import annotations

import contextlib
import functools
import struct
import tempfile
from pathlib import Path

import pytest
import torch
import weight_layouts as layouts
from hypothesis import given
from hypothesis import strategies as st
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.loading.loader import read_model_file
from ovi_native.ovi_core.text import umt5
from ovi_native.ovi_core.weights.files import read_file, read_header
from ovi_native.ovi_core.weights.gguf_tensors import is_packed, unpacked
from safetensors.torch import save_file

WEIGHTS = {
    "video_model.blocks.0.self_attn.q.weight": torch.ones(32, 32),
    "video_model.blocks.0.self_attn.q.weight_scale": torch.ones(()),
    "video_model.blocks.0.self_attn.q.comfy_quant": torch.tensor(
        list(b'{"format":"int8_tensorwise"}'), dtype=torch.uint8
    ),
    "audio_model.head.modulation": torch.ones(1, 2, 4, dtype=torch.bfloat16),
}
NUMBERS = (
    0,
    1,
    127,
    255,
    256,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    1 << 40,
    1 << 60,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
)


@functools.cache
def sound(kind: str) -> bytes:
    """A small file of a format that loads."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"sound.{kind}"
        if kind == "safetensors":
            save_file(WEIGHTS, path, {"_quantization_metadata": '{"layers":{"a":{"format":"float8_e4m3fn"}}}'})
        elif kind == "gguf":
            library = pytest.importorskip("gguf")
            writer = library.GGUFWriter(str(path), "t5encoder")
            tokenizer = {"tokens": ["a", "b"], "scores": [0.5, -1.0], "token_type": [1, 6]}
            writer.add_string("tokenizer.ggml.model", "t5")
            for name, values in tokenizer.items():
                writer.add_array(f"tokenizer.ggml.{name}", values)
            writer.add_tensor("token_embd.weight", torch.ones(2, 32).numpy())
            kind_of = library.GGMLQuantizationType.Q8_0
            writer.add_tensor(
                "enc.blk.0.attn_q.weight", torch.ones(4, 34, dtype=torch.uint8).numpy(), raw_dtype=kind_of
            )
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
        else:
            torch.save({"state_dict": WEIGHTS, "step": 3}, path, _use_new_zipfile_serialization=kind == "pth")
        return path.read_bytes()


CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), st.floats(0, 1), st.integers(0, 255)),
        st.tuples(st.just("number"), st.floats(0, 1), st.sampled_from(NUMBERS)),
        st.tuples(st.just("cut"), st.floats(0, 1), st.integers(1, 64)),
        st.tuples(st.just("insert"), st.floats(0, 1), st.binary(min_size=1, max_size=16)),
        st.tuples(st.just("end"), st.floats(0, 1), st.just(0)),
        st.tuples(st.just("copy"), st.floats(0, 1), st.floats(0, 1)),
    ),
    min_size=1,
    max_size=4,
)
PLACES = ("start", "whole")
"""Where changes fall: the header is most of what can go wrong, and little of a file."""


def changed(content: bytes, changes: list, place: str) -> bytes:
    data = bytearray(content)
    for kind, share, value in changes:
        at = int(share * (min(len(data), 400) if place == "start" else len(data)))
        if kind == "flip":
            data[at : at + 1] = bytes([value])
        elif kind == "number":
            data[at : at + 8] = struct.pack("<Q", value)
        elif kind == "cut":
            del data[at : at + value]
        elif kind == "insert":
            data[at:at] = value
        elif kind == "copy":
            other = int(value * len(data))
            data[at : at + 32] = data[other : other + 32]
        else:
            del data[at:]
    return bytes(data)


def use(path: Path) -> None:
    """Everything that reads a file of weights."""
    for mapped in (True, False):
        with contextlib.suppress(OviError):
            read_file(str(path), input="file", accepted="weights", mapped=mapped)
    with contextlib.suppress(OviError):
        read_header(str(path), input="file", accepted="weights")
    with contextlib.suppress(OviError):
        read_model_file(str(path))
    with contextlib.suppress(OviError):
        umt5.read_text_encoder(str(path))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["safetensors", "gguf", "pth", "pt"])
@given(changes=CHANGES)
def test_whatever_is_changed_in_a_file_is_reported_by_its_name(kind, place, changes, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / f"changed.{kind}"
    path.write_bytes(changed(sound(kind), changes, place))
    use(path)


@pytest.mark.parametrize("kind", ["safetensors", "gguf", "pth", "pt"])
def test_unchanged_they_load(kind, tmp_path):
    path = tmp_path / f"sound.{kind}"
    path.write_bytes(sound(kind))
    weights = read_file(str(path), input="file", accepted="weights", packed=True).weights
    assert len(weights) == (2 if kind == "gguf" else len(WEIGHTS))
    packed = [key for key, value in weights.items() if is_packed(value)]
    assert all(torch.isfinite(unpacked(weights[key])).all() for key in packed)
    assert bool(packed) == (kind == "gguf")


def test_layouts_still_write_what_is_read(tmp_path):
    path, _ = layouts.write_gguf(tmp_path / "m.gguf", {"a": torch.ones(2, 64)}, "Q4_0")
    assert read_file(str(path), input="file", accepted="").weights["a"].shape == (2, 64)
