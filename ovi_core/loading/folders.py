"""ComfyUI's lists of model files, with the GGUF files it leaves out, and the small model that comes with the pack."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ..errors import OviError
from ..spec import Variant
from . import comfyui

MODELS = "diffusion_models"
GGUF = "ovi_gguf_"
"""Before a folder's name: ComfyUI lists files by kind of folder and ending, so GGUF is a kind of its own there."""

MINI = Path(__file__).resolve().parents[2] / "models" / "ovi-mini"


def offer_mini() -> None:
    """Let ComfyUI find Ovi mini where it lies in the pack, after everything in the user's own folders."""
    for folder in sorted(path for path in MINI.glob("*") if path.is_dir()):
        folder_paths.add_model_folder_path(folder.name, str(folder))


def shipped_preview(variant: Variant | None) -> str:
    """The preview's table of a variant that comes with the pack, for files that have none; empty for the others."""
    table = MINI / "preview.json"
    if variant is None or variant.name != "mini" or not table.is_file():
        return ""
    return table.read_text(encoding="utf-8")


def is_kind(folder: str) -> bool:
    """Whether ComfyUI, or another pack, has this kind of folder."""
    return folder in folder_paths.folder_names_and_paths


def files(folder: str) -> list[str]:
    """Files in ComfyUI's ``folder``, as ComfyUI names them: below the folder, with their ending."""
    return sorted({*folder_paths.get_filename_list(folder), *folder_paths.get_filename_list(_gguf(folder))})


def path(folder: str, name: str, *, input: str = "variant") -> str:
    """Full path of one of :func:`files`. A name that is not in that list leads nowhere, whatever it points at.

    Raises:
        OviError: there is no such file, or none any more.
    """
    kind = _gguf(folder) if name.lower().endswith(".gguf") else folder
    found = folder_paths.get_full_path(kind, name) if name in files(folder) else None
    if found is None:
        raise OviError(
            input=input,
            found=f"'{name}', which is no file in models/{folder}",
            accepted="a file in the list",
            remedy="Put the file there, press R to refresh, and choose it again.",
        )
    return found


def model_files() -> list[str]:
    """Files in the folders of diffusion models."""
    return files(MODELS)


def model_path(name: str, *, input: str = "model_name") -> str:
    """Full path of one of :func:`model_files`; raises OviError for another name."""
    return path(MODELS, name, input=input)


def _gguf(folder: str) -> str:
    return comfyui.folder_of_kind(folder, GGUF + folder, {".gguf"})
