"""Converts the files of an Ovi transformer to another layout or type, tensor by tensor: ``python3 dev.py convert``."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.loading.loader import read_transformer
from ovi_native.ovi_core.loading.variant_detection import variant_of
from ovi_native.ovi_core.model import checkpoint
from ovi_native.ovi_core.spec import METADATA_KEY, VARIANTS
from ovi_native.ovi_core.weights.files import read_header
from ovi_native.ovi_core.weights.gguf_header import require_library
from tqdm import tqdm

from tools.conversion import recipes, writers

LAYOUTS: dict[str, Callable[[str], str]] = {
    "published": checkpoint.published_key,
    "comfyui": lambda key: "model.diffusion_model." + checkpoint.published_key(key),
    "wan": lambda key: key.replace(".modulation.weight", ".modulation"),
}
"""How keys are named in the file: as Ovi's own, as ComfyUI saves them, or with the video tower as Wan's."""

EPILOG = """\
types: keep leaves weights as they are; fp8 is ComfyUI's scaled fp8 for the large matrices, q8_0 to q4_0 are GGUF's for
the same ones; beside them the rest keeps its type. The target's ending, .safetensors or .gguf, says what file it is.

examples:
  dev.py convert model_960x960_10s.safetensors ovi_960x960_10s_fp8.safetensors --type fp8
  dev.py convert video.safetensors audio.safetensors ovi_720x720_5s.safetensors
  dev.py convert model_960x960.safetensors ovi_960x960_5s_q4_0.gguf --type q4_0
"""


def convert(
    sources: list[Path],
    target: Path,
    kind: str = recipes.KEEP,
    layout: str = "published",
    tower: str = "both",
    variant: str | None = None,
    progress: writers.Progress = lambda done, total: None,
    say: Callable[[str], None] = print,
) -> None:
    """Write the transformer of one file or two (video, audio) as another file.

    Args:
        kind: one of ``recipes.TYPES``.
        layout: one of :data:`LAYOUTS`.
        tower: both, video or audio.
        variant: to be noted in the file's header; by default the one of the first source.

    Raises:
        OviError: a source that is no Ovi transformer, a target that cannot be, too little room on the disk.
    """
    in_gguf = _check_target(sources, target, kind)
    weights = read_transformer(*map(str, sources))
    checkpoint.check_complete(weights, checkpoint.read_config(weights))
    if tower != "both":
        weights = checkpoint.of_tower(weights, audio=tower == "audio")
    rename = LAYOUTS[layout]
    entries = [replace(entry, name=rename(entry.name)) for entry in recipes.entries(weights, kind, in_gguf)]
    metadata = {METADATA_KEY: name} if (name := variant or _variant(sources[0], say)) else {}
    metadata["source"] = ", ".join(f"{source.name} ({source.stat().st_size} bytes)" for source in sources)
    content = (writers.gguf_content if in_gguf else writers.safetensors_content)(entries, metadata)
    _check_room(target, content.size)
    with torch.inference_mode():
        writers.write(content, target, progress, say)


def _check_target(sources: list[Path], target: Path, kind: str) -> bool:
    """Whether the target is GGUF; raises OviError if it cannot hold ``kind`` or is a source."""
    ending = target.suffix.lower()
    accepted = ".gguf" if kind in recipes.PACKED else ".safetensors" if kind == recipes.FP8 else ".safetensors or .gguf"
    if ending not in accepted.split(" or "):
        raise OviError(
            input="target",
            found=f"'{target.name}' for weights as {kind}",
            accepted=f"a name that ends in {accepted}",
            remedy=f"Name it {target.stem}{accepted.split(' or ')[0]}, or choose another --type.",
        )
    if target.resolve() in [source.resolve() for source in sources]:
        raise OviError(
            input="target",
            found=f"'{target.name}', which is a source",
            accepted="a file of its own",
            remedy="Give another name: the source stays as it is.",
        )
    if ending == ".gguf":
        require_library("target")
    return ending == ".gguf"


def _variant(source: Path, say: Callable[[str], None]) -> str | None:
    header = read_header(str(source), input="source", accepted=checkpoint.ACCEPTED)
    variant, how = variant_of(str(source), header.metadata)
    if variant is None:
        say(f"Which variant it is, {how}: give --variant and it is noted in the file.")
    return variant.name if variant else None


def _check_room(target: Path, size: int) -> None:
    partial = target.with_name(target.name + ".partial")
    lacking = size - (partial.stat().st_size if partial.exists() else 0)
    free = shutil.disk_usage(target.parent).free
    if lacking > free:
        raise OviError(
            input="target",
            found=f"{free / 1e9:.2f} GB free on the disk of '{target.parent}'",
            accepted=f"{lacking / 1e9:.2f} GB",
            remedy="Make room there, or write to another disk.",
        )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    arguments = argparse.ArgumentParser(
        prog="dev.py convert", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("sources", type=Path, nargs="+", metavar="SOURCE", help="one file, or video and audio tower")
    arguments.add_argument("target", type=Path, metavar="TARGET")
    arguments.add_argument("--type", choices=recipes.TYPES, default=recipes.KEEP, help="default: %(default)s")
    arguments.add_argument("--layout", choices=LAYOUTS, default="published", help="default: %(default)s")
    arguments.add_argument("--tower", choices=("both", "video", "audio"), default="both", help="default: %(default)s")
    arguments.add_argument("--variant", choices=VARIANTS, help="noted in the file; default: by header or name")
    return arguments


def main(argv: list[str]) -> int:
    """Run from the command line; returns the exit status."""
    given = parser().parse_args(argv)
    if len(given.sources) > 2:
        parser().error("one source, or two: the video tower's and the audio tower's")
    with tqdm(unit="B", unit_scale=True, desc=given.target.name, leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        try:
            convert(
                given.sources, given.target, given.type, given.layout, given.tower, given.variant, progress, bar.write
            )
        except OviError as error:
            bar.close()
            print(f"Found {error.found}. Accepted: {error.accepted}. {error.remedy}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            bar.close()
            print("Stopped. The same command goes on from here.", file=sys.stderr)
            return 130
    print(f"{given.target}, verified.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
