"""VIDEO to files that carry a mark of how they were made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
from comfy.cli_args import args
from comfy_api.latest import Types, io, ui

from ..ovi_core.media import provenance
from ..ovi_core.media.content_credentials import SIGN, embed, signer
from .boundary import checked
from .decoding import CATEGORY

MARKS = {"auto": "", "whole clip": provenance.GENERATED, "part of the clip": provenance.COMPOSITE, "off": None}


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
                    tooltip="What the mark (IPTC digital source type) says AI made. auto: the whole clip, or part of "
                    "it if Ovi AV Decode decoded a locked latent.",
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
            ],
            outputs=[io.Video.Output(display_name="video")],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
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
    ) -> io.NodeOutput:
        signs = signer(credentials)  # a missing key is reported before the clip is encoded
        source = provenance.source_of(video) if mark_as_ai == "auto" else MARKS[mark_as_ai]
        output = folder_paths.get_output_directory()
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, output, *video.get_dimensions()
        )
        file = Path(folder, f"{name}_{counter:05}_.{Types.VideoContainer.get_extension('mp4')}")
        keep = embed_workflow and not args.disable_metadata
        provenance.save(video, str(file), source, _workflow(cls.hidden) if keep else None)
        if signs is not None:
            embed(file, source, signs)
        saved = ui.SavedResult(file.name, subfolder, io.FolderType.output)
        return io.NodeOutput(video, ui=ui.PreviewVideo([saved]))


def _workflow(hidden: Any) -> dict[str, Any] | None:
    """The graph as ComfyUI's own nodes save it."""
    if hidden is None:
        return None
    return {**(hidden.extra_pnginfo or {}), **({"prompt": hidden.prompt} if hidden.prompt else {})}


NODES = [OviSaveVideo]
