"""Which files on disk make up a variant of Ovi, and where to get those that are missing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from ..spec import Variant
from .download import Gone, Progress, Source, fetch, gigabytes
from .variant_detection import DREAMID, DREAMID_SMALLER, OVI

MODEL_FOLDER, TEXT_FOLDER, VAE_FOLDER = "diffusion_models", "text_encoders", "vae"
ELSEWHERE = ("checkpoints", "clip_vision", "audio_encoders", "mmaudio")
"""Kinds of folders that no part of Ovi belongs into, but where people put some; the last is another pack's."""
FOLDERS = (MODEL_FOLDER, TEXT_FOLDER, VAE_FOLDER, *ELSEWHERE)
READ_ELSEWHERE = (".safetensors", ".sft", ".gguf", ".pth", ".pt")
"""Endings of the files that are looked at in such folders: those that parts of Ovi are published with."""


def may_hold_a_part(folder: str, name: str) -> bool:
    """Whether a file of this kind of folder is looked at."""
    return folder not in ELSEWHERE or name.lower().endswith(READ_ELSEWHERE)


@dataclass(frozen=True)
class Part:
    """One file a variant needs.

    Attributes:
        what: its role, for the error.
        folder: ComfyUI's folder it is looked up in.
        file: the published file.
        names: accepted file names, the preferred first; compared without folder, extension and case.
        source: where to get ``file``; None if it is not published.
        others: where it, or a file that can stand in for it, is published as well, the next best first.
    """

    what: str
    folder: str
    file: str
    names: tuple[str, ...]
    source: Source | None = None
    others: tuple[Source, ...] = ()

    @property
    def saved_as(self) -> str:
        """Name of the file when it is fetched: the published one, unless that says nothing (model.safetensors)."""
        path = PurePath(self.file)
        return self.names[0] + path.suffix if path.stem == "model" else path.name

    def among(self, files: Iterable[str]) -> str | None:
        """The one of ``files`` (as ComfyUI lists them) that is this part: the first of ``names`` that is there."""
        by_name = {PurePath(file.replace("\\", "/")).stem.lower(): file for file in files}
        return next((by_name[name] for name in self.names if name in by_name), None)

    def place(self) -> Path:
        """Where to put this part: ComfyUI's first folder of that very name, for some have older names as well."""
        import folder_paths

        places = [Path(folder) for folder in folder_paths.get_folder_paths(self.folder)]
        return next((folder for folder in places if folder.name == self.folder), places[0]) / self.saved_as


WAN_22 = "Comfy-Org/Wan_2.2_ComfyUI_Repackaged"
UMT5_SOURCE = Source(
    "Comfy-Org/Wan_2.1_ComfyUI_repackaged", "split_files/text_encoders/umt5_xxl_fp16.safetensors", 11_400_000_000
)
UMT5_OTHERS = (
    Source(WAN_22, UMT5_SOURCE.path, UMT5_SOURCE.size),
    Source(
        UMT5_SOURCE.repo,
        "split_files/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors",
        6_735_906_897,
        "c3355d30191f1f066b26d93fba017ae9809dce6c627dda5f6a66eaa651204f68",
    ),
)
WAN_VAE_SOURCE = Source(
    WAN_22,
    "split_files/vae/wan2.2_vae.safetensors",
    1_410_000_000,
    "e40321bd36b9709991dae2530eb4ac303dd168276980d3e9bc4b6e2b75fed156",
)
WAN_VAE_OTHERS = (Source("Comfy-Org/Wan-2.2", WAN_VAE_SOURCE.path, WAN_VAE_SOURCE.size, WAN_VAE_SOURCE.sha256),)
MMAUDIO = "hkchengrex/MMAudio"
UMT5_GGUF = ("q8_0", "q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q3_k_m", "q3_k_s", "f16")
UMT5_NAMES = (
    "umt5_xxl_fp16",
    "umt5_xxl_bf16",
    "umt5_xxl_fp8_e4m3fn_scaled",
    *(f"umt5-xxl-encoder-{kind}" for kind in UMT5_GGUF),
)
WAN_VAE_NAMES = ("wan2.2_vae", "wan2_2_vae_bf16", "wan2_2_vae")
AUDIO_VAE_NAMES = ("v1-16", "mmaudio_vae_16k_bf16")
VOCODER_NAMES = ("best_netg", "mmaudio_vocoder_bigvgan_best_netg_bf16")

