"""Files that are damaged or made to harm: each is refused by name, at once, and what is only unusual loads."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import struct
import zipfile
from pathlib import Path

import pytest
import resource_use
import torch
import weight_layouts as layouts
from native_cases import tiny_weights
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.text.umt5 import read_text_encoder
from ovi_native.ovi_core.vae.audio_vae import read_audio_vae
from ovi_native.ovi_core.vae.video_vae import read_video_vae
from ovi_native.ovi_core.weights import comfyui
from ovi_native.ovi_core.weights.files import read_file, read_header
from ovi_native.ovi_core.weights.gguf_header import read_gguf_header
from safetensors.torch import save_file

CASES = Path(__file__).parent / "cases"
LOADERS = (load_model, read_text_encoder, read_video_vae, read_audio_vae)
LAYER = "video_model.blocks.0.self_attn.q"


def read(path):
    return read_file(str(path), input="file", accepted="weights")


def refused(path, found="", run=read):
    with pytest.raises(OviError) as caught:
        run(path)
    assert found in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("load", LOADERS, ids=lambda load: load.__name__)
@pytest.mark.parametrize("case", sorted(path.name for path in CASES.iterdir()))
def test_a_damaged_file_is_refused_by_every_loader(case, load, tmp_path):
    shutil.copy(CASES / case, tmp_path / case)
    refused(str(tmp_path / case), run=load)
    assert read_or_refused(tmp_path / case) == read_or_refused(tmp_path / case)


def read_or_refused(path):
    """The names in a file's header, or why it is refused."""
    try:
        return sorted(read_header(str(path), input="file", accepted="weights").weights)
    except OviError as error:
        return str(error)


def with_header(path, text, data=bytes(64)):
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize("length", [0x7B20, 0x7B0A, 0x7B7B, 0x3C68])
def test_a_header_whose_length_spells_another_format_loads(length, tmp_path):
    entry = b'"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    head = b'{"__metadata__":{"x":"'
    text = head + b"y" * (length - len(head) - len(entry) - 3) + b'"},' + entry
    path = with_header(tmp_path / "odd.safetensors", text, struct.pack("<f", 5))
    assert len(text) == length
    assert read(path).weights["x"].tolist() == [5]
    assert read_header(str(path), input="file", accepted="").weights["x"].shape == (1,)


@pytest.mark.parametrize(
    "text", [b"[" * 100_000, b'{"a":' * 100_000, b"{" + b'"a":1,' * 100_000, b'{"a":{"dtype":"F32"}}']
)
def test_a_header_that_is_no_list_of_tensors_is_refused(text, tmp_path):
    refused(with_header(tmp_path / "m.safetensors", b"{" + text[1:]), "'m.safetensors', which is damaged")


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**60]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F4", "shape": [128], "data_offsets": [0, 64]},
        {"dtype": "F32", "shape": [16], "data_offsets": [4, 68]},
    ],
)
def test_shapes_and_offsets_are_held_against_the_file(entry, tmp_path):
    path = with_header(tmp_path / "m.safetensors", json.dumps({"x": entry}).encode())
    refused(path, "'m.safetensors', which is damaged")
    refused(path, "'m.safetensors'", run=lambda path: read_header(str(path), input="file", accepted=""))


def test_no_metadata_and_null_are_the_same(tmp_path):
    text = b'{"__metadata__":null,"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    assert read(with_header(tmp_path / "m.safetensors", text, bytes(4))).metadata == {}


# Quantized layers.


def quantized(folder, mark=None, metadata=None, **beside):
    """The tiny model with one layer in fp8 and what is written beside it."""
    weights = dict(tiny_weights())
    weights[f"{LAYER}.weight"] = weights[f"{LAYER}.weight"].to(torch.float8_e4m3fn)
    weights |= {f"{LAYER}.{name}": value for name, value in beside.items()}
    if mark is not None:
        weights[f"{LAYER}.comfy_quant"] = torch.tensor(list(mark), dtype=torch.uint8)
    save_file(weights, folder / "m.safetensors", metadata)
    return str(folder / "m.safetensors")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "7", '{"layers":3}', '{"layers":{"a":3}}', '{"layers":[1]}', "[" * 9000]
)
def test_a_list_of_quantized_layers_that_cannot_be_read_is_refused(text, tmp_path):
    path = quantized(tmp_path, metadata={"_quantization_metadata": text}, weight_scale=torch.ones(()))
    refused(path, "list of quantized layers cannot be read", run=load_model)


@pytest.mark.parametrize(
    "mark",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"format":3}',
        b"{}",
        b'{"format":"int8_tensorwise","convrot_groupsize":"x"}',
        b'{"format":"convrot_w4a4","params":{"convrot_groupsize":0}}',
        b'{"format":"float8_e4m3fn","convrot_groupsize":-1}',
    ],
)
def test_a_mark_that_cannot_be_read_is_refused(mark, tmp_path):
    refused(
        quantized(tmp_path, mark, weight_scale=torch.ones(())),
        "self_attn.q.comfy_quant' cannot be read",
        run=load_model,
    )


