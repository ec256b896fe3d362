"""Weight files: read one, and hold its keys against a network's. Every complaint is an OviError."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import comfy.utils
import safetensors
import safetensors.torch
import torch

from ..errors import OviError
from ..spec import METADATA_KEY
from .gguf_reader import MARK as GGUF_MARK
from .gguf_reader import read_gguf, read_gguf_text
from .gguf_tensors import unpacked
from .identify import describe_weights

Weights = dict[str, torch.Tensor]

FOREIGN = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
    (b"<!doctype", "a web page saved under this name"),
    (b"<html", "a web page saved under this name"),
    (b"<?xml", "a server's message (XML) saved under this name"),
    (b"{", "a text file (JSON), such as an index of weight files or a server's message"),
    (b"7z\xbc\xaf", "a packed archive (7z), which has to be unpacked"),
    (b"rar!", "a packed archive (RAR), which has to be unpacked"),
    (b"\x1f\x8b", "a packed archive (gzip), which has to be unpacked"),
    (b"\x89png", "a picture (PNG)"),
)
"""What files begin with that are no weights, in lower case."""

INNER = (("state_dict",), ("app", "model"), ("module",), ("model",), ("generator",))
"""Where training code and BigVGAN put the weights inside what they save."""


def read_weights(path: str, *, input: str, accepted: str, packed: bool = False) -> Weights:
    """Tensors by key, on the CPU and mapped from the file, of safetensors, GGUF or a torch file; no code in it is run.

    Which of these it is tells the file's content, not its name. Entries that are no tensors are left out.

    Args:
        packed: leave GGUF's quantised weights as they are (``gguf_weights``), else they come as values.

    Raises:
        OviError: the file is missing, empty, cut short, or no weight file.
    """
    with _complaints(path, input, accepted) as kind:
        if kind == "safetensors":
            named = path.lower().endswith((".safetensors", ".sft"))  # by these endings ComfyUI knows them
            found = comfy.utils.load_torch_file(path) if named else safetensors.torch.load_file(path)
        elif kind == "gguf":
            found = read_gguf(path, input=input)
        else:
            found = _read_torch(path, "cpu")
    return found if packed else {key: unpacked(value) for key, value in found.items()}


@dataclass(frozen=True)
class Header:
    """What a file says of its weights.

    Attributes:
        weights: tensors without memory (meta device), by key.
        metadata: the file's own words; of GGUF's only which variant it is.
        kind: safetensors, gguf or torch.
    """

    weights: Weights
    metadata: dict[str, str]
    kind: str


def read_header(path: str, *, input: str, accepted: str) -> Header:
    """Names, shapes and types of a file's weights, read without the weights. Raises OviError as ``read_weights``."""
    metadata: dict[str, str] = {}
    with _complaints(path, input, accepted) as kind:
        if kind == "safetensors":
            entries = _safetensors_header(path)
            metadata = entries.pop("__metadata__", {})
            types = safetensors.torch._TYPES
            weights = {
                key: torch.empty(entry["shape"], dtype=types[entry["dtype"]], device="meta")
                for key, entry in entries.items()
            }
            with safetensors.safe_open(path, framework="pt") as file:  # a format's name is no weight
                weights |= {key: file.get_tensor(key) for key in weights if key.endswith(".comfy_quant")}
        elif kind == "gguf":
            weights = {key: value.to("meta") for key, value in read_gguf(path, input=input).items()}
            metadata = {METADATA_KEY: read_gguf_text(path, METADATA_KEY, input=input)}
        else:
            weights = _read_torch(path, "meta")
    return Header(weights, metadata, kind)


@contextmanager
def _complaints(path: str, input: str, accepted: str) -> Iterator[str]:
    """The kind of a file: safetensors, gguf or torch. Whatever is wrong with it leaves as an OviError."""
    name = os.path.basename(path)

    def refuse(what: str, remedy: str = "") -> OviError:
        remedy = remedy or f"Fetch '{name}' again, or pick another file."
        return OviError(input=input, found=what, accepted=accepted, remedy=remedy)

    if not os.path.isfile(path):
        raise refuse(f"no file '{name}'")
    with open(path, "rb") as file:
        head = file.read(64)
    start = head.lstrip().lower()
    if not start:
        raise refuse(f"'{name}', an empty file")
    for mark, what in FOREIGN:
        if start.startswith(mark):
            raise refuse(f"'{name}', {what}")
    try:
        kind = _kind(head)
        if kind == "safetensors":
            _check_length(path)
        yield kind
    except OviError:
        raise
    except pickle.UnpicklingError as error:
        remedy = f"Use the .safetensors of the same model, or save the weights of '{name}' as a plain state dict."
        raise refuse(f"'{name}', a pickle that holds code or is damaged; code in files is never run", remedy) from error
    except Exception as error:
        if zipfile.is_zipfile(path) and not any(
            entry.endswith("data.pkl") for entry in zipfile.ZipFile(path).namelist()
        ):
            raise refuse(f"'{name}', a packed archive (ZIP), which has to be unpacked") from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise refuse(f"'{name}', which is damaged or no weight file ({reason[:160]})") from error


