"""The example images, clips and voices that the pack's workflows open, put where *Load Image* and its kin look.

A file is put there when a workflow that names it is opened, so that nobody's input folder fills with files never asked
for. What has its name already stays, whatever it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import folder_paths

from ...ovi_core.errors import OviError
from ...ovi_core.safe_write import new_file

FOLDER = Path(__file__).resolve().parents[2] / "assets"
PATTERN = "ovi_example_*"


def names() -> set[str]:
    """Names of the example files that came with the pack."""
    return {file.name for file in FOLDER.glob(PATTERN) if file.is_file()}


def place(wanted: Iterable[str]) -> tuple[list[str], list[str]]:
    """Copy those example files among ``wanted`` that ComfyUI's input folder lacks; other names are ignored.

    Several processes may do so at once: each file appears whole, and one that is there is never replaced.

    Returns:
        names of the files that are new; and, where the folder takes none, a sentence that says so.
    """
    folder = Path(folder_paths.get_input_directory())
    new: list[str] = []
    for name in sorted(names() & set(wanted)):
        try:
            new += [name] if _placed(FOLDER / name, folder / name) else []
        except (OviError, OSError) as error:
            reason = error.found if isinstance(error, OviError) else error
            return new, [f"The workflow's example files are in {FOLDER}, but cannot be copied from there: {reason}."]
    return new, []


def _placed(source: Path, path: Path) -> bool:
    if path.is_symlink() or path.exists():
        return False
    content = source.read_bytes()
    try:
        with new_file(path, input="workflow", needed=len(content), replace=False) as part:
            part.write_bytes(content)
    except FileExistsError:  # another process was faster
        return False
    return True
