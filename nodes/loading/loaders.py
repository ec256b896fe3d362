"""Loaders: files to MODEL, CLIP and VAE; and the memory that a model takes."""

from __future__ import annotations

import logging
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
from comfy_api.latest import io

from ...ovi_core.loading import folders, installed
from ...ovi_core.loading.download import Progress
from ...ovi_core.loading.folders import model_files, model_path
from ...ovi_core.loading.loader import WEIGHT_DTYPES, load_model
from ...ovi_core.model.base_model import require_ovi
from ...ovi_core.sampling.model_patches import with_chunks
from ...ovi_core.spec import VARIANTS
from ...ovi_core.text.umt5 import read_text_encoder
from ...ovi_core.vae.audio_vae import read_audio_vae
from ...ovi_core.vae.video_vae import read_video_vae
from ...ovi_core.weights.variant_note import note_variant, noted_variant
from ..shared import notify
from ..shared.boundary import checked
from ..shared.widgets import model_input, variant_input

CATEGORY = "Ovi/loaders"
SAME_FILE = "in the same file"


def _shown_progress() -> Progress:
    """ComfyUI's progress bar; a call raises ComfyUI's interrupt when the user stops the run."""
    bar = comfy.utils.ProgressBar(1)

    def show(done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)

    return show


class OviModelLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        files = model_files()
        return io.Schema(
            node_id="OviModelLoader",
            display_name="Load Ovi Model",
            category=CATEGORY,
            description="Loads Ovi's video and audio towers as one MODEL for any sampler, LoRA and cache.",
            search_aliases=["ovi checkpoint", "talking video", "video with sound"],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=files,
                    tooltip="File in models/diffusion_models with both towers or with the video tower.",
                ),
                io.Combo.Input(
                    "audio_model_name",
                    options=[SAME_FILE, *files],
                    default=SAME_FILE,
                    tooltip="File with the audio tower, if it has its own file.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    default="default",
                    advanced=True,
                    tooltip="Precision of the weights in memory. default: as in the file. fp8 takes half the memory "
                    "of bf16 and loses some quality; norms, modulation and time embedding keep full precision.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="Ovi's model, for Ovi Dual-Tower Sampler or Ovi Guider.")
            ],
        )

    @classmethod
    @checked
    def execute(
        cls, model_name: str, audio_model_name: str = SAME_FILE, weight_dtype: str = "default"
    ) -> io.NodeOutput:
        audio = None if audio_model_name == SAME_FILE else model_path(audio_model_name, input="audio_model_name")
        return io.NodeOutput(load_model(model_path(model_name), audio, weight_dtype))


class OviAudioVAELoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        files = folder_paths.get_filename_list("vae")
        return io.Schema(
            node_id="OviAudioVAELoader",
            display_name="Load Ovi Audio VAE",
            category=CATEGORY,
            description="Loads MMAudio's 16 kHz VAE and its BigVGAN vocoder, which encode and decode sound.",
            search_aliases=["mmaudio", "vocoder", "bigvgan", "sound vae"],
            inputs=[
                io.Combo.Input("vae_name", options=files, tooltip="v1-16.pth, or a file with both VAE and vocoder."),
                io.Combo.Input(
                    "vocoder_name",
                    options=[SAME_FILE, *files],
                    default=SAME_FILE,
                    tooltip="best_netG.pt, or 'in the same file' if the VAE's file has it.",
                ),
            ],
            outputs=[io.Vae.Output(display_name="audio_vae", tooltip="Encodes and decodes the audio.")],
        )

    @classmethod
    @checked
    def execute(cls, vae_name: str, vocoder_name: str = SAME_FILE) -> io.NodeOutput:
        vocoder = None if vocoder_name == SAME_FILE else folders.path("vae", vocoder_name, input="vocoder_name")
        return io.NodeOutput(read_audio_vae(folders.path("vae", vae_name, input="vae_name"), vocoder))


class OviPipelineLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviPipelineLoader",
            display_name="Load Ovi (all in one)",
            category=CATEGORY,
            description="Finds and loads everything a variant of Ovi needs: model, text encoder and both VAEs.",
            search_aliases=["ovi", "talking video", "video with sound", "lip sync"],
            inputs=[
                variant_input(
                    "The weights, named by frame area and length in training. mini: small, for a first try. "
                    "dreamid_omni: for the faces and voices of Ovi Person."
                ),
                io.Combo.Input(
                    "precision",
                    options=["bf16", "fp8"],
                    default="bf16",
                    tooltip="bf16: as published, 23 GB. fp8: half the memory, slightly less detail.",
                ),
                io.Boolean.Input(
                    "download_missing",
                    default=False,
                    optional=True,
                    tooltip="Download the variant's missing files, up to 37 GB (dreamid_omni: 61 GB), from Hugging "
                    "Face into ComfyUI's model folders. A stopped download resumes. Off: nothing is downloaded.",
                ),
                io.Boolean.Input(
                    "other_sources",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="If a source of download_missing no longer has a file, download the next published "
                    "file of the same variant instead, such as one in fp8. Off: an error names that file and its size.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="Ovi's model, for Ovi Dual-Tower Sampler or Ovi Guider."),
                io.Clip.Output(display_name="clip", tooltip="The text encoder, for Ovi Text Encode."),
                io.Vae.Output(display_name="vae", tooltip="Encodes and decodes the frames."),
                io.Vae.Output(display_name="audio_vae", tooltip="Encodes and decodes the audio."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @checked
    def execute(
        cls, variant: str, precision: str = "bf16", download_missing: bool = False, other_sources: bool = False
    ) -> io.NodeOutput:
        chosen = VARIANTS[variant]
        fetched = installed.fetch_missing(chosen, _shown_progress(), other_sources) if download_missing else []
        files, notes = installed.find_files(chosen)
        notify.warn(cls, [*fetched, *notes])
        logging.info("Ovi %s: %s", chosen.name, files)
        with installed.found_for(chosen, model_name=files.model, audio_model_name=files.audio_model):
            model = load_model(files.model, files.audio_model, "fp8_e4m3fn" if precision == "fp8" else "default")
        with installed.found_for(chosen, text_encoder=files.text_encoder):
            clip = read_text_encoder(files.text_encoder)
        for patcher in (model, clip.patcher):
            note_variant(patcher, noted_variant(model) or chosen)
        with installed.found_for(chosen, vae_name=files.video_vae):
            vae = read_video_vae(files.video_vae)
        with installed.found_for(chosen, vae_name=files.audio_vae, vocoder_name=files.vocoder):
            audio_vae = read_audio_vae(files.audio_vae, files.vocoder)
        return io.NodeOutput(model, clip, vae, audio_vae)


class OviLowMemory(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviLowMemory",
            display_name="Ovi Low Memory",
            category=CATEGORY,
            description="Computes feed-forward and attention on a part of the clip at a time: less memory besides "
            "the weights for long or large clips, with the same result.",
            search_aliases=["ovi chunk", "ovi out of memory", "vram", "feed forward chunking"],
            inputs=[
                model_input(),
                io.Int.Input(
                    "chunk_tokens",
                    default=8192,
                    min=1024,
                    max=131072,
                    step=1024,
                    tooltip="Tokens at a time. A clip of 736x736 and 5 s has 16,399, one of 960x960 and 10 s has "
                    "54,900. Fewer need less memory, and more time where ComfyUI streams the weights.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="The model, which needs less memory.")],
        )

    @classmethod
    @checked
    def execute(cls, model: Any, chunk_tokens: int = 8192) -> io.NodeOutput:
        require_ovi(model)
        return io.NodeOutput(with_chunks(model, chunk_tokens))


NODES = [OviModelLoader, OviAudioVAELoader, OviPipelineLoader, OviLowMemory]
