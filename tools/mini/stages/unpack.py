"""Takes up training from exported files: ``python -m tools.mini.stages.unpack``.

Writes back into a run's folder what ``export`` took from it, as far as the files hold it (16 bits, 8 of the twin's
large matrices): the VAEs as trained; vocoder and twin as the weights that their stages start from. The latents of the
training clips have to be encoded again: ``latents``, then ``twin``, or ``finish-latents``, then ``finish`` goes on.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from ..paths import AUDIO_VAE, MODEL, TEXT, VIDEO_VAE
from ..training.curves import HISTORY
from ..training.workers import load_pack
from .export import ROOT


def unpack(models: Path, run: Path) -> None:
    """Write a run's folder from the exported files below ``models``."""
    from ovi_native.ovi_core.weights.checks import without_prefix
    from safetensors.torch import load_file

    from ..training.loop import START
    from .audio import VAE_NAME, VOCODER_NAME
    from .twin import NAME as TWIN_NAME
    from .twin import PIECES
    from .video_basis import NAME as BASIS_NAME
    from .video_vae import DECODER_NAME, NAME

    video, audio, text = (load_file(models / name) for name in (VIDEO_VAE, AUDIO_VAE, TEXT))
    pieces = bytes(text.pop("spiece_model").tolist())
    twin = {f"twin.{key}": value for key, value in twin_weights(models / MODEL).items()}
    twin |= {f"text.{key}": value for key, value in text.items()}
    files = {
        f"{NAME}/trained.pt": video,
        f"{DECODER_NAME}/trained.pt": video,
        f"{BASIS_NAME}/trained.pt": video,
        f"{VAE_NAME}/trained.pt": without_prefix(audio, "vae."),
        f"{VOCODER_NAME}/trained.pt": without_prefix(audio, "vocoder."),
        f"{VOCODER_NAME}/{START}": without_prefix(audio, "vocoder."),
        f"{TWIN_NAME}/{START}": twin,
        f"{TWIN_NAME}/trained.pt": twin,
    }
    for name, weights in files.items():
        file = run / name
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save({key: value.float().clone() for key, value in weights.items()}, file)
    (run / TWIN_NAME / PIECES).write_bytes(pieces)
    shutil.copyfile(models / HISTORY, run / HISTORY)


def twin_weights(file: Path) -> dict[str, torch.Tensor]:
    """Both towers' weights in float32 by the module's names, whatever type the file stores them in."""
    from ovi_native.ovi_core.loading.loader import read_transformer

    from tools.conversion import recipes

    entries = recipes.entries(read_transformer(str(file)), "fp32", in_gguf=False)
    return {entry.name: entry.make() for entry in entries}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.mini.stages.unpack", description=__doc__)
    parser.add_argument("--models", type=Path, default=ROOT / "models" / "ovi-mini", metavar="DIR")
    parser.add_argument("--out", type=Path, default=ROOT / ".mini", metavar="DIR", help="folder of the training run")
    arguments = parser.parse_args()
    load_pack("cpu")
    unpack(arguments.models, arguments.out)
    print(f"Go on with: python -m tools.mini.stages finish-latents --out {arguments.out}, then finish")


if __name__ == "__main__":
    main()
