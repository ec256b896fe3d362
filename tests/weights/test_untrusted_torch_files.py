"""Files of torch that are made to harm: refused before they are unpacked, and what is only unusual loads."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile

import pytest
import resource_use
import torch
import weight_layouts as layouts
from ovi_native.ovi_core.weights import files
from ovi_native.ovi_core.weights.files import read_file
from safetensors.torch import save_file
from untrusted import read, refused


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


@pytest.mark.parametrize(("free", "read"), [(6 << 30, 2 << 30), (16 << 30, 4 << 30), (512 << 30, 8 << 30)])
def test_a_larger_file_is_read_where_there_is_room_for_it(monkeypatch, free, read):
    memory = files.psutil.virtual_memory()
    monkeypatch.setattr(files.psutil, "virtual_memory", lambda: memory._replace(available=free))
    sizes = {size: size <= files._most_read() for size in (read, read + 1)}
    assert sizes == {read: True, read + 1: False}


def test_a_file_of_torch_in_memory_is_what_it_was(tmp_path):
    content = io.BytesIO()
    torch.save({"state_dict": {"a": torch.arange(5)}}, content)
    (tmp_path / "m.ckpt").write_bytes(content.getvalue())
    assert read(tmp_path / "m.ckpt").weights["a"].tolist() == [0, 1, 2, 3, 4]
