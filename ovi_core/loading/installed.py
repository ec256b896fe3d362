"""The files of a variant in ComfyUI's model folders: found, or fetched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import PurePath

from ..errors import OviError
from ..spec import Variant
from . import contents, folders
from .download import Progress
from .manifest import FOLDERS, fetch_parts, may_hold_a_part, parts_of, wanted


@dataclass(frozen=True)
class Files:
    """Paths of a variant's files; ``vocoder`` and ``audio_model`` are None where another file has them."""

    model: str
    text_encoder: str
    video_vae: str
    audio_vae: str
    vocoder: str | None
    audio_model: str | None = None

    def __str__(self) -> str:
        model = " and ".join(map(_below_models, filter(None, (self.model, self.audio_model))))
        vae = " and ".join(map(_below_models, filter(None, (self.audio_vae, self.vocoder))))
        rest = f"text encoder {_below_models(self.text_encoder)}, video VAE {_below_models(self.video_vae)}"
        return f"model {model}, {rest}, audio VAE {vae}"


def fetch_missing(variant: Variant, progress: Progress, other_sources: bool = False) -> list[str]:
    """Fetch the published files of a variant that no folder of ComfyUI's models has, whatever name it has there.

    Args:
        other_sources: where a source is gone, fetch the next published file that can stand in.

    Returns:
        Which files came in place of others, for the user.

    Raises:
        OviError: one could not be fetched.
    """
    missing = contents.find(variant, listed()).missing
    places = [(part, part.place()) for part in missing if part.source]
    return fetch_parts(places, progress, agree=lambda part, other: other_sources)


def find_files(variant: Variant) -> tuple[Files, list[str]]:
    """All files of a variant in ComfyUI's model folders, and notes on those that were found by their content.

    Raises:
        OviError: files that are missing, each with its folder and where to get it.
    """
    parts, found = parts_of(variant), contents.find(variant, listed())
    if found.missing:
        published = any(part.source for part in found.missing)
        or_fetch = ", or switch download_missing on to have them fetched" if published else ""
        places = "; ".join(map(wanted, found.missing))
        lacking = f"{len(found.missing)} of {len(parts)} files are not in ComfyUI's model folders"
        raise OviError(
            input="variant",
            found=f"'{variant.name}', of which {lacking}",
            accepted="a variant whose files are all there",
            remedy=f"Put these files in place and press R to refresh{or_fetch}: {places}.",
        )
    files = Files(
        model=found.paths[contents.MODEL],
        text_encoder=found.paths[contents.TEXT_ENCODER],
        video_vae=found.paths[contents.VIDEO_VAE],
        audio_vae=found.paths[contents.AUDIO_VAE],
        vocoder=found.paths.get(contents.VOCODER),
        audio_model=found.paths.get(contents.AUDIO_TOWER),
    )
    return files, [f"Found by its content, {note}." for note in found.notes]


def listed() -> dict[str, list[str]]:
    """Full paths of the files that ComfyUI lists in the folders of a variant's parts, and in those they may lie in."""
    paths: dict[str, list[str]] = {}
    for folder in filter(folders.is_kind, FOLDERS):
        paths[folder] = []
        for name in folders.files(folder):
            with suppress(OviError):  # deleted since ComfyUI listed it
                if may_hold_a_part(folder, name):
                    paths[folder].append(folders.path(folder, name))
    return paths


def _below_models(path: str) -> str:
    """A file's name with the folder that it lies in, as users look for it; nothing of the folders above."""
    return os.path.join(os.path.basename(os.path.dirname(path)), os.path.basename(path))


@contextmanager
def found_for(variant: Variant, **paths: str | None) -> Iterator[None]:
    """While files are read that were found, not chosen: an OviError says which it was and how to choose another.

    Args:
        paths: the files by the name of the input that their own loaders complain of.
    """
    try:
        yield
    except OviError as error:
        name = f"'{PurePath(paths.get(error.input) or '').name}'"
        what = error.found.removeprefix(f"{name}, ")
        error.input, error.found = "variant", f"for {variant.name} the file {name}, which is {what}"
        error.remedy = f"Put the right file in the place of {name}, or load each part with a loader of its own."
        raise
