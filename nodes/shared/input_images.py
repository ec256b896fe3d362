"""Images of ComfyUI's input folder by their names, for texts that name them.

A name can come from anywhere, a stranger's workflow or another node, so it is checked here, where the file is opened:
it names a file inside the folder, whatever it looks like and wherever links lead.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path, PurePosixPath, PureWindowsPath

import folder_paths
from torch import Tensor

from nodes import LoadImage

from ...ovi_core.errors import OviError
from ...ovi_core.safe_write import check_name

INPUT = "picture"
LONGEST = 1024  # characters of a name with its folders


def load(name: str) -> Tensor:
    """The first image [1, H, W, 3] of a file in ComfyUI's input folder.

    Raises:
        OviError: no such file, one outside the folder, or no image.
    """
    path = _path(name)
    if path is None or not os.path.isfile(path):
        raise OviError(
            input=INPUT,
            found=f"'{name}', which is not in ComfyUI's input folder",
            accepted="the name of a file there",
            remedy="Put the image into the input folder, or drop it on a Load Image node, and write its name.",
        )
    check_name(path, INPUT)
    try:
        return LoadImage().load_image(_as_written_here(name))[0][:1]
    except Exception as error:  # ComfyUI lets through what its decoders raise
        raise OviError(
            input=INPUT,
            found=f"'{name}', which cannot be read as an image ({error})",
            accepted="a PNG, JPEG or WebP file",
            remedy="Open it in an image editor and save it again.",
        ) from error


def stamps(names: list[str]) -> list[tuple[str, int, int]]:
    """Name, time of the last change and size of those images that are there."""
    found = []
    for name in names:
        path = _path(name)
        with contextlib.suppress(OSError):
            if path is not None and os.path.isfile(path):
                stat = path.stat()
                found.append((name, stat.st_mtime_ns, stat.st_size))
    return found


def _as_written_here(name: str) -> str:
    """A name with this system's separators: workflows from Windows have ``\\``."""
    return name if os.name == "nt" else name.replace("\\", "/")


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
    return Path(resolved) if inside else None
