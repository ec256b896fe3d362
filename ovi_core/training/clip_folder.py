"""A folder of clips with captions, ``talk.mp4`` and ``talk.txt``: which may be read, and what in it is a clip."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from ..errors import OviError
from ..safe_write import plain_name

ENDINGS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
CAPTION = ".txt"
NAMED = 3  # files named in a message
LONGEST_CAPTION = 1 << 20  # bytes


@dataclass(frozen=True)
class Item:
    """One clip on disk, its caption and the name of the caption's file."""

    video: Path
    caption: str
    caption_file: str

    @classmethod
    def all_in(cls, folder: Path) -> list[Item]:
        """The clips of a folder, by name.

        Raises:
            OviError: no clips, clips without a caption, or what has a clip's name and cannot be read.
        """
        if not folder.is_dir():
            raise refusal(f"no folder '{folder.name}'", "a folder in ComfyUI's input folder")
        try:
            files = sorted(folder.iterdir())
        except OSError as error:
            raise refusal(
                f"'{folder.name}', a folder that cannot be read ({error.strerror})",
                "a folder that ComfyUI may read",
                "Change the folder's permissions, or pick another.",
            ) from error
        videos = [file for file in files if _is_for_training(file.name, ENDINGS)]
        if not videos:
            raise refusal(
                f"no video in '{folder.name}'", f"clips ({', '.join(ENDINGS)}), each with its caption as a .txt file"
            )
        for video in videos:
            _check_file(video, folder)
        captions = {_key(file): file for file in files if _is_for_training(file.name, (CAPTION,))}
        items = [_item(video, captions, folder) for video in videos]
        silent = [item.video.name for item in items if not item.caption]
        if silent:
            more = f" and {len(silent) - NAMED} more" if len(silent) > NAMED else ""
            raise refusal(
                f"no caption for {', '.join(silent[:NAMED])}{more}",
                "beside each clip a .txt file of the same name, in UTF-8, with its caption",
                "Write what is seen and heard, speech as <S>words<E>, the sound as 'Audio: …' at the end.",
            )
        return items


def folder_in(root: Path, name: str) -> Path:
    """The folder ``name`` of the folder ``root``.

    The name may come from a workflow of another person, so that it must not lead out of ``root``, not by links either.

    Raises:
        OviError: a name that leads elsewhere, or is none.
    """
    wrong = not isinstance(name, str) or "\0" in name
    if not wrong:
        base, found = (os.path.realpath(path) for path in (root, os.path.join(root, name)))
        wrong = found != base and not found.startswith(os.path.join(base, ""))
    if wrong:
        raise refusal(
            f"'{name}', which is not in ComfyUI's input folder",
            "the name of a folder in ComfyUI's input folder",
            "Copy or move the clips into a folder there; a link to a folder elsewhere is not followed.",
        )
    return Path(root, name)


def state_in(root: Path, name: str) -> str:
    """Changes when videos or captions of the folder ``name`` of ``root`` do; "" where there is no such folder."""
    try:
        files = sorted(folder_in(root, name).iterdir())
    except (OSError, OviError):
        return ""
    return str([_state(file) for file in files if _is_for_training(file.name, (*ENDINGS, CAPTION))] or "")


def refusal(found: str, accepted: str, remedy: str = "Put the clips into that folder, or pick another.") -> OviError:
    """The error for a dataset's folder or for something in it."""
    return OviError(input="folder", found=found, accepted=accepted, remedy=remedy)


def _is_for_training(name: str, endings: tuple[str, ...]) -> bool:
    """Whether a file is a clip or caption by its name; systems leave files whose names begin with a dot beside them."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in endings


def _state(file: Path) -> tuple[str, int, int]:
    try:
        state = file.stat()
    except OSError:  # a link to nothing
        return file.name, -1, -1
    return file.name, state.st_size, state.st_mtime_ns


def _check_file(file: Path, folder: Path) -> None:
    """Raise OviError unless ``file`` is one, and lies in the folder; a link may lead to another file of it."""
    try:
        mode = os.stat(file).st_mode
    except OSError as error:
        found = "a link that leads nowhere" if os.path.islink(file) else error.strerror
    else:
        inside = os.path.realpath(file).startswith(os.path.join(os.path.realpath(folder), ""))
        if stat.S_ISREG(mode) and inside:
            return
        found = "a folder" if stat.S_ISDIR(mode) else "a link out of the folder" if not inside else "no file"
    raise refusal(
        f"'{file.name}', {found}",
        "clips and captions that are files in the folder itself",
        "Take it out of the folder, or put the file itself there.",
    )


def _key(file: Path) -> str:
    """A name without regard to letter case and to how accents are written, in which systems differ."""
    return plain_name(file.name).casefold()


def _item(video: Path, captions: dict[str, Path], folder: Path) -> Item:
    """A clip with the caption of its own name, or else of the name that another system takes for the same."""
    file = video.with_suffix(CAPTION)
    if not os.path.lexists(file):
        file = captions.get(_key(file), file)
    return Item(video, _caption_in(file, folder) if os.path.lexists(file) else "", file.name)


def _caption_in(file: Path, folder: Path) -> str:
    """The caption in a file."""
    _check_file(file, folder)
    try:
        with open(file, "rb") as stream:
            text = stream.read(LONGEST_CAPTION + 1)
        if len(text) > LONGEST_CAPTION:
            raise refusal(
                f"'{file.name}', a caption of more than {LONGEST_CAPTION >> 20} MB",
                "a caption of some sentences",
                "Shorten the caption.",
            )
        return text.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise refusal(
            f"'{file.name}', which is no UTF-8 text", "captions in UTF-8", "Save the caption as UTF-8."
        ) from error
    except OSError as error:
        raise refusal(
            f"'{file.name}', which cannot be read ({error.strerror})",
            "captions that ComfyUI may read",
            "Change the file's permissions.",
        ) from error