def _is_archive(path: str) -> bool:
    """Whether it is a ZIP archive of something else than torch's own."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return not any(entry.endswith("data.pkl") for entry in archive.namelist())


def _kind(head: bytes) -> str:
    if head.startswith(GGUF_MARK):
        return "gguf"
    if head[8:].lstrip().startswith(b"{"):
        return "safetensors"
    if not head.startswith((b"PK", b"\x80")):  # torch saves ZIP archives, and saved bare pickles before
        raise ValueError("its first bytes are those of no weight file")
    return "torch"


def _check_length(path: str) -> None:
    """Raise ValueError, with both figures, for a safetensors file that is shorter than it says."""
    entries = _safetensors_header(path)
    ends = [entry["data_offsets"][1] for key, entry in entries.items() if key != "__metadata__"]
    with open(path, "rb") as file:
        told = 8 + struct.unpack("<Q", file.read(8))[0] + max(ends, default=0)
    there = os.path.getsize(path)
    if there < told:
        raise ValueError(f"cut short: {there:,} of its {told:,} bytes are there")


def _safetensors_header(path: str) -> dict[str, Any]:
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        if length > os.path.getsize(path):
            raise ValueError("cut short in its first bytes")
        return json.loads(file.read(length))


def _read_torch(path: str, device: str) -> Weights:
    # Mapped where the format allows it, so that loading takes the file's size in memory once.
    found = torch.load(path, map_location=device, weights_only=True, mmap=zipfile.is_zipfile(path))
    return {key: value for key, value in _opened(found).items() if isinstance(value, torch.Tensor)}


def _opened(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is inside the wrapping of a training state; anything else as it is."""
    for way in INNER:
        inner: Any = found
        for step in way:
            inner = inner.get(step) if isinstance(inner, Mapping) else None
        if isinstance(inner, Mapping):
            return _opened(inner)
    return found


def read_metadata(path: str) -> dict[str, str]:
    """The header's metadata of a sound safetensors file; empty for other kinds of files."""
    with open(path, "rb") as file:
        if _kind(file.read(64)) != "safetensors":
            return {}
    return _safetensors_header(path).get("__metadata__", {})


def without_prefix(weights: Mapping[str, torch.Tensor], prefix: str) -> Weights:
    """The weights under ``prefix``, named without it; empty if there are none."""
    return {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}


def check_weights(
    expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], *, input: str, what: str
) -> None:
    """Raise OviError, naming the first few, unless ``found`` has exactly the keys and shapes of ``expected``."""
    faults = {
        "missing": [key for key in expected if key not in found],
        "not part of it": [key for key in found if key not in expected],
        "of another shape": [
            f"{key} {list(found[key].shape)} instead of {list(expected[key].shape)}"
            for key in expected
            if key in found and found[key].shape != expected[key].shape
        ],
    }
    told = [f"{len(keys)} {kind}: {', '.join(keys[:3])}" for kind, keys in faults.items() if keys]
    if told:
        raise OviError(
            input=input,
            found=f"{what} with wrong weights ({'; '.join(told)})",
            accepted=f"{what} with exactly its {len(expected)} weights",
            remedy="The file is cut short or of another make: fetch the published one again.",
        )


def axis(weights: Mapping[str, torch.Tensor], key: str, index: int, *, input: str, what: str) -> int:
    """Size of one axis of a weight; an OviError that names the key if the weight or the axis is not there."""
    if key not in weights or weights[key].ndim <= index:
        raise OviError(
            input=input,
            found=f"{what} without a usable weight '{key}'",
            accepted=f"a complete {what}",
            remedy="The file is cut short or of another make: fetch the published one again.",
        )
    return weights[key].shape[index]


def wrong_file(weights: Mapping[str, torch.Tensor], *, input: str, accepted: str, remedy: str) -> OviError:
    """The error for a sound file of the wrong kind; it says what the file is where that can be told."""
    return OviError(input=input, found=describe_weights(weights), accepted=accepted, remedy=remedy)
