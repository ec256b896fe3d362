"""What the files of model folders are, judged by their headers, so that a variant's files are found under any name."""

from __future__ import annotations

import functools
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

import torch

from ..errors import OviError
from ..model import checkpoint
from ..spec import Variant
from ..weights.checks import without_prefix
from ..weights.files import LARGEST_READ, WeightFile, read_header
from ..weights.identify import describe_weights, quantized_elsewhere
from .manifest import Part, parts_of
from .variant_detection import variant_of

MODEL, VIDEO_TOWER, AUDIO_TOWER = "model", "video tower", "audio tower"
TEXT_ENCODER, VIDEO_VAE, AUDIO_VAE, VOCODER = "text encoder", "video VAE", "audio VAE", "vocoder"
SMALL = "ovi_mini"
"""What the names of the small model's files begin with; the other variants cannot use them."""
FIRST_LAYERS = {VIDEO_TOWER: "patch_embedding.weight", AUDIO_TOWER: "audio_model.patch_embedding.0.weight"}
FEW_BITS, MANY_BITS = 16, 20  # per value: less and more than the 16 that a model runs with


@dataclass(frozen=True)
class Seen:
    """What one file is.

    Attributes:
        roles: the parts of Ovi that it can be: one, or both halves of the audio VAE.
        variant: of a transformer, where header, content or name show it; else None.
        bits: per value.
        fault: why the file cannot be read; empty where it can.
    """

    path: str
    roles: frozenset[str] = frozenset()
    variant: Variant | None = None
    bits: float = 0.0
    fault: str = ""

    def fits(self, variant: Variant, sure: bool) -> bool:
        """Whether this transformer is, or where not ``sure`` may be, of the variant."""
        return self.variant == variant or (not sure and self.variant is None and variant.name != "mini")


@dataclass
class Found:
    """A variant's files that are there.

    Attributes:
        paths: by the role of the part; the vocoder's is missing where the audio VAE's file has it.
        notes: what was not found by its name, for the user.
        missing: parts that are nowhere.
    """

    paths: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    missing: list[Part] = field(default_factory=list)


def find(variant: Variant, files: Mapping[str, Sequence[str]]) -> Found:
    """The variant's files among those of the model folders.

    A file of a published name is taken, unless it is seen to be something else and another file is seen to be right.
    What a part's own folder lacks is taken from another one.

    Args:
        files: full paths by ComfyUI's kind of folder.
    """
    found = Found()
    for part in parts_of(variant):
        paths = files.get(part.folder, ())
        named = part.among(paths)
        if named and _may_be(look(named), part.what, variant):
            found.paths[part.what] = named
        elif part.what == MODEL:
            _find_model(variant, paths, named, found)
        else:
            _find_part(part, variant, paths, named, found)
    missing, found.missing = found.missing, []
    for part in missing:
        both_halves = AUDIO_VAE in found.paths and VOCODER in _roles(found.paths[AUDIO_VAE])
        if part.what != VOCODER or not both_halves:
            _find_elsewhere(part, variant, files, found)
    return found


def _find_elsewhere(part: Part, variant: Variant, files: Mapping[str, Sequence[str]], found: Found) -> None:
    """A part that its own folder lacks, or half of it, in all of them."""
    homes = {path: folder for folder in (*files, part.folder) for path in files.get(folder, ())}
    there = Found()
    if part.what == MODEL:
        _find_model(variant, list(homes), None, there)
    else:
        _find_part(part, variant, list(homes), None, there)
    found.paths |= there.paths
    found.missing += there.missing
    wrong = " and ".join(sorted({homes[path] for path in there.paths.values()} - {part.folder}))
    where = f"in models/{wrong}; other nodes look for it in models/{part.folder}"
    found.notes += [f"{note}, {where}" for note in there.notes]


def look(path: str) -> Seen | None:
    """What a file is by its header; None where it cannot be read."""
    seen = examine(path)
    return None if seen.fault else seen


def examine(path: str) -> Seen:
    """What a file is by its header, or why it cannot be read."""
    try:
        stat = os.stat(path)
    except (OSError, ValueError) as error:
        return Seen(path, fault=f"which cannot be read ({getattr(error, 'strerror', None) or error})")
    return _examine(path, (stat.st_mtime_ns, stat.st_ctime_ns), stat.st_size)


