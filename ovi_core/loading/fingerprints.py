"""What the files that were fetched here are, under whatever names they go now.

All variants of Ovi have the same names, shapes and size, so a file that was renamed does not tell which it is. Its
SHA-256 would, but takes minutes to compute. So when a download is known to be whole and as published, a fingerprint of
it, some pieces from all over the file, goes into a list beside it; later a look at the same pieces finds it again.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

LIST = ".ovi_fetched.json"
"""In the folder of the files: by fingerprint, the repository and path each was published under, and its SHA-256."""
PIECES, PIECE = 64, 1 << 16
"""How many pieces of a file make its fingerprint, and their bytes: 4 MB in all."""


def fingerprint(path: Path) -> str:
    """A hash of a file's size and of pieces evenly spread from its first byte to its last; 64 hexadecimal digits."""
    size = path.stat().st_size
    told = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for i in range(PIECES):
            file.seek(max(0, size - PIECE) * i // (PIECES - 1))
            told.update(file.read(PIECE))
    return told.hexdigest()


def remember(path: Path, source: str, sha256: str | None) -> None:
    """Put a file that is as published into the list of its folder, where that can be written.

    Args:
        source: repository and path on the hub, as ``owner/name/path``.
        sha256: as the hub tells it and as it was checked; None where it tells none.
    """
    with suppress(OSError):
        entries = _entries(path.parent) | {fingerprint(path): {"source": source, "sha256": sha256}}
        new = path.with_name(f"{LIST}.{os.getpid()}")
        new.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
        os.replace(new, path.with_name(LIST))


def recall(path: Path) -> str:
    """The source of a file that was fetched into this folder and perhaps renamed since; empty where none is known."""
    entries = _entries(path.parent)
    return str(entries.get(fingerprint(path), {}).get("source", "")) if entries and path.is_file() else ""


def _entries(folder: Path) -> dict[str, dict]:
    """The folder's list; empty where there is none that can be read."""
    try:
        found = json.loads((folder / LIST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {key: entry for key, entry in found.items() if isinstance(entry, dict)} if isinstance(found, dict) else {}
