"""Saved clips say for machines that AI made them; read back by libav, a plain XML parser and the C2PA library."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import av
import c2pa
import folder_paths
import pytest
import torch
from comfy.nested_tensor import NestedTensor
from comfy_api.latest import InputImpl
from mark_cases import (
    COMPOSITE,
    GENERATED,
    GRAPH,
    KEYS,
    components,
    manifest,
    saved,
    set_up,
    stock,
    tags,
)
from native_cases import small_vaes
from ovi_native.ovi_core.decoding.decode import decode
from ovi_native.ovi_core.latents import source_media
from ovi_native.ovi_core.media import content_credentials, provenance
from refusals import refusal

IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ComfyUI's output and user folders, empty."""
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    monkeypatch.setattr(folder_paths, "user_directory", str(tmp_path / "user"))
    return tmp_path


def xmp_source(file: Path | io.BytesIO) -> str:
    """The digital source type in the XMP that libav finds."""
    packet = ElementTree.fromstring(tags(file)["xmp"])
    (source,) = [element.attrib[IPTC] for element in packet.iter() if IPTC in element.attrib]
    return source


def plays(file: Path) -> bool:
    with av.open(str(file)) as container:
        return sum(1 for _ in container.decode(video=0)) == 6 and len(container.streams.audio) == 1


@pytest.mark.parametrize("save", [saved, stock])
def test_what_decoding_gives_is_marked_whichever_node_saves_it(save: Any):
    file = save()
    assert xmp_source(file) == GENERATED
    assert json.loads(tags(file)["digital_source_type"]) == GENERATED
    assert json.loads(tags(file)["workflow"]) == GRAPH
    assert plays(file)


def test_the_mark_survives_loading_and_saving_with_stock_nodes():
    again = stock(video=InputImpl.VideoFromFile(str(stock())))
    assert json.loads(tags(again)["digital_source_type"]) == GENERATED


def test_a_marked_buffer_reads_as_a_file_does():
    buffer = provenance.MarkedVideo(components(), COMPOSITE).get_stream_source()
    assert xmp_source(buffer) == COMPOSITE


@pytest.mark.parametrize(
    ("video", "mark", "source"),
    [
        (InputImpl.VideoFromComponents, "auto", GENERATED),
        (lambda parts: provenance.MarkedVideo(parts, COMPOSITE), "auto", COMPOSITE),
        (InputImpl.VideoFromComponents, "part of the clip", COMPOSITE),
        (lambda parts: provenance.MarkedVideo(parts, COMPOSITE), "whole clip", GENERATED),
    ],
)
def test_the_mark_says_what_was_chosen(video: Any, mark: str, source: str):
    file = saved(video=video(components()), mark_as_ai=mark)
    assert xmp_source(file) == source
    assert tags(file)["digital_source_type"].strip('"') == source


def test_mark_and_workflow_can_be_turned_off():
    file = saved(mark_as_ai="off", embed_workflow=False)
    assert not {"xmp", "digital_source_type", "workflow", "prompt"} & tags(file).keys()
    assert b"digitalsourcetype" not in file.read_bytes()
    assert plays(file)


def test_a_loaded_clip_is_saved_without_the_workflow_it_brings():
    file = saved(video=InputImpl.VideoFromFile(str(stock())), embed_workflow=False)
    assert b"OviSaveVideo" not in file.read_bytes()
    assert xmp_source(file) == GENERATED


def test_a_given_half_makes_a_clip_partly_generated():
    video, audio = torch.zeros(1, 48, 2, 2, 2), torch.zeros(1, 20, 5)
    latent = {"samples": NestedTensor((video, audio))}
    assert decode(*small_vaes(), latent, "off").source == GENERATED
    assert decode(*small_vaes(), {"samples": video}, "off").source == GENERATED
    latent[source_media.AUDIO] = source_media.SourceAudio(torch.zeros(1, 1, 2560), 16_000, audio)
    assert decode(*small_vaes(), latent, "off").source == COMPOSITE


# ------------------------------------------------------------------------------------------------ credentials


@pytest.mark.parametrize("kind", KEYS)
def test_credentials_are_signed_and_hold_for_the_file(kind: str):
    set_up(kind)
    file = saved(credentials="required")
    found, state = manifest(file)
    assert state == "Valid"
    (actions,) = [a["data"]["actions"] for a in found["assertions"] if a["label"].startswith("c2pa.actions")]
    assert [(a["action"], a["digitalSourceType"]) for a in actions] == [("c2pa.created", GENERATED)]
    assert found["signature_info"]["alg"].lower() == kind
    assert xmp_source(file) == GENERATED
    assert json.loads(tags(file)["workflow"]) == GRAPH
    assert plays(file)


def test_a_changed_file_is_found_out():
    set_up()
    file = saved()
    data = bytearray(file.read_bytes())
    data[data.index(b"mdat") + 100] ^= 1
    file.write_bytes(data)
    assert manifest(file)[1] == "Invalid"


