"""Which published files the downloaded ones are, whatever their names are now.

All variants of Ovi have the same names, shapes and size, so a renamed file does not show which it is. Its SHA-256
would, but takes minutes to compute. So when a download is verified, a fingerprint of it, some pieces from all over the
file, goes into a list beside it; later the same pieces find it again.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from ..errors import OviError
from ..safe_write import new_file

LIST = ".ovi_fetched.json"
"""In the folder of the files: by fingerprint, the repository and path each was published under, and its SHA-256."""
LONGEST_LIST = 1 << 20  # characters; an entry has two hundred
PIECES, PIECE = 64, 1 << 16
"""How many pieces of a file make its fingerprint, and their bytes: 4 MB in all."""


def fingerprint(path: Path) -> str:
    """A hash of a file's size and of pieces evenly spread from its first byte to its last; 64 hexadecimal digits."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for i in range(PIECES):
            file.seek(max(0, size - PIECE) * i // (PIECES - 1))
            digest.update(file.read(PIECE))
    return digest.hexdigest()


def remember(path: Path, source: str, sha256: str | None) -> None:
    """Put a file that is as published into the list of its folder, where that can be written.

    Args:
        source: repository and path on Hugging Face, as ``owner/name/path``.
        sha256: as it was checked; None where the server gives none.
    """
    with suppress(OSError, OviError):
        entries = _entries(path.parent) | {fingerprint(path): {"source": source, "sha256": sha256}}
        with new_file(path.with_name(LIST), input="download_missing") as part:
            part.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def recall(path: Path) -> str:
    """The source of a file that was downloaded into this folder and perhaps renamed; empty where none is known."""
    entries = _entries(path.parent)
    try:
        return str(entries.get(fingerprint(path), {}).get("source", "")) if entries and path.is_file() else ""
    except OSError:
        return ""


def _entries(folder: Path) -> dict[str, dict]:
    """The folder's list; empty where there is none that can be read."""
    try:
        with (folder / LIST).open(encoding="utf-8") as file:
            found = json.loads(file.read(LONGEST_LIST))
    except (OSError, ValueError, RecursionError):
        return {}
    return {key: entry for key, entry in found.items() if isinstance(entry, dict)} if isinstance(found, dict) else {}
