"""Machine-readable marks of AI-generated clips: IPTC's digital source type as a tag of the file, and in MP4 as XMP.

Where a clip was made from a person's face or voice, a sentence beside it says so.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import struct
import uuid
from collections.abc import Iterable
from typing import Any

import av
from comfy_api.latest import InputImpl, Types

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
GENERATED = SOURCE_TYPES + "trainedAlgorithmicMedia"
"""Video and audio come from a trained model."""
COMPOSITE = SOURCE_TYPES + "compositeWithTrainedAlgorithmicMedia"
"""One of them was given, the other comes from a trained model."""
TAG = "digital_source_type"
"""Key of the file's tag; unlike XMP, tags are copied when ComfyUI saves a loaded video again."""
LIKENESS_TAG = "given_likeness"
"""Key of the file's tag that holds one of :data:`STATEMENTS`."""
STATEMENTS = {
    ("face",): "A person's face was given to the model.",
    ("voice",): "A person's voice was given to the model.",
    ("face", "voice"): "A person's face and voice were given to the model.",
}
"""What a file says of the parts of people that its clip was made from."""
MADE_WITH = "comfyui-ovi-native"
WORKFLOW_TAGS = ("prompt", "workflow")
"""Tags in which ComfyUI keeps a graph."""

XMP_BOX = uuid.UUID("be7acfcb-97a9-42e8-9c71-999491e3afac").bytes
"""Type of the box that holds XMP in files of the ISO base media format, MP4 and MOV (XMP specification, part 3)."""
XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    Iptc4xmpExt:DigitalSourceType="{source}"
    Iptc4xmpExt:AISystemUsed="Ovi"{likeness}
    xmp:CreatorTool="{tool}"/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""

VideoFile = str | os.PathLike | io.BytesIO


class MarkedVideo(InputImpl.VideoFromComponents):
    """A VIDEO whose every saved file is marked, whichever node saves it.

    Args:
        components: frames, audio and frame rate.
        source: :data:`GENERATED` or :data:`COMPOSITE`.
        bit_depth: of the encoded frames.
        likeness: a key of :data:`STATEMENTS`, or nothing.
        clips: of equal length, which the video shows one after the other.
    """

    def __init__(
        self,
        components: Types.VideoComponents,
        source: str = GENERATED,
        bit_depth: int = 8,
        likeness: tuple[str, ...] = (),
        clips: int = 1,
    ):
        super().__init__(components, bit_depth)
        self.source, self.likeness, self.clips = source, likeness, clips

    def save_to(
        self,
        path: VideoFile,
        format: Any = Types.VideoContainer.AUTO,
        codec: Any = Types.VideoCodec.AUTO,
        metadata: dict | None = None,
        **more: Any,
    ) -> None:
        """As ComfyUI's, in any container; ``more`` are keywords of other releases, such as ``color_space``."""
        super().save_to(path, format, codec, {**(metadata or {}), **tags_of(self.source, self.likeness)}, **more)
        append_xmp(path, self.source, self.likeness)

    def with_components(self, components: Types.VideoComponents, clips: int) -> MarkedVideo:
        """Other frames and audio with the same mark."""
        return MarkedVideo(components, self.source, self.get_bit_depth(), self.likeness, clips)

    def unmarked(self) -> InputImpl.VideoFromComponents:
        """The same VIDEO without the mark."""
        return InputImpl.VideoFromComponents(self.get_components(), self.get_bit_depth())


def source_of(video: Any) -> str:
    """The digital source type of a VIDEO: what decoding set, else that all of it is generated."""
    return video.source if isinstance(video, MarkedVideo) else GENERATED


def likeness_of(video: Any) -> tuple[str, ...]:
    """The parts of people that a VIDEO was made from: as decoding set, or as its file says."""
    if isinstance(video, MarkedVideo):
        return video.likeness
    if not isinstance(video, InputImpl.VideoFromFile):
        return ()
    source = video.get_stream_source()
    if isinstance(source, io.BytesIO):
        source.seek(0)
    try:
        with av.open(source) as file:
            found = file.metadata.get(LIKENESS_TAG, "").strip('"')
    except (OSError, ValueError, av.error.FFmpegError):
        return ()
    return next((parts for parts, statement in STATEMENTS.items() if statement == found), ())


def together(*parts: Iterable[str]) -> tuple[str, ...]:
    """Parts of people from several sources as a key of :data:`STATEMENTS`, or nothing."""
    return tuple(sorted({part for some in parts for part in some}))


def tags_of(source: str, likeness: tuple[str, ...] = ()) -> dict[str, str]:
    """A file's tags of these marks."""
    return {TAG: source, **({LIKENESS_TAG: STATEMENTS[likeness]} if likeness else {})}


def written_tags(source: str, likeness: tuple[str, ...] = ()) -> dict[str, str]:
    """As :func:`tags_of`, each as ComfyUI writes a tag: JSON."""
    return {name: json.dumps(value) for name, value in tags_of(source, likeness).items()}


def save(
    video: Any, path: str, source: str | None, workflow: dict[str, Any] | None, likeness: tuple[str, ...] = ()
) -> None:
    """Write a VIDEO as an MP4 file of H.264 and AAC.

    Args:
        source: digital source type to mark the file with; None for no mark.
        workflow: tags that hold the graph; None also drops those that a loaded video brings.
        likeness: a key of :data:`STATEMENTS` for the mark, or nothing.
    """
    plain = video.unmarked() if isinstance(video, MarkedVideo) else video
    brought = {} if workflow or isinstance(plain, InputImpl.VideoFromComponents) else dict.fromkeys(WORKFLOW_TAGS, "")
    tags = brought | (workflow or {}) | (tags_of(source, likeness) if source else {})
    plain.save_to(path, format=Types.VideoContainer.MP4, codec=Types.VideoCodec.H264, metadata=tags or None)
    if source:
        append_xmp(path, source, likeness)


def append_xmp(file: VideoFile, source: str, likeness: tuple[str, ...] = ()) -> None:
    """Add a box of XMP with the marks to the end of an MP4 or MOV file or buffer; nothing to others."""
    given = f'\n    Iptc4xmpExt:AIPromptInformation="{STATEMENTS[likeness]}"' if likeness else ""
    content = XMP_BOX + XMP.format(source=source, tool=MADE_WITH, likeness=given).encode()
    box = struct.pack(">I4s", 8 + len(content), b"uuid") + content
    with contextlib.nullcontext(file) if isinstance(file, io.BytesIO) else open(file, "r+b") as out:
        out.seek(4)
        if out.read(4) == b"ftyp":
            out.seek(0, os.SEEK_END)
            out.write(box)
