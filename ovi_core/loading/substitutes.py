"""Which file here is meant by a name in a workflow that was made on another machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..spec import VARIANTS
from .manifest import MINI, SHARED, Part, model_part, parts_of


@dataclass(frozen=True)
class FileInput:
    """An input that names a file.

    Attributes:
        name: the input's.
        folder: ComfyUI's kind of folder it is chosen from.
        parts: what the file can be; none for one that nothing can stand in for.
        without: the choice for no file of its own, if the input has one.
    """

    name: str
    folder: str
    parts: tuple[Part, ...] = ()
    without: str | None = None


def stand_in(asked: str, files: Sequence[str], parts: Iterable[Part] = ()) -> str | None:
    """The one of ``files`` that ``asked``, which is not among them, most likely means; None if there is none.

    In this order: the same path written another way, the same file in another folder, the same name with another
    ending, the same published file under another name, another file that can be what is asked for.
    """
    spellings: tuple[Callable[[PurePosixPath], str], ...] = (
        lambda path: str(path),
        lambda path: path.name,
        lambda path: path.stem,
    )
    for spelling in spellings:
        alike = [file for file in files if spelling(_path(file)) == spelling(_path(asked))]
        if alike:
            return alike[0]
    ordered = sorted(parts, key=lambda part: _path(asked).stem not in part.names)
    return next((file for part in ordered if (file := part.among(files))), None)


def published(asked: str) -> dict[str, str] | None:
    """Where a file of this name is published, as ComfyUI's list of missing models wants it; None if nowhere."""
    name = PurePosixPath(asked.replace("\\", "/")).name
    parts = (part for variant in VARIANTS.values() for part in parts_of(variant))
    return next(
        (
            {"name": asked, "url": part.source.url, "directory": part.folder}
            for part in parts
            if part.source and name in (part.saved_as, PurePosixPath(part.file).name)
        ),
        None,
    )


def models() -> tuple[Part, ...]:
    """The transformers, the best first."""
    return tuple(model_part(variant) for variant in VARIANTS.values())


def shared(what: str) -> tuple[Part, ...]:
    """The parts of that role, such as ``"audio VAE"``, the published one first."""
    return tuple(part for part in (*SHARED, *MINI) if part.what == what)


def _path(file: str) -> PurePosixPath:
    return PurePosixPath(file.replace("\\", "/").lower())
