"""The text encoder as a GGUF file, written as llama.cpp's converter does: its names, types and tokenizer."""

from __future__ import annotations

import re
from pathlib import Path

import comfy.ops
import folder_paths
import gguf
import numpy as np
import pytest
import safetensors.torch
import sentencepiece
import torch
from comfy.text_encoders.t5 import T5
from gguf.quants import dequantize, quantize
from google.protobuf.unknown_fields import UnknownFieldSet
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.loading import contents, installed, manifest
from ovi_native.ovi_core.loading.inspection import inspect
from ovi_native.ovi_core.spec import VARIANTS
from ovi_native.ovi_core.text.umt5 import read_text_encoder
from ovi_native.ovi_core.weights.files import read_header
from ovi_native.ovi_core.weights.gguf_tensors import format_of
from seeded_weights import draw_weights, relative_error, shapes_of
from sentencepiece import sentencepiece_model_pb2
from umt5_cases import UMT5, train_tokenizer

SMALL = {"d_model": 64, "d_ff": 96, "d_kv": 8, "num_heads": 8, "num_layers": 3, "vocab_size": 320}
LIKE_XXL = {"d_model": 32, "d_ff": 10_240, "d_kv": 4, "num_heads": 8, "num_layers": 24, "vocab_size": 320}
"""Of the one size that ComfyUI knows UMT5 by, and then loads itself."""
PROMPT = "a small boat <S>She says hello<E>"
WIDE, UNSEEN = "Ｆｕｌｌ ｗｉｄｔｈ ① ﬁ", "unseen: ξ 船 🙂"
TEXTS = [PROMPT, "", "two  spaces and a ", WIDE, UNSEEN, "line\nbreak\ttab", "</s> <pad> <unk>"]


@pytest.fixture(scope="module")
def model() -> bytes:
    """A sentencepiece model."""
    return train_tokenizer()


def weights_of(sizes: dict) -> dict[str, torch.Tensor]:
    """Float16 weights, as the published encoder is."""
    network = T5(sizes | UMT5, torch.float32, "cpu", comfy.ops.disable_weight_init)
    return {key: value.half() for key, value in draw_weights(shapes_of(network), 5).items()}


