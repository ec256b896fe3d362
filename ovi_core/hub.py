"""Which files on disk make up a variant of Ovi, and where to get those that are missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

import folder_paths

from .errors import OviError
from .spec import Variant

MODEL_FOLDER, TEXT_FOLDER, VAE_FOLDER = "diffusion_models", "text_encoders", "vae"


@dataclass(frozen=True)
class Part:
    """One file a variant needs.

    Attributes:
        what: its role, for the error.
        folder: the host's folder it is looked up in.
        names: accepted file names, the preferred first; compared without folder, extension and case.
        source: where to get the first of them.
    """

    what: str
    folder: str
    names: tuple[str, ...]
    source: str

    def find(self) -> str | None:
        """Path of the first of ``names`` that exists in the host's folder or below it, or None."""
        files = {
            PurePath(name.replace("\\", "/")).stem.lower(): name for name in folder_paths.get_filename_list(self.folder)
        }
        for name in self.names:
            if name in files:
                return folder_paths.get_full_path(self.folder, files[name])
        return None


WAN = "huggingface.co/Comfy-Org/Wan_2.2_ComfyUI_Repackaged"
MMAUDIO = "huggingface.co/hkchengrex/MMAudio (ext_weights)"

SHARED = (
    Part("text encoder", TEXT_FOLDER, ("umt5_xxl_fp16", "umt5_xxl_bf16", "umt5_xxl_fp8_e4m3fn_scaled"), WAN),
    Part("video VAE", VAE_FOLDER, ("wan2.2_vae", "wan2_2_vae_bf16", "wan2_2_vae"), WAN),
    Part("audio VAE", VAE_FOLDER, ("v1-16", "mmaudio_vae_16k_bf16"), MMAUDIO),
    Part("vocoder", VAE_FOLDER, ("best_netg", "mmaudio_vocoder_bigvgan_best_netg_bf16"), MMAUDIO),
)
MINI = (
    Part("text encoder", TEXT_FOLDER, ("ovi_mini_umt5",), ""),
    Part("video VAE", VAE_FOLDER, ("ovi_mini_video_vae",), ""),
    Part("audio VAE", VAE_FOLDER, ("ovi_mini_audio_vae",), ""),
)
OTHER_MODEL_NAMES = {
    "720x720_5s": ("ovi-11b-bf16", "model_fp8_e4m3fn", "ovi-11b-fp8"),
    "960x960_5s": ("wan2_2-5b-ovi_960x960_fp8_e4m3fn_scaled_kj",),
    "960x960_10s": ("wan2_2-5b-ovi_960x960_10s_fp8_e4m3fn_scaled_kj",),
}


@dataclass(frozen=True)
class Files:
    """Paths of a variant's files; ``vocoder`` is None where it is in the audio VAE's file."""

    model: str
    text_encoder: str
    video_vae: str
    audio_vae: str
    vocoder: str | None


def find_files(variant: Variant) -> Files:
    """Find all files of a variant in the host's model folders.

    Raises:
        OviError: files that are missing, each with its folder and where to get it.
    """
    stem = PurePath(variant.file).stem.lower()
    source = "huggingface.co/chetwinlow1/Ovi" if variant.name != "mini" else ""
    model = Part("model", MODEL_FOLDER, (f"ovi_{variant.name}", stem, *OTHER_MODEL_NAMES.get(variant.name, ())), source)
    parts = (model, *(MINI if variant.name == "mini" else SHARED))
    found = {part.what: part.find() for part in parts}
    missing = [part for part in parts if found[part.what] is None]
    if missing:
        raise OviError(
            input="variant",
            found=f"'{variant.name}', of which {len(missing)} of {len(parts)} files are not in ComfyUI's model folders",
            accepted="a variant whose files are all there",
            remedy="Put these files in place, then press R to refresh: " + "; ".join(map(_wanted, missing)) + ".",
        )
    return Files(
        model=found["model"] or "",
        text_encoder=found["text encoder"] or "",
        video_vae=found["video VAE"] or "",
        audio_vae=found["audio VAE"] or "",
        vocoder=found.get("vocoder"),
    )


def _wanted(part: Part) -> str:
    place = f"{part.what} '{part.names[-1] if part.what == 'model' else part.names[0]}' in models/{part.folder}"
    return f"{place} (from {part.source})" if part.source else place
