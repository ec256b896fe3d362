"""ComfyUI's lists of model files, with the GGUF files it leaves out, and the small model that comes with the pack."""

from __future__ import annotations

from pathlib import Path

import folder_paths

MODELS = "diffusion_models"
GGUF = "ovi_gguf_"
"""Before a folder's name: ComfyUI lists files by kind of folder and ending, so GGUF is a kind of its own there."""

MINI = Path(__file__).resolve().parents[2] / "models" / "ovi-mini"


def offer_mini() -> None:
    """Let ComfyUI find Ovi mini where it lies in the pack, after everything in the user's own folders."""
    for folder in sorted(path for path in MINI.glob("*") if path.is_dir()):
        folder_paths.add_model_folder_path(folder.name, str(folder))


def files(folder: str) -> list[str]:
    """Files in ComfyUI's ``folder``, as ComfyUI names them: below the folder, with their ending."""
    return sorted({*folder_paths.get_filename_list(folder), *folder_paths.get_filename_list(_gguf(folder))})


def path(folder: str, name: str) -> str:
    """Full path of one of :func:`files`; raises ComfyUI's FileNotFoundError."""
    return folder_paths.get_full_path_or_raise(_gguf(folder) if name.lower().endswith(".gguf") else folder, name)


def model_files() -> list[str]:
    """Files in the folders of diffusion models."""
    return files(MODELS)


def model_path(name: str) -> str:
    """Full path of one of :func:`model_files`; raises ComfyUI's FileNotFoundError."""
    return path(MODELS, name)


def _gguf(folder: str) -> str:
    folders, _ = folder_paths.folder_names_and_paths[folder]
    folder_paths.folder_names_and_paths[GGUF + folder] = (folders, {".gguf"})
    return GGUF + folder
