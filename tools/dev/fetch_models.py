"""Fetches a variant's published files into a folder laid out like ComfyUI's ``models/``."""

from __future__ import annotations

from pathlib import Path

from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.loading import manifest
from ovi_native.ovi_core.loading.download import Source, gigabytes
from ovi_native.ovi_core.spec import VARIANTS, Variant

from .problems import DevError


def run(variant: str, models: Path, yes: bool = False) -> int:
    """Fetch what ``models`` lacks of the variant; returns the exit status.

    Args:
        yes: where a source is gone, fetch the next published file without asking.

    Raises:
        DevError: an unknown variant, one that is not published, or what went wrong with a file.
    """
    published = [name for name, known in VARIANTS.items() if manifest.model_list(known)]
    if variant not in published:
        raise DevError(f"No variant '{variant}' is published. Accepted: {', '.join(published)}.")
    parts = manifest.parts_of(VARIANTS[variant])
    missing = _missing(VARIANTS[variant], {folder: _files(models, folder) for folder in manifest.FOLDERS})
    for part in parts:
        print(f"{'missing' if part in missing else 'there':8} {part.what}: {part.folder}/{part.saved_as}")
    try:
        files = [(part, models / part.folder / part.saved_as) for part in missing if part.source]
        # The library draws the bar in the terminal.
        notes = manifest.fetch_parts(
            files, lambda done, total: None, print, lambda part, other: yes or _agrees(part, other), "give --yes"
        )
        print(*notes, sep="\n", end="\n" * bool(notes))
    except OviError as error:
        raise DevError(f"{error.found[:1].upper()}{error.found[1:]}. {error.remedy}") from error
    return 0


def _agrees(part: manifest.Part, other: Source) -> bool:
    """Ask in the terminal; where there is none, or no answer, that is a no."""
    what = f"'{other.path.rpartition('/')[2]}' ({gigabytes(other.size)}) from {other}"
    print(f"{part.what}: '{part.saved_as}' is gone from {part.source}.")
    try:
        return input(f"Fetch {what} instead? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


def _missing(variant: Variant, files: dict[str, list[str]]) -> list[manifest.Part]:
    """Parts that are among the files under no name; where ComfyUI is not at hand, under no published name."""
    try:
        from ovi_native.ovi_core.loading import contents
    except ModuleNotFoundError:
        return [part for part in manifest.parts_of(variant) if part.among(files[part.folder]) is None]
    return contents.find(variant, files).missing


def _files(models: Path, folder: str) -> list[str]:
    files = [file for file in (models / folder).rglob("*") if file.is_file() and file.suffix != ".partial"]
    return [str(file) for file in files if manifest.may_hold_a_part(folder, file.name)]