SHARED = (
    Part("text encoder", TEXT_FOLDER, "umt5_xxl_fp16.safetensors", UMT5_NAMES, UMT5_SOURCE, UMT5_OTHERS),
    Part("video VAE", VAE_FOLDER, "wan2.2_vae.safetensors", WAN_VAE_NAMES, WAN_VAE_SOURCE, WAN_VAE_OTHERS),
    Part("audio VAE", VAE_FOLDER, "v1-16.pth", AUDIO_VAE_NAMES, Source(MMAUDIO, "ext_weights/v1-16.pth", 687_000_000)),
    Part(
        "vocoder", VAE_FOLDER, "best_netG.pt", VOCODER_NAMES, Source(MMAUDIO, "ext_weights/best_netG.pt", 449_000_000)
    ),
)
MINI = (
    Part("text encoder", TEXT_FOLDER, "ovi_mini_umt5.safetensors", ("ovi_mini_umt5",)),
    Part("video VAE", VAE_FOLDER, "ovi_mini_video_vae.safetensors", ("ovi_mini_video_vae",)),
    Part("audio VAE", VAE_FOLDER, "ovi_mini_audio_vae.safetensors", ("ovi_mini_audio_vae",)),
)
OTHER_MODEL_NAMES = {
    "720x720_5s": ("ovi-11b-bf16", "model_fp8_e4m3fn", "ovi-11b-fp8"),
    "960x960_5s": ("wan2_2-5b-ovi_960x960_fp8_e4m3fn_scaled_kj",),
    "960x960_10s": ("wan2_2-5b-ovi_960x960_10s_fp8_e4m3fn_scaled_kj",),
    "dreamid_omni": tuple(
        f"dreamid_omni{mark}{kind}" for kind in ("bf16", "fp8_e4m3fn_scaled", "fp8_e4m3fn") for mark in "._-"
    ),
}
KIJAI = "Kijai/WanVideo_comfy_fp8_scaled"
KIJAI_10S = "9ddbb9099bfa26ea0ec5d599624eae81f3401bcd31916c37ef59e25c19e5ff7f"
OTHER_SOURCES = {
    "960x960_5s": (Source(KIJAI, "TI2V/Ovi/Wan2_2-5B-Ovi_960x960_fp8_e4m3fn_scaled_KJ.safetensors", 12_400_000_000),),
    "960x960_10s": (
        Source(KIJAI, "TI2V/Ovi/Wan2_2-5B-Ovi_960x960_10s_fp8_e4m3fn_scaled_KJ.safetensors", 12_341_119_544, KIJAI_10S),
    ),
    "dreamid_omni": (
        Source(DREAMID_SMALLER, "dreamid_omni.bf16.safetensors", 23_300_000_000),
        Source(DREAMID_SMALLER, "dreamid_omni.fp8_e4m3fn.safetensors", 11_700_000_000),
    ),
}
"""Where a variant is published a second time, with sizes in bytes."""
IN_BFLOAT16, IN_FLOAT32 = 23_300_000_000, 46_600_000_000
"""Sizes of the published transformers: 11.66 billion values."""


def model_part(variant: Variant) -> Part:
    """The transformer of a variant."""
    # The published name comes last: one of them is plain model.safetensors, which may be anything.
    others = OTHER_MODEL_NAMES.get(variant.name, ())
    names = (f"ovi_{variant.name}", *others, PurePath(variant.file).stem.lower())
    repository, size = {"mini": (None, 0), "dreamid_omni": (DREAMID, IN_FLOAT32)}.get(variant.name, (OVI, IN_BFLOAT16))
    source = Source(repository, variant.file, size) if repository else None
    return Part("model", MODEL_FOLDER, variant.file, names, source, OTHER_SOURCES.get(variant.name, ()))


def parts_of(variant: Variant) -> tuple[Part, ...]:
    """Every file the variant needs."""
    return model_part(variant), *(MINI if variant.name == "mini" else SHARED)


def model_list(variant: Variant) -> list[dict[str, str]]:
    """What a workflow says of the variant's published files (``properties.models``), for ComfyUI's missing models."""
    return [
        {"name": part.saved_as, "url": part.source.url, "directory": part.folder}
        | ({"hash": part.source.sha256, "hash_type": "SHA256"} if part.source.sha256 else {})
        for part in parts_of(variant)
        if part.source
    ]


def refuse(part: Part, other: Source) -> bool:
    """No other source than a part's first is asked."""
    return False


def fetch_parts(
    wanted: Sequence[tuple[Part, Path]],
    progress: Progress,
    say: Callable[[str], None] = logging.info,
    agree: Callable[[Part, Source], bool] = refuse,
    to_agree: str = "switch other_sources on",
) -> list[str]:
    """Fetch parts that are published to their paths; where a source is gone, the next one's file, if that is agreed to.

    Args:
        agree: whether to fetch the file of another source in place of a part whose source is gone.
        to_agree: how the user does that, for the error.

    Returns:
        Which files came in place of others, for the user.

    Raises:
        OviError: one could not be fetched. Where its source is gone, the next published file is named with its size.
    """
    notes = []
    left = [(part, path, (part.source, *part.others)) for part, path in wanted if part.source]
    while left:
        try:
            fetch([(sources[0], path) for _, path, sources in left], progress, say)
            break
        except Gone as error:
            left = left[error.done :]
            at = next(index for index, (_, _, sources) in enumerate(left) if sources[0] == error.source)
            part, path, sources = left[at]
            if len(sources) == 1:
                raise
            other = sources[1]
            if not agree(part, other):
                error.remedy += f" Or {to_agree}, and {_offered(other)} is fetched into models/{part.folder} instead."
                raise
            notes.append(f"'{part.saved_as}' is gone from {error.source}, so {_offered(other)} was fetched.")
            left[at] = part, path.with_name(PurePath(other.path).name), sources[1:]
    return notes


def _offered(other: Source) -> str:
    return f"'{PurePath(other.path).name}' ({gigabytes(other.size)}, {other.url})"


def wanted(part: Part) -> str:
    """A part in an error: what it is, where it goes and where to get it."""
    place = f"{part.what} '{part.file}' in models/{part.folder}"
    return f"{place} (from {part.source})" if part.source else place
