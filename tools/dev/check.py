"""Prints the report of *Ovi Check*: what is installed, missing, and possible on this machine's card."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from .. import pack


def has_card() -> bool:
    """Whether ComfyUI finds something else than the CPU to compute on."""
    kinds = (torch.cuda, getattr(torch, "xpu", None), torch.backends.mps)
    return any(kind is not None and kind.is_available() for kind in kinds)


def main(models: str = "") -> int:
    """Print it.

    Args:
        models: a folder laid out like ComfyUI's ``models/``, to look into as well.
    """
    pack.load(*(() if has_card() else ("--cpu",)))
    import folder_paths
    from ovi_native.nodes.sharing import version
    from ovi_native.ovi_core.loading import check, folders
    from utils.extra_config import load_extra_path_config

    paths = Path(folder_paths.base_path) / "extra_model_paths.yaml"
    if paths.is_file():
        load_extra_path_config(str(paths))
    for folder in (*check.FOLDERS, check.LORAS) if models else ():
        folder_paths.add_model_folder_path(folder, os.path.join(models, folder), is_default=True)
    folders.offer_mini()
    print(check.report(version()))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
