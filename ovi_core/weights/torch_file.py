"""Files of ``torch.save``: ZIP archives and bare pickles. No code in them is run, and sizes are checked before reading.

In a ZIP archive the tensors' bytes are entries of their own, uncompressed, and ``data.pkl`` says what they are. Reading
a pickle without running code is slow (about a second for half a million steps), so its length is limited.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import torch

PICKLE = 256 << 10  # bytes of a pickle that needs no explanation
PICKLE_PER_TENSOR = 1 << 10  # and beside that for each tensor; 200 to 300 are usual
LONGEST_PICKLE = 4 << 20
LONGEST_DIRECTORY = 8 << 20  # bytes; about 80,000 entries
ENDS = 56 + 20 + 22  # bytes of the records at the end of a ZIP archive: two of 64 bits, which may lack, and the last
ALLOCATES = b"bytearray\n"
"""The name, on a line of its own, of the one thing that torch builds for a pickle at any size that it asks for."""
DEEPEST = 8  # wrappings of a training state, one in another
INNER = (("state_dict",), ("app", "model"), ("module",), ("model",), ("generator",))
"""Where training code and BigVGAN put the weights inside what they save."""


class HoldsCode(Exception):
    """A pickle asks for something that is no plain data."""


class PackedArchive(Exception):
    """A ZIP archive of something else than torch's own."""


def read_torch(path: str, device: str = "cpu", mapped: bool = True) -> dict[str, torch.Tensor]:
    """Tensors of a file by key; entries that are no tensors are left out.

    Args:
        device: ``cpu``, or ``meta`` for shapes and types alone.
        mapped: leave the bytes in the file, where the format allows it, so that loading takes its size in memory once.

    Raises:
        HoldsCode: the pickle holds code or is damaged.
        PackedArchive: a ZIP archive of other files.
        Exception: whatever a damaged file makes the libraries raise.
    """
    try:
        if zipfile.is_zipfile(path):
            _check_archive(path)
            found = torch.load(path, map_location=device, weights_only=True, mmap=mapped)
        else:
            with _Pickle(path) as file:
                found = torch.load(file, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise HoldsCode(str(error)) from error
    return _checked(_opened(found), device, os.path.getsize(path))


def _check_archive(path: str) -> None:
    """Raise unless the directory of a ZIP archive is that of a file of torch, within its length.

    Torch stores its entries uncompressed. Compressed ones, or several that share their bytes, unpack to any size.
    """
    size = os.path.getsize(path)
    _check_directory(path)
    with zipfile.ZipFile(path) as archive:
        _check_entries(archive, size)


def _check_entries(archive: zipfile.ZipFile, size: int) -> None:
    entries = archive.infolist()
    pickles = [entry for entry in entries if entry.filename.endswith("data.pkl")]
    if not pickles:
        raise PackedArchive
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("its entries are compressed, which torch never does")
    total = sum(entry.file_size for entry in entries)
    if total > size:
        raise ValueError(f"its entries claim {total:,} bytes in a file of {size:,}")
    tensors = sum("/data/" in f"/{entry.filename}" for entry in entries)
    most = min(LONGEST_PICKLE, PICKLE + PICKLE_PER_TENSOR * tensors)
    longest = max(entry.file_size for entry in pickles)
    if longest > most:
        raise ValueError(f"its pickle has {longest:,} bytes for {tensors} tensors, where {most:,} are the limit")
    if any(ALLOCATES in archive.read(entry) for entry in pickles):
        raise HoldsCode


def _check_directory(path: str) -> None:
    """Raise ValueError unless the directory of a ZIP archive ends the file, as torch writes it, and is not too long."""
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - ENDS))
        tail = file.read().rjust(ENDS, b"\0")
    if tail[-22:-18] != b"PK\5\6":
        raise ValueError("its ZIP directory is damaged or not at the end of the file")
    (length,) = struct.unpack_from("<L", tail, ENDS - 22 + 12)
    if tail[-42:-38] == b"PK\6\7":  # the 64-bit records before the end count instead
        (length,) = struct.unpack_from("<Q", tail, 40)
    if length > LONGEST_DIRECTORY:
        raise ValueError(f"its ZIP directory has {length:,} bytes, where {LONGEST_DIRECTORY:,} are the limit")


class _Pickle(io.BufferedReader):
    """A bare pickle of torch: what the unpickler reads of it is limited, the tensors' bytes after it are not."""

    def __init__(self, path: str) -> None:
        super().__init__(io.FileIO(path))
        self.unread = LONGEST_PICKLE

    def fileno(self) -> int:
        raise io.UnsupportedOperation("torch would read past the limit")

    def read(self, size: int | None = -1) -> bytes:
        return self._counted(super().read(self.unread + 1 if size is None or size < 0 else size))

    def readline(self, size: int | None = -1) -> bytes:
        return self._counted(super().readline(self.unread + 1 if size is None or size < 0 else size))

    def _counted(self, piece: bytes) -> bytes:
        self.unread -= len(piece)
        if piece == ALLOCATES:
            raise HoldsCode
        if self.unread < 0:
            raise ValueError(f"its pickle is longer than {LONGEST_PICKLE:,} bytes")
        return piece


def _opened(found: Any) -> Mapping[str, Any]:
    """What is inside the wrapping of a training state; anything else as it is."""
    for _ in range(DEEPEST):
        inner = next(filter(lambda entry: isinstance(entry, Mapping), (_at(found, way) for way in INNER)), None)
        if inner is None:
            break
        found = inner
    if not isinstance(found, Mapping):
        raise ValueError(f"it holds a {type(found).__name__}, not weights by name")
    return found


def _at(found: Any, way: tuple[str, ...]) -> Any:
    for step in way:
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def _checked(found: Mapping[Any, Any], device: str, size: int) -> dict[str, torch.Tensor]:
    """The plain tensors in a file of ``size`` bytes.

    Raises:
        ValueError: a name that is no text, a tensor that is not plain, or tensors of more bytes than the file has.
    """
    tensors = {key: value for key, value in found.items() if isinstance(value, torch.Tensor)}
    for key, value in tensors.items():
        if not isinstance(key, str):
            raise ValueError(f"its weights are not named by texts ({key!r:.40})")
        plain = value.layout == torch.strided and not value.is_quantized and value.device.type == device
        if not plain or type(value) not in (torch.Tensor, torch.nn.Parameter):
            raise ValueError(f"its '{key}' is no plain tensor")
        # A tensor can repeat a few stored values in any shape, and only using it takes the memory.
        if device != "meta" and value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ValueError(f"its '{key}' claims more values than are stored")
    storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in tensors.values()}
    if device != "meta" and sum(storages.values()) > size:
        raise ValueError(f"its tensors claim {sum(storages.values()):,} bytes in a file of {size:,}")
    return {key: value.detach() for key, value in tensors.items()}
