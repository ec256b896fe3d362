"""Trains Ovi mini: ``python -m tools.mini.stages STAGE``, in the order of the stages; run it again to go on.

Stages: ``video-vae``, ``video-decoder``, ``video-basis`` (turns the latents' axes), ``audio-vae``, ``vocoder``,
``latents`` (encodes clips), ``twin``, ``finish-latents``, ``finish`` (goes on with the twin); or ``all``.
Everything is kept in one folder, and a run that was killed goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..training.workers import load_pack

if TYPE_CHECKING:
    from ..training.config import Config
    from ..training.loop import Stage

AUTOENCODERS = ("video-vae", "video-decoder", "video-basis", "audio-vae", "vocoder")
STAGES = (*AUTOENCODERS, "latents", "twin", "finish-latents", "finish")
ROOT = Path(__file__).resolve().parents[3]


def main(argv: list[str] | None = None) -> int:
    """Run one stage or all; returns the exit status."""
    arguments = _parser().parse_args(argv)
    # Threads that wait by spinning make a step ten times slower as soon as another program wants a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    load_pack(arguments.device)
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    from ..training import data_parallel
    from ..training.config import Config, with_changes

    config = with_changes(Config(), arguments.set)
    with data_parallel.joined():
        for stage in STAGES if arguments.stage == "all" else (arguments.stage,):
            try:
                finished = run_stage(stage, config, arguments)
            except FileNotFoundError as error:
                print(error, file=sys.stderr)
                return 1
            if not finished:
                print(f"'{stage}' is not finished; the same command goes on with it.")
                return 0
    return 0


def run_stage(name: str, config: Config, arguments: argparse.Namespace) -> bool:
    """Run one stage until it is finished or time is up; True if finished."""
    from ..training.loop import Options, train

    options = Options(
        folder=arguments.out,
        device=arguments.device,
        minutes=arguments.minutes,
        preview_minutes=arguments.preview_minutes,
        save_minutes=arguments.save_minutes,
        workers=arguments.workers,
        mixed=arguments.mixed,
        graphs=arguments.graphs,
        fit_minutes=arguments.fit_minutes,
    )
    if name == "video-basis":
        from .video_basis import make_basis

        return make_basis(config, options)
    if name in ("latents", "finish-latents"):
        from .latent_cache import encode_all

        return encode_all(config if name == "latents" else config.finishing(), options)
    stage = make_stage(name, config, arguments.device, arguments.out, arguments.wait, arguments.compile)
    return train(config, stage, options)


def make_stage(
    name: str, config: Config, device: str, folder: Path, patience: float = 0.0, compiled: bool = False
) -> Stage:
    """The stage of this name, see :class:`~tools.mini.training.loop.Stage`.

    Args:
        patience: seconds that the twin waits for clips which another process is still encoding.
        compiled: whether the twin's blocks are compiled.
    """
    from . import audio, twin, video_vae

    if name == "video-vae":
        return video_vae.VideoVAEStage(config, device)
    if name == "video-decoder":
        return video_vae.VideoDecoderStage(config, device, folder)
    if name == "audio-vae":
        return audio.AudioVAEStage(config, device)
    if name == "vocoder":
        return audio.VocoderStage(config, device, folder)
    return twin.TwinStage(config, device, folder, patience, compiled, name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.mini.stages", description=__doc__)
    parser.add_argument("stage", choices=[*STAGES, "all"])
    parser.add_argument("--out", type=Path, default=ROOT / ".mini", metavar="DIR", help="folder of the run")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop each stage after this time")
    parser.add_argument("--fit-minutes", type=float, help="choose the number of steps so that they take this time")
    parser.add_argument("--preview-minutes", type=float, default=10.0, help="time between two preview sheets")
    parser.add_argument("--save-minutes", type=float, default=5.0, help="time between two checkpoints")
    parser.add_argument("--workers", type=int, default=1, help="processes that render; 0: none but this one")
    parser.add_argument("--wait", type=float, default=0.0, help="seconds to wait for clips that are still encoded")
    parser.add_argument("--compile", action="store_true", help="compile the twin's blocks, for a long run on a card")
    parser.add_argument("--graphs", action="store_true", help="record a step of the twin as a CUDA graph")
    parser.add_argument("--threads", type=int, default=0, help="threads of the networks (default: PyTorch's choice)")
    parser.add_argument(
        "--mixed",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compute in bfloat16 where a stage may (default); --no-mixed on a processor without it",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change the configuration, as in --set twin.learning.steps=8000",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
