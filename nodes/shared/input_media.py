"""Images and voices in ComfyUI's input folder by their names, for texts that name them.

A name can come from anywhere, a stranger's workflow or another node, so it is checked here, where the file is opened:
it names a file inside the folder, whatever it looks like and wherever links lead.
"""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path, PurePosixPath, PureWindowsPath

import folder_paths
from torch import Tensor

from nodes import LoadImage

from ...ovi_core.errors import OviError
from ...ovi_core.media import audio_file
from ...ovi_core.safe_write import check_name, plain_name
from ...ovi_core.story.plan import Voice

INPUT = "picture"
VOICE = "voice"
AROUND = 1  # s beside the second of a voice that is taken, for resampling
LONGEST = 1024  # characters of a name with its folders


def load(name: str) -> Tensor:
    """The first image [1, H, W, 3] of a file in ComfyUI's input folder.

    Raises:
        OviError: no such file, one outside the folder, or no image.
    """
    path = _checked_path(name, INPUT, "Put the image into the input folder, or drop it on a Load Image node, and")
    try:
        return LoadImage().load_image(_name_there(name, path))[0][:1]
    except Exception as error:  # ComfyUI lets through what its decoders raise
        raise OviError(
            input=INPUT,
            found=f"'{name}', which cannot be read as an image ({error})",
            accepted="a PNG, JPEG or WebP file",
            remedy="Open it in an image editor and save it again.",
        ) from error


def load_voice(name: str, start: float) -> Voice:
    """The recording in a file in ComfyUI's input folder around the second that begins at ``start``.

    Raises:
        OviError: no such file, one outside the folder, or no audio.
    """
    path = _checked_path(name, VOICE, "Put the audio into the input folder, or drop it on a Load Audio node, and")
    skipped = max(0, math.floor(start) - AROUND)  # whole seconds: resampled as the whole file would be
    waveform, rate = audio_file.excerpt(path, skipped, math.ceil(start) + 1 + AROUND, VOICE)
    if not waveform.numel():
        raise OviError(
            input=VOICE,
            found=f"'{name}', of which nothing is left after {start:g} s",
            accepted="a second of clear speech from there on",
            remedy="Write where somebody speaks, as in 'from 0 s'.",
        )
    return Voice({"waveform": waveform, "sample_rate": rate}, start - skipped, float(skipped))


def stamps(names: list[str]) -> list[tuple[str, int, int]]:
    """Name, time of the last change and size of those files that are there."""
    found = []
    for name in names:
        path = _path(name)
        with contextlib.suppress(OSError):
            if path is not None and os.path.isfile(path):
                stat = path.stat()
                found.append((name, stat.st_mtime_ns, stat.st_size))
    return found


def _checked_path(name: str, input: str, remedy: str) -> Path:
    """The file of a name.

    Raises:
        OviError: no such file, or one outside the folder.
    """
    path = _path(name)
    if path is None or not os.path.isfile(path):
        raise OviError(
            input=input,
            found=f"'{name}', which is not in ComfyUI's input folder",
            accepted="the name of a file there",
            remedy=f"{remedy} write its name.",
        )
    check_name(path, input)
    return path


def _as_written_here(name: str) -> str:
    """A name with this system's separators: workflows from Windows have ``\\``."""
    return name if os.name == "nt" else name.replace("\\", "/")


def _name_there(name: str, path: Path) -> str:
    """A name as ComfyUI's nodes take it, of the file at ``path``, which may write accents in another way."""
    written = _as_written_here(name)
    plain, _ = folder_paths.annotated_filepath(written)
    last = os.path.basename(plain)
    if last == path.name or plain_name(last) != plain_name(path.name):  # or a link, which ComfyUI follows
        return written
    return os.path.join(os.path.dirname(plain), path.name) + written[len(plain) :]


def _path(name: str) -> Path | None:
    """The resolved file of a name, or None where that is outside of the folder.

    The name's form is looked at first: on Windows a path of the network logs in where it leads.
    """
    if not 0 < len(name) <= LONGEST or "\0" in name:
        return None
    for path in (PurePosixPath(name), PureWindowsPath(name)):
        if path.is_absolute() or path.drive or path.root or ".." in path.parts:
            return None
    plain, folder = folder_paths.annotated_filepath(_as_written_here(name))
    folder = os.path.realpath(folder or folder_paths.get_input_directory())
    try:
        resolved = os.path.realpath(os.path.join(folder, plain))
        inside = os.path.commonpath((folder, resolved)) == folder
    except (OSError, ValueError):
        return None
    return _spelled_there(Path(resolved)) if inside else None


def _spelled_there(path: Path) -> Path:
    """A file by the name that its folder has; macOS may write accents apart from their letters."""
    if not os.path.lexists(path):
        with contextlib.suppress(OSError):
            for entry in os.listdir(path.parent):
                # A link among them was not resolved: it may lead anywhere.
                if plain_name(entry) == plain_name(path.name) and not os.path.islink(path.with_name(entry)):
                    return path.with_name(entry)
    return path
