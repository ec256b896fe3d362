"""The host's list of diffusion models, with the GGUF files it leaves out, and the small model that comes with the pack."""

from __future__ import annotations

from pathlib import Path

import folder_paths

MODELS = "diffusion_models"
GGUF = (
    "ovi_gguf"  # the host lists files by kind of folder and ending, so GGUF is a kind of its own, in the same folders
)

MINI = Path(__file__).resolve().parent.parent / "models" / "ovi-mini"


def offer_mini() -> None:
    """Let the host find Ovi mini where it lies in the pack, after everything in the user's own folders."""
    for folder in sorted(path for path in MINI.glob("*") if path.is_dir()):
        folder_paths.add_model_folder_path(folder.name, str(folder))


def model_files() -> list[str]:
    """Files in the folders of diffusion models, as the host names them: below the folder, with their ending."""
    return sorted({*folder_paths.get_filename_list(MODELS), *folder_paths.get_filename_list(_gguf())})


def model_path(name: str) -> str:
    """Full path of one of :func:`model_files`; raises the host's FileNotFoundError."""
    return folder_paths.get_full_path_or_raise(_gguf() if name.lower().endswith(".gguf") else MODELS, name)


def _gguf() -> str:
    folders, _ = folder_paths.folder_names_and_paths[MODELS]
    folder_paths.folder_names_and_paths[GGUF] = (folders, {".gguf"})
    return GGUF
