"""Writes tensors one by one into a file: under a temporary name until it is verified, resumed where it was stopped.

The file's header lists all tensors before the first is made, so memory holds one at a time. The temporary file is the
state: its header says what is being written, its length how far that went.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.safe_write import DISK
from ovi_native.ovi_core.weights.safetensors_file import DTYPES

from .recipes import Entry

GGUF_ALIGNMENT = 32
GGUF_AXES = 4  # as many as GGML knows
GGML_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""


@dataclass(frozen=True)
class Content:
    """A file to be written: what it begins with, its tensors, and to how many bytes each is filled up."""

    header: bytes
    entries: Sequence[Entry]
    alignment: int = 1

    def padding(self, size: int) -> int:
        """Bytes after a tensor of ``size`` bytes."""
        return -size % self.alignment

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return len(self.header) + sum(entry.size + self.padding(entry.size) for entry in self.entries)


def safetensors_content(entries: Sequence[Entry], metadata: dict[str, str]) -> Content:
    """A safetensors file of these tensors."""
    names = {type: name for name, type in DTYPES.items()}
    header: dict = {"__metadata__": metadata}
    at = 0
    for entry in entries:
        header[entry.name] = {
            "dtype": names[entry.type],
            "shape": list(entry.shape),
            "data_offsets": [at, at + entry.size],
        }
        at += entry.size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return Content(struct.pack("<Q", len(text)) + text, entries)


def gguf_content(entries: Sequence[Entry], metadata: dict[str, str]) -> Content:
    """A GGUF file of these tensors; its header is the library's work."""
    import gguf
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "header.gguf"
        writer = gguf.GGUFWriter(str(path), "ovi")
        for key, value in metadata.items():
            writer.add_string(key, value)
        for entry in entries:
            packed = isinstance(entry.type, str)
            kind = gguf.GGMLQuantizationType[entry.type if packed else GGML_NAMES[entry.type]]
            # For the library a packed tensor is bytes; any other type but uint8 has the shape as it is.
            shape = gguf.quant_shape_to_byte_shape(entry.shape, kind) if packed else _axes(entry.shape)
            writer.add_tensor_info(entry.name, shape, np.dtype("uint8" if packed else "float32"), entry.size, kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        header = path.read_bytes()
    return Content(header + bytes(-len(header) % GGUF_ALIGNMENT), entries, GGUF_ALIGNMENT)


def _axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape of four axes at most: the first ones as one. Loaders know the true shape."""
    rest = shape[1 - GGUF_AXES :]
    return shape if len(shape) <= GGUF_AXES else (torch.Size(shape).numel() // torch.Size(rest).numel(), *rest)


def write(content: Content, target: Path, progress: Progress, say: Callable[[str], None]) -> None:
    """Write a file and hold it against what it should be; ``target`` appears only when it is right.

    A second call after a first that was stopped, or killed, resumes after its last whole tensor.

    Raises:
        OviError: what was written is not what was made (a failing disk), the disk is full or read-only, or ``target``
            is open in another program. What is written stays for the next call, except for a failing disk.
    """
    try:
        _write(content, target, progress, say)
    except OSError as error:
        if error.errno not in DISK:
            raise
        held = isinstance(error, PermissionError) and target.exists()
        raise OviError(
            input="target",
            found=f"'{target}', which cannot be {'replaced' if held else 'written'} ({error.strerror or error})",
            accepted=f"a folder that can be written to, with {content.size / 1e9:.2f} GB of room",
            remedy=f"{'Close the program that uses it' if held else 'Make room or change the permissions'}; the same "
            "command goes on from here.",
        ) from error


def _write(content: Content, target: Path, progress: Progress, say: Callable[[str], None]) -> None:
    partial = target.with_name(target.name + ".partial")
    done = _whole_entries(content, partial)
    if done:
        say(f"Going on after {done} of {len(content.entries)} tensors.")
    with partial.open("r+b" if partial.exists() else "w+b") as file:
        file.seek(0)
        if not done:
            file.write(content.header)
        at = len(content.header)
        for number, entry in enumerate(content.entries):
            if number >= done:
                file.seek(at)
                file.truncate()
                file.write(_bytes(entry) + bytes(content.padding(entry.size)))
            at += entry.size + content.padding(entry.size)
            progress(at, 2 * content.size)
        file.flush()
        os.fsync(file.fileno())
        _verify(content, file, partial, progress)
    partial.replace(target)


def _whole_entries(content: Content, partial: Path) -> int:
    """How many tensors an earlier, stopped call has written of the same content."""
    if not partial.is_file():
        return 0
    with partial.open("rb") as file:
        if file.read(len(content.header)) != content.header:
            return 0
    length, at = partial.stat().st_size, len(content.header)
    for number, entry in enumerate(content.entries):
        at += entry.size + content.padding(entry.size)
        if at > length:
            return number
    return len(content.entries)


def _verify(content: Content, file, partial: Path, progress: Progress) -> None:
    file.seek(len(content.header))
    at = len(content.header)
    for entry in content.entries:
        if file.read(entry.size) != _bytes(entry):
            partial.unlink()
            raise OviError(
                input="target",
                found=f"'{entry.name}' in the written file differs from what was written",
                accepted="a disk that gives back what it was given",
                remedy="Run it again; if that happens again, write to another disk.",
            )
        file.seek(content.padding(entry.size), os.SEEK_CUR)
        at += entry.size + content.padding(entry.size)
        progress(content.size + at, 2 * content.size)


def _bytes(entry: Entry) -> bytes:
    return entry.make().reshape(-1).view(torch.uint8).numpy().tobytes()