@pytest.mark.parametrize("format", ["asym_w4a8_int8", "awq_w4a16", "svdquant_w4a4", "no_such_format"])
def test_a_format_of_another_comfyui_is_refused_by_name(format, tmp_path):
    path = quantized(tmp_path, json.dumps({"format": format}).encode(), weight_scale=torch.ones(()))
    refused(path, f"quantized as {format}, which this ComfyUI does not compute with", run=load_model)


def test_a_format_that_a_later_comfyui_knows_is_not_refused_by_name(tmp_path, monkeypatch):
    later = {**comfyui.quantized_formats(), "awq_w4a16": frozenset({"weight_scale"})}
    monkeypatch.setattr(comfyui, "quantized_formats", lambda: later)
    path = quantized(tmp_path, b'{"format":"awq_w4a16"}', weight_scale=torch.ones(()))
    assert "does not compute with" not in str(refused(path, run=load_model))  # its 8-bit layer has another shape


@pytest.mark.parametrize(
    ("format", "scales"),
    [
        ("float8_e4m3fn", {"weight_scale": torch.ones(2)}),
        ("float8_e4m3fn", {"weight_scale": torch.ones(0)}),
        ("mxfp8", {"weight_scale": torch.ones(7, dtype=torch.uint8)}),
        ("mxfp8", {}),
        ("nvfp4", {"weight_scale": torch.ones(128, 16, dtype=torch.uint8)}),
        ("int8_tensorwise", {"weight_scale": torch.ones(3)}),
        ("convrot_w4a4", {}),
    ],
)
def test_scales_of_another_size_are_refused(format, scales, tmp_path):
    mark = json.dumps({"format": format}).encode()
    refused(quantized(tmp_path, mark, **scales), f"weights as {format} with ", run=load_model)


def test_a_quantized_layer_of_another_shape_is_refused(tmp_path):
    weights = {f"{LAYER}.weight": torch.zeros(64, 128, dtype=torch.float8_e4m3fn)}
    save_file(tiny_weights() | weights | {f"{LAYER}.weight_scale": torch.ones(())}, tmp_path / "m.safetensors")
    refused(str(tmp_path / "m.safetensors"), "q.weight [64, 128] instead of [128, 128]", run=load_model)


@pytest.mark.parametrize("scale", [torch.ones(2, 1), torch.ones(0), torch.ones(1, 1, 3, 3)])
def test_a_layer_that_is_no_matrix_with_scales_of_another_size_is_refused(scale, tmp_path):
    weights = {"video_model.patch_embedding.weight": torch.ones(4, 4, 1, 2, 2)}
    save_file(weights | {"video_model.patch_embedding.weight_scale": scale}, tmp_path / "m.safetensors")
    refused(str(tmp_path / "m.safetensors"), "numbers as 'video_model.patch_embedding.weight_scale'", run=load_model)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1, 1, 1, 1)])
@pytest.mark.parametrize("load", LOADERS, ids=lambda load: load.__name__)
def test_weights_with_other_axes_are_refused(load, shape, tmp_path):
    keys = ("conv2.weight", "decoder.middle.0.residual.0.gamma", "decoder.upsamples.0.upsamples.0.x", "shared.weight")
    save_file({key: torch.ones(shape) for key in keys}, tmp_path / "m.safetensors")
    refused(str(tmp_path / "m.safetensors"), run=load)


# Torch's files.


def zipped(path, pickled, compression=zipfile.ZIP_STORED, **entries):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
        for name, content in entries.items():
            archive.writestr(f"archive/data/{name}", content)
    return path


def nested(depth):
    """A pickle of dictionaries, one in another."""
    return b"\x80\x02" + b"}X\x01\x00\x00\x00a" * depth + b"}" + b"s" * depth + b"."


def test_what_unpacks_to_far_more_than_it_is_is_refused_unread(tmp_path):
    bomb = zipped(tmp_path / "bomb.pth", pickle.dumps({}, 2), zipfile.ZIP_DEFLATED, **{"0": bytes(64 << 20)})
    assert bomb.stat().st_size < 1 << 18
    with resource_use.memory_below(32 << 20):
        refused(bomb, "its entries are compressed")


def test_entries_that_share_their_bytes_are_refused(tmp_path):
    path = zipped(tmp_path / "m.pth", pickle.dumps({}, 2), **{"0": bytes(1000)})
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    last = content.rindex(b"PK\x01\x02")
    record, end = content[last : content.index(b"PK\x05\x06")], content[content.index(b"PK\x05\x06") :]
    copies = b"".join(bytes(record).replace(b"data/0", b"data/%d" % i) for i in range(1, 10))
    body = content[: content.index(b"PK\x05\x06")] + copies
    end[8:16] = struct.pack("<HHL", 13, 13, len(body) - directory)
    path.write_bytes(body + end)
    refused(path, "bytes in a file of")


@pytest.mark.parametrize("depth", [40_000, 200_000])
def test_a_pickle_far_longer_than_its_tensors_need_is_refused_unread(depth, tmp_path):
    refused(zipped(tmp_path / "m.pth", nested(depth)), "for 0 tensors, where 262,144 are the limit")


