"""The report of *Ovi Check* and ``dev.py check``: machine, files that are there, files that are missing, what fits.

It is made to be pasted into a public place: it names neither the user nor the computer, and no folder above those of
the models. Nothing that a folder holds stops it.
"""

from __future__ import annotations

import getpass
import os
import platform
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath

import folder_paths

from ..errors import OviError, one_line
from ..spec import VARIANTS, Variant
from . import contents, folders, inspection, loras, machine
from .download import Source, gigabytes
from .manifest import ELSEWHERE, FOLDERS, MODEL_FOLDER, TEXT_FOLDER, VAE_FOLDER, Part, may_hold_a_part

LORAS = "loras"
RIGHT_FOLDER = {
    contents.MODEL: MODEL_FOLDER,
    contents.VIDEO_TOWER: MODEL_FOLDER,
    contents.AUDIO_TOWER: MODEL_FOLDER,
    contents.TEXT_ENCODER: TEXT_FOLDER,
    contents.VIDEO_VAE: VAE_FOLDER,
    contents.AUDIO_VAE: VAE_FOLDER,
    contents.VOCODER: VAE_FOLDER,
}
MOST_LINES = 60  # files of one kind that are listed
LONGEST_LINE = 400  # characters


@dataclass(frozen=True)
class Line:
    """A file in the report.

    Attributes:
        text: what it is.
        wrong: whether it cannot be used as it is.
    """

    text: str
    wrong: bool = False


def report(pack: str, variant: Variant | None = None) -> str:
    """The whole report.

    Args:
        pack: this pack's version.
        variant: for which missing files are listed; None for the one that fits the card best.
    """
    card = machine.Card.in_use()
    files = _listed()
    seen = [line for folder, paths in files.items() for path in paths if (line := _line(folder, path))]
    others = sum(map(len, files.values())) - len(seen)
    wanted = variant or (machine.best(card, machine.needs()).variant if card.name else next(iter(VARIANTS.values())))
    parts = {
        "Machine": machine.facts(pack, card),
        "Files": [
            *_cut([line.text for line in seen if not line.wrong], "files of Ovi"),
            f"{others} other files in {', '.join(files)}",
        ],
        "LoRAs": _cut(list(_loras()), "LoRAs"),
        "Files that cannot be used": _cut([line.text for line in seen if line.wrong], "such files"),
        "Variants": list(_variants(files)),
        f"Missing for {wanted.name}": list(_missing(wanted, files)),
        "This card": machine.fit(card, variant),
    }
    return "\n\n".join("\n".join((title, *map(_indented, lines))) for title, lines in parts.items() if lines)


def _indented(line: str) -> str:
    return f"  {one_line(line, LONGEST_LINE)}"


def _cut(lines: list[str], what: str) -> list[str]:
    more = len(lines) - MOST_LINES
    return [*lines[:MOST_LINES], *([f"and {more} more {what}"] if more > 0 else [])]


def _listed() -> dict[str, list[str]]:
    """Full paths by kind of folder; each file once, for two kinds can share a folder."""
    files: dict[str, list[str]] = {}
    known: set[str] = set()
    for folder in filter(folders.is_kind, FOLDERS):
        files[folder] = [path for path in _paths(folder) if path not in known and may_hold_a_part(folder, path)]
        known.update(files[folder])
    return files


def _paths(folder: str) -> list[str]:
    """Full paths of the files that ComfyUI lists now, not when it was last asked."""
    for kind in (folder, folders.GGUF + folder):
        folder_paths.filename_list_cache.pop(kind, None)
    found = []
    with suppress(OSError, KeyError):  # a folder that cannot be read
        for name in folders.files(folder):
            with suppress(OviError):  # deleted since it was listed
                found.append(folders.path(folder, name))
    return found