@pytest.mark.parametrize("sign", ["if set up", "off"])
def test_without_a_key_there_are_no_credentials_and_nothing_else_changes(sign: str):
    file = saved(credentials=sign)
    with pytest.raises(c2pa.C2paError, match="no JUMBF"):
        c2pa.Reader(str(file))
    assert xmp_source(file) == GENERATED


def test_a_required_key_that_is_not_there_is_told_before_anything_is_saved():
    how = {"node": "Save Ovi Video", "input": "credentials", "remedy": "Put them there"}
    refusal(saved, found="private_key.pem", credentials="required", **how)
    assert not list(Path(folder_paths.get_output_directory()).rglob("*.mp4"))


def test_files_that_are_no_key_are_told():
    set_up()
    (content_credentials.folder() / "private_key.pem").write_text("no key")
    how = {"node": "Save Ovi Video", "input": "credentials", "remedy": "Replace them"}
    refusal(saved, found="do not serve", **how)


# ------------------------------------------------------------------------------- what other ComfyUIs write, and faults


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mkv", "ffv1"), (".webm", "libvpx"), (".mov", "mpeg4"), (".mp4", "mpeg4")]
)
def test_containers_of_later_releases_are_marked_and_stay_whole(tmp_path, monkeypatch, suffix: str, codec: str):
    """``save_to`` as ComfyUI has it since August 2026, with keywords that the installed one lacks."""
    asked = {"color_space": "sRGB", "preset": "fast", "crf": 20.0, "bit_depth": 8}

    def save_to(self, path, format="auto", codec_="auto", metadata=None, **more):
        assert more == asked
        options = {"movflags": "use_metadata_tags"} if suffix == ".mp4" else {}
        with av.open(path, "w", options=options) as out:
            out.metadata.update({key: json.dumps(value) for key, value in metadata.items()})
            stream = out.add_stream(codec, rate=24)
            stream.width, stream.height = 64, 32
            stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
            for image in (self.get_components().images * 255).byte().numpy():
                out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            out.mux(stream.encode(None))

    monkeypatch.setattr(InputImpl.VideoFromComponents, "save_to", save_to)
    file = tmp_path / f"clip{suffix}"
    provenance.MarkedVideo(components(), COMPOSITE).save_to(str(file), metadata={"prompt": {}}, **asked)
    found = {key.lower(): value for key, value in tags(file).items()}
    if suffix != ".mov":  # whose tags are QuickTime's own
        assert json.loads(found["digital_source_type"]) == COMPOSITE
    content = file.read_bytes()
    assert (b"be7acfcb-97a9" in content or provenance.XMP_BOX in content) == (suffix in (".mp4", ".mov"))
    with av.open(str(file)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 6


def saving_fails(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """ComfyUI's writing ends in the middle of a file."""

    def save_to(self, path, *_, **__):
        Path(path).write_bytes(b"half a file")
        raise error

    monkeypatch.setattr(InputImpl.VideoFromComponents, "save_to", save_to)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError(30, "Read-only file system")])
def test_a_disk_that_is_full_or_read_only_leaves_no_file(monkeypatch, error: OSError):
    saving_fails(monkeypatch, error)
    refusal(saved, node="Save Ovi Video", input="filename_prefix", found="", remedy="--output-directory")
    assert not [file for file in Path(folder_paths.get_output_directory()).rglob("*") if file.is_file()]


def test_a_clip_that_is_interrupted_while_it_is_written_leaves_no_file(monkeypatch):
    saving_fails(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        saved()
    assert not [file for file in Path(folder_paths.get_output_directory()).rglob("*") if file.is_file()]


def test_a_file_that_a_player_holds_open_is_not_lost(monkeypatch):
    """Windows refuses to replace it; the next number is free, so this takes a name that is there already."""
    real = os.replace

    def replace(source, target):
        if Path(target).suffix == ".mp4" and not Path(target).stem.endswith("_2"):
            raise PermissionError(13, "The process cannot access the file because it is being used by another process")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    refusal(saved, node="Save Ovi Video", input="filename_prefix", found="cannot be replaced", remedy="_2.mp4")
    (kept,) = Path(folder_paths.get_output_directory()).rglob("*.mp4")
    assert plays(kept)
    assert xmp_source(kept) == GENERATED


def test_what_a_killed_writer_left_is_swept_by_the_next():
    folder = saved().parent
    (folder / "test_00002_.999999999-1f-0.part.mp4").write_bytes(b"half a file")
    saved()
    files = list(folder.iterdir())
    assert len(files) == 2
    assert all(map(plays, files))


def test_credentials_state_the_name_of_the_file():
    set_up()
    file = saved(credentials="required")
    assert manifest(file)[0]["title"] == file.name
    assert [other.name for other in file.parent.iterdir()] == [file.name]