def test_a_bare_pickle_is_read_no_further_than_a_pickle_may_be_long(tmp_path):
    (tmp_path / "m.pth").write_bytes(nested(800_000))
    refused(tmp_path / "m.pth", run=read)


ALLOCATES = b"\x80\x02cbuiltins\nbytearray\nJ" + struct.pack("<i", 1 << 28) + b"\x85R."


@pytest.mark.parametrize("bare", [True, False])
def test_a_pickle_that_asks_for_memory_alone_is_refused_unread(bare, tmp_path):
    path = tmp_path / "m.pth"
    zipped(path, ALLOCATES)
    if bare:
        magic = pickle.dumps(torch.serialization.MAGIC_NUMBER, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
        path.write_bytes(magic + ALLOCATES)
    with resource_use.memory_below(32 << 20):
        refused(path, "a pickle that holds code")


def test_a_tensor_that_is_in_no_file_is_refused(tmp_path):
    made = b"\x80\x02}X\x01\x00\x00\x00actorch\nTensor\nJ" + struct.pack("<i", 1 << 30) + b"\x85Rs."
    refused(zipped(tmp_path / "m.pth", made), "'m.pth'")


def test_a_bare_pickle_with_large_tensors_still_loads(tmp_path):
    weights = {"a": torch.arange(3_000_000.0), "b": torch.ones(2, dtype=torch.bfloat16)}
    torch.save({"state_dict": weights}, tmp_path / "m.pth", _use_new_zipfile_serialization=False)
    found = read(tmp_path / "m.pth").weights
    assert all(torch.equal(found[key], value) for key, value in weights.items())


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({1: torch.ones(2)}, "not named by texts"),
        ([torch.ones(2)], "it holds a list"),
        (torch.ones(2), "it holds a Tensor"),
        ({"a": torch.ones(1).expand(1 << 40)}, "claims more values than are stored"),
        ({"a": torch.ones(2).to_sparse()}, "no plain tensor"),
        ({"a": torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.quint8)}, "no plain tensor"),
        ({"a": torch.ones(2, device="meta")}, "no plain tensor"),
    ],
)
def test_what_is_no_plain_tensor_by_name_is_refused(content, found, tmp_path):
    torch.save(content, tmp_path / "m.pth")
    refused(tmp_path / "m.pth", found)


def test_wrappings_one_in_another_end(tmp_path):
    content: dict = {}
    content["model"] = content
    torch.save(content, tmp_path / "m.pth")
    assert read(tmp_path / "m.pth").weights == {}


def test_a_file_that_is_read_not_mapped_may_go_away(tmp_path):
    save_file({"a": torch.ones(1 << 16)}, tmp_path / "m.safetensors")
    torch.save({"a": torch.ones(1 << 16)}, tmp_path / "m.pth")
    layouts.write_gguf(tmp_path / "m.gguf", {"a": torch.ones(1, 1 << 16)}, "F32")
    for path in sorted(tmp_path.iterdir()):
        weights = read_file(str(path), input="file", accepted="", mapped=False).weights
        path.write_bytes(b"")
        assert weights["a"].sum() == 1 << 16, path.name


# GGUF.


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


def test_a_path_that_is_none_is_refused():
    for path in ("/no/such/file", "", "a\0b", "/"):
        refused(path, "", run=load_model)


def test_a_text_encoder_of_far_too_many_layers_is_refused(tmp_path):
    keys = {f"encoder.block.{i}.layer.0.SelfAttention.q.weight": torch.zeros(4, 4) for i in range(300)}
    keys["encoder.block.299.layer.0.SelfAttention.relative_attention_bias.weight"] = torch.zeros(4, 4)
    others = {
        "shared.weight": torch.zeros(4, 4),
        "encoder.block.0.layer.1.DenseReluDense.wi_0.weight": torch.zeros(4, 4),
    }
    save_file(keys | others | {"spiece_model": torch.zeros(4, dtype=torch.uint8)}, tmp_path / "m.safetensors")
    refused(str(tmp_path / "m.safetensors"), "of 300 layers", run=read_text_encoder)


@pytest.mark.parametrize("content", [b"", b"\x0a", b"no model", bytes(1000)])
def test_a_tokenizer_that_is_none_is_refused(content, tmp_path):
    from ovi_native.tools import standins

    weights = dict(standins.text_encoder(0)) | {"spiece_model": torch.tensor(list(content), dtype=torch.uint8)}
    save_file(weights, tmp_path / "m.safetensors")
    refused(str(tmp_path / "m.safetensors"), "a tokenizer ", run=read_text_encoder)


def test_a_file_of_torch_in_memory_is_what_it_was(tmp_path):
    content = io.BytesIO()
    torch.save({"state_dict": {"a": torch.arange(5)}}, content)
    (tmp_path / "m.ckpt").write_bytes(content.getvalue())
    assert read(tmp_path / "m.ckpt").weights["a"].tolist() == [0, 1, 2, 3, 4]