def _line(folder: str, path: str) -> Line | None:
    """What a file is; None where it has nothing to do with Ovi."""
    try:
        seen = contents.examine(path)
        if not seen.fault and not seen.roles:
            return None
        name = f"{folder}/{_below(folder, path)}"
        if seen.fault and folder in ELSEWHERE:
            return None
        if seen.fault:
            return Line(anonymous(f"{name}: {seen.fault}"), wrong=True)
        found = inspection.inspect(path)
    except Exception as error:  # whatever a file holds is a line of the report
        return Line(
            anonymous(f"{folder}/{os.path.basename(path)}: cannot be read ({type(error).__name__})"), wrong=True
        )
    size = gigabytes(os.path.getsize(path)) if os.path.exists(path) else "gone"
    what = f"{anonymous(name)}: {', '.join(sorted(seen.roles))}, {size}, {_stored(seen)}"
    if seen.roles & {contents.MODEL, contents.VIDEO_TOWER, contents.AUDIO_TOWER}:
        what += f", {seen.variant.name if seen.variant else 'variant unknown'}"
    if not found.usable:
        return Line(f"{what}: {anonymous(found.lines.get('wrong', ''))}", wrong=True)
    right = {RIGHT_FOLDER[role] for role in seen.roles}
    if folder in right:
        return Line(what)
    return Line(f"{what}: Load Ovi (all in one) takes it from here; for other nodes put it into models/{right.pop()}")


def _loras() -> Iterator[str]:
    """LoRAs that fit Ovi; a folder of LoRAs has many that are for other models."""
    for path in _paths(LORAS):
        changed = loras.changed(path)
        if changed:
            name = anonymous(f"{LORAS}/{_below(LORAS, path)}")
            yield f"{name}: for {changed}, {gigabytes(os.path.getsize(path))}"


def _stored(seen: contents.Seen) -> str:
    return f"{seen.bits:.0f} bits a value"


def _below(folder: str, path: str) -> str:
    """A file's path below ComfyUI's folder, with forward slashes."""
    roots = folder_paths.get_folder_paths(folder)
    below = [PurePath(path).relative_to(root).as_posix() for root in roots if PurePath(path).is_relative_to(root)]
    return min(below, key=len, default=_name(path))


def _name(path: str) -> str:
    return os.path.basename(path)


def _variants(files: dict[str, list[str]]) -> Iterator[str]:
    """Of which variants everything is there, and what *Load Ovi (all in one)* takes."""
    for variant in VARIANTS.values():
        found = contents.find(variant, files)
        if found.missing:
            yield f"{variant.name}: lacks {', '.join(part.what for part in found.missing)}"
        else:
            taken = ", ".join(dict.fromkeys(anonymous(_name(path)) for path in found.paths.values()))
            yield f"{variant.name}: complete ({taken})"


def _missing(variant: Variant, files: dict[str, list[str]]) -> Iterator[str]:
    for part in contents.find(variant, files).missing:
        if part.source is None:
            yield f"{part.what}: {part.file} in models/{part.folder}; it comes with the pack"
            continue
        yield f"{part.what}: {_offer(part, part.source, part.saved_as)}"
        for other in part.others:
            yield f"or {_offer(part, other, PurePath(other.path).name)}"


def _offer(part: Part, source: Source, name: str) -> str:
    return f"{name}, {gigabytes(source.size)}, into models/{part.folder}, from {source.url}"


def anonymous(text: str) -> str:
    """``text`` with ``~`` for the user's home, and without the names of user and computer."""
    home = Path.home()
    if home.name:
        for spelling in {str(home), home.as_posix(), os.path.realpath(home), str(home).replace("\\", "\\\\")}:
            text = re.sub(re.escape(spelling) + r"(?!\w)", "~", text, flags=re.IGNORECASE)
    for name in sorted(_own_names(), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "…", text, flags=re.IGNORECASE)
    return text


def _own_names() -> set[str]:
    names = {Path.home().name, platform.node(), platform.node().partition(".")[0]}
    with suppress(OSError, KeyError, ImportError):  # a system without a list of users
        names.add(getpass.getuser())
    return {name for name in names if name}