def write(path: Path, weights: dict[str, torch.Tensor], model: bytes | None, kind: str = "F16") -> dict:
    """A GGUF file with matrices of one kind and all else in float32; returns the values that are in it.

    Names are the library's own for the architecture; the tokenizer is listed as llama.cpp's converter lists it.
    """
    layers = sum(key.endswith("SelfAttention.q.weight") for key in weights)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5ENCODER, layers)
    writer, meant = gguf.GGUFWriter(str(path), "t5encoder"), {}
    if model is not None:
        add_tokenizer(writer, model, weights["shared.weight"].shape[0])
    for key, value in weights.items():
        name = names.get_name(key, try_suffixes=(".weight",))
        matrix = value.ndim == 2 and "relative_attention_bias" not in key
        type_ = gguf.GGMLQuantizationType[kind if matrix else "F32"]
        data = quantize(value.float().numpy(), type_)
        writer.add_tensor(name, data, raw_dtype=type_)
        meant[key] = torch.from_numpy(np.array(dequantize(data, type_))).reshape(value.shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return meant


def add_tokenizer(writer: gguf.GGUFWriter, model: bytes, rows: int) -> None:
    spec = sentencepiece_model_pb2.ModelProto()
    spec.ParseFromString(model)
    pieces = [(piece.piece.encode(), piece.score, piece.type) for piece in spec.pieces]
    pieces += [(f"[PAD{i}]".encode(), -10_000.0, gguf.TokenType.UNUSED) for i in range(len(pieces), rows)]
    tokens, scores, kinds = zip(*pieces, strict=True)
    writer.add_tokenizer_model("t5")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_add_space_prefix(spec.normalizer_spec.add_dummy_prefix)
    writer.add_remove_extra_whitespaces(spec.normalizer_spec.remove_extra_whitespaces)
    writer.add_precompiled_charsmap(spec.normalizer_spec.precompiled_charsmap)


def as_tensor(model: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(model), dtype=torch.uint8)


def encoding(clip):
    with torch.inference_mode():
        return clip.encode_from_tokens(clip.tokenize(PROMPT))


def encoding_of(weights: dict[str, torch.Tensor], model: bytes, folder: Path):
    """Of the same weights in a safetensors file."""
    safetensors.torch.save_file(weights | {"spiece_model": as_tensor(model)}, folder / "umt5.safetensors")
    return encoding(read_text_encoder(str(folder / "umt5.safetensors")))


@pytest.mark.parametrize(
    ("sizes", "kind", "error"),
    [(SMALL, "F16", 0), (SMALL, "Q8_0", 0.05), (SMALL, "Q4_0", 0.7), (LIKE_XXL, "Q8_0", 0.2)],
)
def test_it_encodes_as_the_same_weights_in_safetensors(tmp_path, model, sizes, kind, error):
    """As the values that the library unpacks, exactly; what is lost by packing is up to ``error``.

    That is far more than of trained weights: random ones answer strongly to small changes, UMT5 scaling no attention.
    """
    weights, path = weights_of(sizes), tmp_path / "umt5.gguf"
    meant = write(path, weights, model, kind)
    ours, plain = encoding(read_text_encoder(str(path))), encoding_of(weights, model, tmp_path)
    assert relative_error(ours, encoding_of(meant, model, tmp_path)) < 1e-5
    assert relative_error(ours, plain) <= error
    assert torch.equal(ours, plain) == (kind == "F16")


def test_packed_weights_stay_packed_and_are_no_copies_of_the_file(tmp_path, model):
    write(tmp_path / "umt5.gguf", weights_of(SMALL), model, "Q8_0")
    clip = read_text_encoder(str(tmp_path / "umt5.gguf"))
    encoding(clip)
    held = {key: format_of(value) for key, value in clip.cond_stage_model.named_parameters() if value.ndim == 2}
    packed = {key for key, kind in held.items() if kind == "Q8_0"}
    assert {key for key in held if key not in packed} == {key for key in held if "relative_attention_bias" in key}
    assert any(key.endswith("shared.weight") for key in packed)
    copy, arguments = clip.patcher.cached_patcher_init
    assert copy(*arguments, disable_dynamic=True).model is not clip.patcher.model


def test_moved_to_another_device_the_table_stays_packed(tmp_path, model):
    write(tmp_path / "umt5.gguf", weights_of(SMALL), model, "Q8_0")
    clip = read_text_encoder(str(tmp_path / "umt5.gguf"))
    before = encoding(clip)
    clip.cond_stage_model._apply(lambda tensor: tensor.clone())  # as moving does, which takes a device to move to
    assert torch.equal(encoding(clip), before)
    table = clip.cond_stage_model.umt5xxl.transformer.shared.weight
    assert format_of(table) == "Q8_0"


def tokenizer_of(path):
    """The sentencepiece model in the header of a GGUF file."""
    return read_header(str(path), input="text_encoder", accepted="").tokenizer.numpy().tobytes()


def test_the_tokenizer_in_its_header_is_the_one_it_was_made_from(tmp_path, model):
    write(tmp_path / "umt5.gguf", {"shared.weight": torch.zeros(320, 64)}, model)
    ours, theirs = (
        sentencepiece.SentencePieceProcessor(model_proto=proto, add_eos=True)
        for proto in (tokenizer_of(tmp_path / "umt5.gguf"), model)
    )
    assert [ours.encode(text) for text in TEXTS] == [theirs.encode(text) for text in TEXTS]
    assert theirs.encode(WIDE) == theirs.encode("Full width 1 fi")  # so the normaliser's table counts
    assert theirs.unk_id() not in theirs.encode(UNSEEN)  # and so do pieces for single bytes
    assert (ours.eos_id(), ours.unk_id(), ours.pad_id()) == (theirs.eos_id(), theirs.unk_id(), theirs.pad_id())


def test_the_fields_written_by_hand_are_those_of_sentencepiece(tmp_path, model):
    write(tmp_path / "umt5.gguf", {"shared.weight": torch.zeros(320, 64)}, model)
    read, meant = sentencepiece_model_pb2.ModelProto(), sentencepiece_model_pb2.ModelProto()
    read.ParseFromString(tokenizer_of(tmp_path / "umt5.gguf"))
    meant.ParseFromString(model)
    assert not any(len(UnknownFieldSet(part)) for part in (read, read.trainer_spec, read.normalizer_spec))
    count = len(meant.pieces)
    assert [(p.piece, p.score, p.type) for p in read.pieces[:count]] == [
        (p.piece, p.score, p.type) for p in meant.pieces
    ]
    for name in ("precompiled_charsmap", "add_dummy_prefix", "remove_extra_whitespaces", "escape_whitespaces"):
        assert getattr(read.normalizer_spec, name) == getattr(meant.normalizer_spec, name), name
    assert read.trainer_spec.model_type == meant.trainer_spec.model_type
    assert read.trainer_spec.byte_fallback == meant.trainer_spec.byte_fallback


def test_a_file_without_a_tokenizer_takes_the_one_beside_it_or_asks_for_it(tmp_path, model):
    weights, path = weights_of(SMALL), str(tmp_path / "umt5.gguf")
    write(Path(path), weights, None)
    with pytest.raises(OviError, match=r"without its tokenizer.*Put spiece\.model"):
        read_text_encoder(path)
    (tmp_path / "spiece.model").write_bytes(model)
    assert torch.equal(encoding(read_text_encoder(path)), encoding_of(weights, model, tmp_path))


def test_t5_itself_is_refused(tmp_path, model):
    weights = weights_of(SMALL)
    first = [key for key in weights if not re.search(r"block\.[1-9].*relative_attention_bias", key)]
    write(tmp_path / "t5.gguf", {key: weights[key] for key in first}, model)
    with pytest.raises(OviError) as caught:
        read_text_encoder(str(tmp_path / "t5.gguf"))
    assert "T5" in caught.value.found


def test_all_in_one_finds_the_published_file_where_there_is_no_other(tmp_path, monkeypatch):
    monkeypatch.setitem(folder_paths.folder_names_and_paths, manifest.TEXT_FOLDER, ([str(tmp_path)], {".safetensors"}))
    (part,) = [part for part in manifest.SHARED if part.folder == manifest.TEXT_FOLDER]

    def found() -> str | None:
        return contents.find(VARIANTS["960x960_10s"], installed.listed()).paths.get(part.what)

    assert found() is None
    packed, plain = tmp_path / "umt5-xxl-encoder-Q5_K_M.gguf", tmp_path / "umt5_xxl_fp16.safetensors"
    packed.touch()
    assert found() == str(packed)
    plain.touch()
    assert found() == str(plain)


def test_inspect_tells_what_it_is_and_that_nothing_is_missing(tmp_path, model):
    write(tmp_path / "umt5.gguf", weights_of(SMALL), model, "Q8_0")
    report = inspect(str(tmp_path / "umt5.gguf"))
    assert report.usable
    assert report.lines["what"] == "A UMT5 text encoder in llama.cpp's layout (GGUF)."
    assert report.lines["missing"] == "Nothing."
    assert report.lines["load with"] == "Load Ovi (all in one)."