@functools.lru_cache(maxsize=4096)
def _examine(path: str, changed: tuple[int, int], size: int) -> Seen:
    if path.lower().endswith((".pth", ".pt", ".bin", ".ckpt")) and size > LARGEST_READ and not _is_zip(path):
        return Seen(path, fault="in torch's old format, which has no header to look at, or damaged")
    try:
        header = read_header(path, input="variant", accepted="a weight file")
        roles = _roles_of(header)
    except OviError as error:
        return Seen(path, fault=error.found.removeprefix(f"'{_name(path)}', "))
    bits = 8 * sum(value.nbytes for value in header.weights.values())
    known = variant_of(path, header.metadata)[0] if roles & {MODEL, VIDEO_TOWER, AUDIO_TOWER} else None
    return Seen(path, roles, known, bits / max(1, sum(value.numel() for value in header.weights.values())))


def _is_zip(path: str) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except OSError:
        return False


def _roles_of(header: WeightFile) -> frozenset[str]:
    """The parts of Ovi that a file can be."""
    weights = checkpoint.unwrapped(header.weights)
    if quantized_elsewhere(weights):
        return frozenset()
    named = checkpoint.named_by_tower(weights)
    towers = {tower for tower, key in FIRST_LAYERS.items() if key in named}
    if towers and checkpoint.is_of_ovi(named):
        return frozenset({MODEL} if len(towers) == 2 else towers)
    return frozenset(_other_roles(header.weights))


def _other_roles(weights: Mapping[str, torch.Tensor]) -> set[str]:
    what = describe_weights(without_prefix(weights, "model.") or weights)
    if what.startswith("a UMT5 text encoder"):
        return {TEXT_ENCODER}
    if what.startswith("a Wan 2.2 video VAE (48"):
        return {VIDEO_VAE}
    vae, vocoder = (describe_weights(without_prefix(weights, f"{half}.") or weights) for half in ("vae", "vocoder"))
    roles = {AUDIO_VAE} if vae.startswith("an MMAudio 16 kHz VAE") else set()
    return roles | ({VOCODER} if vocoder.startswith("a BigVGAN vocoder (80 mel") else set())


def _roles(path: str) -> frozenset[str]:
    seen = look(path)
    return seen.roles if seen else frozenset()


def _may_be(seen: Seen | None, what: str, variant: Variant) -> bool:
    """Whether a file of a published name may be that part; one that cannot be read is for its loader to refuse."""
    if seen is None or not seen.roles:
        return seen is None
    if what not in seen.roles:
        return False
    return what != MODEL or seen.variant is None or seen.variant == variant


def _find_model(variant: Variant, paths: Sequence[str], named: str | None, found: Found) -> None:
    """Both towers, from one file or two: those that are surely the variant's, then those of unknown variant."""
    seen = [one for one in map(look, paths) if one is not None]
    for sure in (True, False):
        fitting = [one for one in seen if one.fits(variant, sure)]
        whole, video, audio = (_best(fitting, role) for role in (MODEL, VIDEO_TOWER, AUDIO_TOWER))
        doubt = "" if sure else f", which does not show its variant and is taken for {variant.name}"
        if whole:
            found.paths[MODEL] = whole.path
            found.notes.append(f"model: {_name(whole.path)}{doubt}")
            return
        if video and audio:
            found.paths |= {MODEL: video.path, AUDIO_TOWER: audio.path}
            found.notes.append(f"model: {_name(video.path)} and {_name(audio.path)}{doubt}")
            return
    if named:
        found.paths[MODEL] = named
    else:
        found.missing.append(parts_of(variant)[0])


def _find_part(part: Part, variant: Variant, paths: Sequence[str], named: str | None, found: Found) -> None:
    """One of the other parts; half of an audio VAE rather than a file of both, where that is the vocoder."""
    own = [path for path in paths if _name(path).lower().startswith(SMALL) == (variant.name == "mini")]
    seen = [one for one in map(look, own) if one is not None and one.roles != {AUDIO_VAE, VOCODER}]
    if part.what == AUDIO_VAE:
        seen += [one for one in map(look, own) if one is not None and one not in seen]
    best = _best(seen, part.what)
    if best:
        found.paths[part.what] = best.path
        found.notes.append(f"{part.what}: {_name(best.path)}")
    elif named:
        found.paths[part.what] = named
    else:
        found.missing.append(part)


def _best(seen: Iterable[Seen], role: str) -> Seen | None:
    """The file of a role that loses least: of 16 bits, which the model runs with, else of more, else of fewer."""
    fitting = (one for one in seen if role in one.roles)
    return min(fitting, key=lambda one: (one.bits < FEW_BITS, one.bits > MANY_BITS, -one.bits), default=None)


def _name(path: str) -> str:
    return PurePath(path.replace("\\", "/")).name
