"""The one way to read weight files: safetensors, GGUF and files of torch. Whatever is wrong leaves as an OviError.

What a file says of itself is checked against its length before anything is read by it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch

from ..errors import OviError
from ..spec import METADATA_KEY
from .gguf_header import MARK as GGUF_MARK
from .gguf_header import GGUFHeader, read_gguf_header
from .gguf_reader import read_gguf
from .gguf_tensors import unpacked
from .gguf_tokenizer import read_tokenizer
from .safetensors_file import is_safetensors, read_safetensors, read_safetensors_header
from .torch_file import HoldsCode, PackedArchive, read_torch

Weights = dict[str, torch.Tensor]

LARGEST_READ = 2 << 30  # bytes, on any machine
LARGEST_WITH_ROOM = 8 << 30  # bytes; a LoRA of rank 128 in float32 has 3 GB, and more is another file taken for one
ROOM = 4  # times the size of a file, free in memory, to read it: its bytes and its tensors are there at once
SAFETENSORS, GGUF, TORCH = "safetensors", "gguf", "torch"
FOREIGN = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
    (b"<!doctype", "a web page saved under this name"),
    (b"<html", "a web page saved under this name"),
    (b"<?xml", "a server's message (XML) saved under this name"),
    (b"{", "a text file (JSON), such as an index of weight files or a server's message"),
    (b"7z\xbc\xaf", "a packed archive (7z), which has to be unpacked"),
    (b"rar!", "a packed archive (RAR), which has to be unpacked"),
    (b"\x1f\x8b", "a packed archive (gzip), which has to be unpacked"),
    (b"\x89png", "an image (PNG)"),
)
"""What files begin with that are no weights, in lower case."""


@dataclass(frozen=True)
class WeightFile:
    """What is in a weight file.

    Attributes:
        weights: tensors by key, on the CPU; without memory (meta device) where only the header was read.
        metadata: texts by name; of GGUF's only which variant it is.
        kind: safetensors, gguf or torch; the file's content decides, not its name.
        tokenizer: the sentencepiece model in a GGUF file's header, uint8; None where there is none.
    """

    weights: Weights
    metadata: dict[str, str]
    kind: str
    tokenizer: torch.Tensor | None = None


def read_file(path: str, *, input: str, accepted: str, packed: bool = False, mapped: bool = True) -> WeightFile:
    """Everything in a weight file; no code in it is run. Entries that are no tensors are left out.

    Args:
        packed: leave GGUF's quantized weights as they are (``gguf_tensors``), else they come as values.
        mapped: leave the bytes in the file, so that loading takes its size in memory once. What is changed or deleted
            while it is mapped takes the process with it, so small files, as a LoRA's, are read instead. What is too
            large for the free memory is mapped all the same.

    Raises:
        OviError: the file is missing, empty, cut short, damaged, or no weight file.
    """
    with reading(path, input=input, accepted=accepted):
        kind = _kind(path)
        mapped = mapped or os.path.getsize(path) > _most_read()
        if kind == SAFETENSORS:
            header = read_safetensors_header(path)
            return WeightFile(read_safetensors(path, mapped), header.metadata, kind)
        if kind == TORCH:
            return WeightFile(read_torch(path, mapped=mapped), {}, kind)
        fields = read_gguf_header(path, input=input)
        weights = read_gguf(path, fields, input=input, mapped=mapped)
        if not packed:
            weights = {key: unpacked(value) for key, value in weights.items()}
        return WeightFile(weights, _metadata(fields), kind, read_tokenizer(fields))


def _most_read() -> int:
    """Bytes of a file that is read rather than mapped, at most."""
    return max(LARGEST_READ, min(LARGEST_WITH_ROOM, psutil.virtual_memory().available // ROOM))


def read_header(path: str, *, input: str, accepted: str) -> WeightFile:
    """Names, shapes and types of a file's weights, read without the weights. Raises OviError as :func:`read_file`."""
    with reading(path, input=input, accepted=accepted):
        kind = _kind(path)
        if kind == SAFETENSORS:
            header = read_safetensors_header(path)
            weights = {
                key: torch.empty(shape, dtype=dtype, device="meta") for key, (dtype, shape) in header.shapes.items()
            }
            return WeightFile(weights | header.marks, header.metadata, kind)
        if kind == TORCH:
            return WeightFile(read_torch(path, "meta"), {}, kind)
        fields = read_gguf_header(path, input=input)
        weights = {key: value.to("meta") for key, value in read_gguf(path, fields, input=input).items()}
        return WeightFile(weights, _metadata(fields), kind, read_tokenizer(fields))


def read_weights(path: str, *, input: str, accepted: str) -> Weights:
    """The tensors of a weight file, as values. Raises OviError as :func:`read_file`."""
    return read_file(path, input=input, accepted=accepted).weights


@contextmanager
def reading(path: str, *, input: str, accepted: str) -> Iterator[None]:
    """Around whatever reads a file: what a parser raises leaves as an OviError with the file's name and what it is."""
    name = os.path.basename(path)

    def refuse(what: str, remedy: str = "") -> OviError:
        remedy = remedy or f"Fetch '{name}' again, or pick another file."
        return OviError(input=input, found=what, accepted=accepted, remedy=remedy)

    foreign = _foreign(path)
    if foreign:
        raise refuse(foreign)
    try:
        yield
    except OviError:
        raise
    except PackedArchive as error:
        raise refuse(f"'{name}', a packed archive (ZIP), which has to be unpacked") from error
    except HoldsCode as error:
        remedy = f"Use the .safetensors of the same model, or save the weights of '{name}' as a plain state dict."
        raise refuse(f"'{name}', a pickle that holds code or is damaged; code in files is never run", remedy) from error
    except MemoryError as error:
        raise refuse(f"'{name}', for which the memory is not enough") from error
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise refuse(f"'{name}', which is damaged or no weight file ({reason[:160]})") from error


def _foreign(path: str) -> str:
    """What a file is that is seen at once to be no weight file; else empty."""
    name = os.path.basename(path)
    try:
        if not os.path.isfile(path):
            return f"no file '{name}'"
        with open(path, "rb") as file:
            head = file.read(64)
    except (OSError, ValueError) as error:  # no permission; a path with NUL
        return f"'{name}', which cannot be read ({error})"
    start = head.lstrip().lower()
    if not start:
        return f"'{name}', an empty file"
    if _kind_of(head):
        return ""
    return next((f"'{name}', {what}" for mark, what in FOREIGN if start.startswith(mark)), "")


def _kind(path: str) -> str:
    with open(path, "rb") as file:
        kind = _kind_of(file.read(64))
    if not kind:
        raise ValueError("its first bytes are those of no weight file")
    return kind


def _kind_of(head: bytes) -> str:
    """The kind of file that begins with ``head``; empty for none."""
    if head.startswith(GGUF_MARK):
        return GGUF
    if is_safetensors(head):
        return SAFETENSORS
    return TORCH if head.startswith((b"PK", b"\x80")) else ""  # ZIP archives, and before them bare pickles


def _metadata(fields: GGUFHeader) -> dict[str, str]:
    return {METADATA_KEY: fields.text(METADATA_KEY)}
