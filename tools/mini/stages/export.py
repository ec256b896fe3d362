"""Writes what was trained as files that ComfyUI and this pack load: ``python -m tools.mini.stages.export``.

Names and layouts are those of the published weights, so nothing that loads them knows of Ovi mini but its sizes. The
twin's large matrices are ComfyUI's scaled fp8, as ``dev.py convert --type fp8`` would write them: the same bytes hold
half as many weights again.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..paths import AUDIO_VAE, MODEL, TEXT, VIDEO_VAE
from ..training.curves import HISTORY, history
from ..training.twin_precision import twin_entries
from ..training.workers import load_pack

if TYPE_CHECKING:
    from ..training.config import Config

ROOT = Path(__file__).resolve().parents[3]
LARGEST = 30_000_000  # bytes of all files together


def export(run: Path, out: Path, config: Config, date: str) -> dict[str, int]:
    """Write the four files below ``out``, which is laid out like ComfyUI's models folder.

    Args:
        run: folder of the training run.
        config: its :class:`~tools.mini.training.config.Config`.
        date: of the training, for the files' metadata.

    Returns:
        Bytes of each file by name.

    Raises:
        FileNotFoundError: a stage has not been trained yet.
        ValueError: the files are larger than 30 MB together.
    """
    import safetensors.torch

    files = _files(run)  # first, for it says which stage is missing
    sizes, past = {}, history(run)
    for name in sorted(files, key=lambda name: name == MODEL):  # last, for its preview is fitted to the video VAE
        weights, stages = files[name]
        file = out / name
        file.parent.mkdir(parents=True, exist_ok=True)
        metadata = _metadata(past, config, stages, date) | (_preview(out / VIDEO_VAE) if name == MODEL else {})
        safetensors.torch.save_file({key: value.contiguous() for key, value in weights.items()}, file, metadata)
        sizes[name] = file.stat().st_size
    (out / HISTORY).write_text(json.dumps(past) + "\n", encoding="utf-8")
    total = sum(sizes.values())
    if total > LARGEST:
        raise ValueError(f"The files have {total / 1e6:.2f} MB together, above {LARGEST / 1e6:.0f} MB: {sizes}.")
    return sizes


def _files(run: Path) -> dict[str, tuple[dict[str, Tensor], list[str]]]:
    """Weights of each file and the stages they come from."""
    from ovi_native.ovi_core.weights.checks import without_prefix

    from ..training.loop import trained_weights
    from .audio import VAE_NAME, VOCODER_NAME
    from .twin import FINISH_NAME, PIECES
    from .twin import NAME as TWIN_NAME
    from .video_basis import NAME as BASIS_NAME
    from .video_vae import DECODER_NAME
    from .video_vae import NAME as VIDEO_NAME

    twin = trained_weights(run, FINISH_NAME)
    text = _half(without_prefix(twin, "text."))
    text["spiece_model"] = torch.tensor(list((run / TWIN_NAME / PIECES).read_bytes()), dtype=torch.uint8)
    audio = {f"vae.{key}": value for key, value in trained_weights(run, VAE_NAME).items()}
    audio |= {f"vocoder.{key}": value for key, value in trained_weights(run, VOCODER_NAME).items()}
    # Filters are stored as ComfyUI's layers use them; with this key present nobody normalises them again.
    audio["mel_converter.mel_basis"] = _mel_basis()
    return {
        MODEL: (twin_file(without_prefix(twin, "twin.")), [TWIN_NAME, FINISH_NAME]),
        TEXT: (text, [TWIN_NAME, FINISH_NAME]),
        VIDEO_VAE: (_half(trained_weights(run, BASIS_NAME)), [VIDEO_NAME, DECODER_NAME]),
        AUDIO_VAE: (_half(audio), [VAE_NAME, VOCODER_NAME]),
    }


def _preview(video_vae: Path) -> dict[str, str]:
    """The colours of ComfyUI's preview, as metadata of the model's file."""
    from ovi_native.ovi_core.model.latent_format import PREVIEW_KEY

    from .preview_factors import as_text, encoder, fitted

    return {PREVIEW_KEY: as_text(fitted(encoder(video_vae)))}


def _mel_basis() -> Tensor:
    from ovi_native.ovi_core.vae.audio_vae import mel_filters

    return mel_filters()


def _half(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.half() for key, value in weights.items()}


def twin_file(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the file of a twin with these weights (module names) holds, by the published names."""
    from ovi_native.ovi_core.model.checkpoint import published_key

    return {published_key(entry.name): entry.make() for entry in twin_entries(weights)}


def _metadata(past: dict[str, Any], config: Config, stages: list[str], date: str) -> dict[str, str]:
    steps = {stage: past[stage]["steps"] for stage in stages}
    return {
        "title": "Ovi mini",
        "license": "Apache-2.0",
        "description": "Trained from scratch on a procedural world by tools/mini of comfyui-ovi-native.",
        "date": date,
        "seed": str(config.seed),
        "steps": json.dumps(steps),
        "config": json.dumps(config.as_dict()),
    }


def main(argv: list[str] | None = None) -> int:
    """Export one run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.mini.stages.export", description=__doc__)
    parser.add_argument("--run", type=Path, default=ROOT / ".mini", metavar="DIR", help="folder of the training run")
    parser.add_argument("--to", type=Path, default=ROOT / "models" / "ovi-mini", metavar="DIR")
    parser.add_argument("--date", default=datetime.date.today().isoformat(), help="written into the files")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="as it was given in training")
    arguments = parser.parse_args(argv)
    load_pack("cpu")
    from ..training.config import Config, with_changes

    try:
        sizes = export(arguments.run, arguments.to, with_changes(Config(), arguments.set), arguments.date)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    for name, size in sizes.items():
        print(f"{size / 1e6:8.2f} MB  {arguments.to / name}")
    print(f"{sum(sizes.values()) / 1e6:8.2f} MB  in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
