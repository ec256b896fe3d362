"""VIDEO to files that carry a mark of how they were made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import folder_paths
from comfy.cli_args import args
from comfy_api.latest import Types, io, ui

from ..ovi_core.errors import OviError
from ..ovi_core.media import provenance, videos
from ..ovi_core.media.content_credentials import SIGN, embed, signer
from ..ovi_core.safe_write import check_name, new_file
from .decoding import CATEGORY
from .shared import graph
from .shared.boundary import checked
from .shared.widgets import audio_format_input

MARKS = {"auto": "", "whole clip": provenance.GENERATED, "part of the clip": provenance.COMPOSITE, "off": None}
BATCH = ("a file each", "one file")


class OviSaveVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviSaveVideo",
            display_name="Save Ovi Video",
            category=CATEGORY,
            description="Saves a video as MP4 with a machine-readable mark that AI made it, with or without the "
            "workflow, and signed with content credentials if you have a key.",
            search_aliases=[
                "export video",
                "save mp4",
                "made by ai",
                "ai label",
                "provenance",
                "content credentials",
                "c2pa",
            ],
            inputs=[
                io.Video.Input("video", tooltip="The video to save, with its sound."),
                io.String.Input(
                    "filename_prefix",
                    default="video/Ovi",
                    tooltip="Subfolder and start of the file name in ComfyUI's output folder. %width%, %height%, "
                    "%year%, %month%, %day%, %hour%, %minute% and %second% are replaced.",
                ),
                io.Combo.Input(
                    "mark_as_ai",
                    options=list(MARKS),
                    default="auto",
                    tooltip="What the mark (IPTC digital source type) declares as made by AI. auto: the whole clip, or "
                    "part of it if Ovi AV Decode decoded a locked latent.",
                ),
                io.Boolean.Input(
                    "embed_workflow",
                    default=True,
                    tooltip="Store the workflow in the file; dropping the file on the canvas restores it. Switch it "
                    "off to keep prompts private.",
                ),
                io.Combo.Input(
                    "credentials",
                    options=list(SIGN),
                    default=SIGN[0],
                    tooltip="Sign the file with C2PA content credentials. Needs c2pa-python and your own key, see "
                    "docs/provenance.md.",
                ),
                audio_format_input("as the video has it"),
                io.Combo.Input(
                    "batch",
                    options=list(BATCH),
                    default=BATCH[0],
                    optional=True,
                    tooltip="For a video of several seeds from Ovi AV Decode: a file for each clip, or all clips one "
                    "after the other in one file.",
                ),
            ],
            outputs=[io.Video.Output(display_name="video", tooltip="The same video, with the mark.")],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    @checked
    def execute(
        cls,
        video,
        filename_prefix: str = "video/Ovi",
        mark_as_ai: str = "auto",
        embed_workflow: bool = True,
        credentials: str = SIGN[0],
        audio_format: str = "unchanged",
        batch: str = BATCH[0],
    ) -> io.NodeOutput:
        video = videos.checked_video(video, "video")
        signs = signer(credentials)  # a missing key is reported before the clip is encoded
        source = provenance.source_of(video) if mark_as_ai == "auto" else MARKS[mark_as_ai]
        likeness = provenance.together(provenance.likeness_of(video), graph.likeness_before(cls.hidden))
        workflow = _workflow(cls.hidden) if embed_workflow and not args.disable_metadata else None
        saved = []
        for clip in videos.single_clips(video) if batch == BATCH[0] else [video]:
            clip = videos.with_audio_format(clip, audio_format)
            file, subfolder = free_file(filename_prefix, *clip.get_dimensions())
            with new_file(file, input="filename_prefix") as part:
                videos.save(clip, str(part), source, workflow, likeness)
                if signs is not None:
                    embed(part, source, signs, file.name, likeness)
            saved.append(ui.SavedResult(file.name, subfolder, io.FolderType.output))
        return io.NodeOutput(video, ui=ui.PreviewVideo(saved))


def free_file(prefix: str, width: int, height: int) -> tuple[Path, str]:
    """A file in ComfyUI's output folder that does not exist yet, and its subfolder there.

    Args:
        prefix: subfolder and start of the file name, with ComfyUI's placeholders.
        width, height: of the video, for the placeholders.

    Raises:
        OviError: the name is empty, impossible on this system, or outside the output folder.
    """
    prefix = prefix.replace("\\", "/")  # as Windows writes it
    output = Path(folder_paths.get_output_directory())
    if not Path(prefix).name.strip(" .") or prefix.endswith("/"):
        raise _refused(f"'{prefix}', which has no file name", "Write a name, such as video/Ovi.")
    check_name(output / prefix, "filename_prefix")
    try:
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, str(output), width, height)
    except OSError as error:
        raise _refused(f"'{prefix}', which cannot be created ({error.strerror})", "Choose another name.") from error
    except Exception as error:  # ComfyUI raises a bare Exception
        raise _refused(f"'{prefix}', which leaves the output folder", "Write a path without '..' or links.") from error
    if not Path(folder).resolve().is_relative_to(output.resolve()):
        raise _refused(f"'{prefix}', which leaves the output folder", "Write a path without '..' or links.")
    extension = Types.VideoContainer.get_extension("mp4")
    while os.path.lexists(file := Path(folder, f"{name}_{counter:05}_.{extension}")):
        counter += 1
    return file, subfolder


def _refused(found: str, remedy: str) -> OviError:
    accepted = "a file name, with or without subfolders of ComfyUI's output folder"
    return OviError(input="filename_prefix", found=found, accepted=accepted, remedy=remedy)


def _workflow(hidden: Any) -> dict[str, Any] | None:
    """The graph as ComfyUI's own nodes save it."""
    if hidden is None:
        return None
    return {**(hidden.extra_pnginfo or {}), **({"prompt": hidden.prompt} if hidden.prompt else {})}


NODES = [OviSaveVideo]
