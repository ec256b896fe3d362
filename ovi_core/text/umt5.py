"""UMT5, Ovi's text encoder, at the sizes of its file: text to [1, 512, d_model], zero after the last token."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import count
from pathlib import Path

import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.utils
import torch

from ..errors import OviError
from ..weights import gguf_tensors, quantization
from ..weights.checks import axis, check_count, check_weights, wrong_file
from ..weights.files import GGUF, Weights, read_file, reading
from . import comfyui

INPUT = "text_encoder"
KIND = "a UMT5 text encoder"
ACCEPTED = "UMT5-XXL with its tokenizer, as umt5_xxl_fp16.safetensors or umt5_xxl_fp8_e4m3fn_scaled.safetensors"
REMEDY = "Pick one of these two files; the encoders of other models speak another language to Ovi."
TOKENIZER = "spiece_model"  # the sentencepiece model, as bytes, among the weights

TOKENIZER_FILE = "spiece.model"  # the same, as Google publishes it with UMT5-XXL
LARGEST_TOKENIZER = 64 << 20  # bytes; UMT5's has 4.5 million
MOST_LAYERS = 200
BLOCK = re.compile(r"(?:blocks|enc\.blk)\.(\d{1,4})\.(.+)\.(\w+)")
"""A weight of a block, in Wan's and in GGUF's names: number, layer, and weight or bias."""

WAN_OUTER = {"token_embedding.weight": "shared.weight", "norm.weight": "encoder.final_layer_norm.weight"}
WAN_LAYERS = {
    "norm1": "layer.0.layer_norm",
    "norm2": "layer.1.layer_norm",
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
    **{f"attn.{part}": f"layer.0.SelfAttention.{part}" for part in "qkvo"},
}
"""Wan's names of a block's layers, and ComfyUI's."""

GGUF_OUTER = {"token_embd.weight": "shared.weight", "enc.output_norm.weight": "encoder.final_layer_norm.weight"}
GGUF_LAYERS = {
    "attn_norm": "layer.0.layer_norm",
    "attn_rel_b": "layer.0.SelfAttention.relative_attention_bias",
    "ffn_norm": "layer.1.layer_norm",
    "ffn_gate": "layer.1.DenseReluDense.wi_0",
    "ffn_up": "layer.1.DenseReluDense.wi_1",
    "ffn_down": "layer.1.DenseReluDense.wo",
    **{f"attn_{part}": f"layer.0.SelfAttention.{part}" for part in "qkvo"},
}
"""The names that GGUF gives to the same layers (architecture ``t5encoder``)."""

# What UMT5 has at every size; the names are those of its published configuration.
FIXED = {"model_type": "umt5", "is_gated_act": True, "dense_act_fn": "gelu_pytorch_tanh"}


def read_text_encoder(
    path: str, embedding_directory: list[str] | None = None, disable_dynamic: bool = False
) -> comfy.sd.CLIP:
    """A CLIP that encodes text to [1, 512, d_model], from a file with ComfyUI's names, with Wan's or with GGUF's.

    Args:
        path: the file; its width, depth, heads and vocabulary are read from its weights. Files of Wan have no tokenizer
            inside: it is read from ``spiece.model`` beside them. Packed weights of GGUF stay packed.
        embedding_directory: folders with textual-inversion embeddings, as ComfyUI's loaders pass them.
        disable_dynamic: take ComfyUI's plain patcher even where dynamic VRAM is on.

    Raises:
        OviError: another family's text encoder, no text encoder, no tokenizer in it, missing or misshapen weights.
    """
    file = read_file(path, input=INPUT, accepted=ACCEPTED, packed=True)
    weights = _from_gguf(file.weights) if file.kind == GGUF else file.weights
    weights = with_tokenizer(comfyui_names(weights), file.tokenizer, path)
    quantization.listed_layers(file.metadata, input=INPUT)  # ComfyUI reads the list as it stands
    with reading(path, input=INPUT, accepted=ACCEPTED):
        weights = comfyui.with_quantization_marks(weights, file.metadata)
    quantization.check_layers(weights, input=INPUT)
    clip = load_text_encoder(weights, embedding_directory, disable_dynamic)
    clip.patcher.cached_patcher_init = (_reload, (path, embedding_directory))
    return clip


def load_text_encoder(
    weights: Weights, embedding_directory: list[str] | None = None, disable_dynamic: bool = False
) -> comfy.sd.CLIP:
    """:func:`read_text_encoder` from a state dict."""
    sizes = check(weights)
    _check_tokenizer(weights[TOKENIZER], sizes["vocab_size"])
    options: dict = {"umt5xxl_model_config": sizes}
    if any(map(gguf_tensors.is_packed, weights.values())):
        # on ComfyUI's plain patcher, as the model's packed weights are (``patcher``)
        options["custom_operations"], disable_dynamic = gguf_tensors.operations(None), True
    if comfyui.is_xxl(weights):
        return comfy.sd.load_text_encoder_state_dicts(
            [weights],
            embedding_directory=embedding_directory,
            clip_type=comfy.sd.CLIPType.WAN,
            model_options=options,
            disable_dynamic=disable_dynamic,
        )
    # ComfyUI recognises UMT5 by the size of XXL, so for other sizes its parts are put together here as it does.
    return comfy.sd.CLIP(
        comfyui.text_encoder_parts(weights),
        embedding_directory=embedding_directory,
        parameters=comfy.utils.calculate_parameters(weights),
        tokenizer_data={TOKENIZER: weights[TOKENIZER]},
        state_dict=[weights],
        model_options=options,
        disable_dynamic=disable_dynamic,
    )


def comfyui_names(weights: Weights) -> Weights:
    """Weights under ComfyUI's names, which are those of transformers; Wan and GGUF have names of their own for them."""
    if "token_embedding.weight" in weights:
        return {_renamed(key, "blocks.", WAN_OUTER, WAN_LAYERS): value for key, value in weights.items()}
    if "token_embd.weight" in weights:
        return {_renamed(key, "enc.blk.", GGUF_OUTER, GGUF_LAYERS): value for key, value in weights.items()}
    return weights


def _renamed(key: str, blocks: str, outer: Mapping[str, str], layers: Mapping[str, str]) -> str:
    block = BLOCK.fullmatch(key) if key.startswith(blocks) else None
    if not block:
        return outer.get(key, key)
    number, layer, kind = block.groups()
    return f"encoder.block.{number}.{layers.get(layer, layer)}.{kind}"


def _from_gguf(weights: Weights) -> Weights:
    """Weights of a GGUF file as ComfyUI takes them.

    ComfyUI makes the whole network in the type of its last norm. GGUF keeps norms in float32, which would double the
    memory of all else; so what is not packed takes the type of most values, or float16 beside packed ones.
    """
    packed = {key for key, value in weights.items() if gguf_tensors.is_packed(value)}
    plain = {key: value for key, value in weights.items() if key not in packed}
    dtype = torch.float16 if packed else comfy.utils.weight_dtype(plain)
    return {key: value if key in packed else value.to(dtype) for key, value in weights.items()}


def with_tokenizer(weights: Weights, tokenizer: torch.Tensor | None, path: str) -> Weights:
    """Weights with a tokenizer, where they have none: the one of their file's header, or ``spiece.model`` beside it.

    Args:
        tokenizer: of the header; None where there is none.
        path: of the weights' file.

    Raises:
        OviError: a tokenizer's file that cannot be read.
    """
    if TOKENIZER in weights:
        return weights
    if tokenizer is not None:
        return weights | {TOKENIZER: tokenizer}
    folder = Path(path).parent
    for place in (folder, folder / "umt5-xxl", folder / "google" / "umt5-xxl"):
        file = place / TOKENIZER_FILE
        if file.is_file():
            with reading(str(file), input=INPUT, accepted=ACCEPTED), file.open("rb") as opened:
                content = opened.read(LARGEST_TOKENIZER + 1)
            return weights | {TOKENIZER: torch.frombuffer(bytearray(content), dtype=torch.uint8)}
    return weights


def _reload(
    path: str, embedding_directory: list[str] | None, disable_dynamic: bool = False
) -> comfy.model_patcher.ModelPatcher:
    """What ComfyUI calls for a second, untouched copy (another device, no dynamic VRAM)."""
    return read_text_encoder(path, embedding_directory, disable_dynamic).patcher


def check(weights: Mapping[str, torch.Tensor]) -> dict:
    """UMT5's configuration from its weights' shapes; raises OviError unless they are all there."""
    sizes = _read_sizes(weights)
    _check_complete(weights, sizes)
    return sizes


def _read_sizes(weights: Mapping[str, torch.Tensor]) -> dict:
    """UMT5's configuration: ``d_model`` channels, ``num_heads`` of ``d_kv``, ``d_ff`` of the feed-forward, the rest."""
    attention = "encoder.block.{}.layer.0.SelfAttention."
    layers = next(layer for layer in count() if attention.format(layer) + "q.weight" not in weights)
    heads_key = attention.format(max(layers - 1, 0)) + "relative_attention_bias.weight"  # T5 has it in block 0 alone
    if heads_key not in weights:
        raise wrong_file(weights, input=INPUT, accepted=ACCEPTED, remedy=REMEDY)
    if TOKENIZER not in weights:
        found = f"{KIND} without its tokenizer (no '{TOKENIZER}' in the file, no {TOKENIZER_FILE} beside it)"
        remedy = f"Put {TOKENIZER_FILE} of google/umt5-xxl beside the file, or pick one of the files named above."
        raise OviError(input=INPUT, found=found, accepted=ACCEPTED, remedy=remedy)

    def size(key: str, index: int) -> int:
        return axis(weights, key, index, input=INPUT, what=KIND)

    heads = size(heads_key, 1)
    return {
        **FIXED,
        "d_model": size("shared.weight", 1),
        "d_ff": size("encoder.block.0.layer.1.DenseReluDense.wi_0.weight", 0),
        "d_kv": size(attention.format(0) + "q.weight", 0) // max(heads, 1),
        "num_heads": heads,
        "num_layers": check_count(layers, MOST_LAYERS, input=INPUT, what=KIND),
        "vocab_size": size("shared.weight", 0),
    }


def _check_tokenizer(model: torch.Tensor, vocabulary: int) -> None:
    try:
        if model.dtype != torch.uint8 or model.ndim != 1 or model.numel() > LARGEST_TOKENIZER:
            raise ValueError(f"{list(model.shape)} of {model.dtype}")
        processor = comfyui.sentencepiece(model)
        processor.encode("a")  # an empty model is noticed only now
        pieces = processor.get_piece_size()
        fault = f"a tokenizer of {pieces} pieces for {vocabulary} embeddings" if pieces > vocabulary else ""
    except Exception as error:  # sentencepiece raises RuntimeError and others
        fault = f"a tokenizer that cannot be read ({error})"
    if fault:
        raise OviError(input=INPUT, found=f"{KIND} with {fault}", accepted=ACCEPTED, remedy=REMEDY)


def _check_complete(weights: Mapping[str, torch.Tensor], sizes: dict) -> None:
    """Missing and misshapen weights are errors. Files may hold more (a decoder, scales), which ComfyUI leaves out.

    A quantized weight is packed in a shape of its own; ComfyUI unpacks it.
    """
    expected = comfyui.T5(sizes, torch.float32, "meta", comfy.ops.disable_weight_init).state_dict()
    found = {
        key: weights[key] if weights[key].is_floating_point() else value
        for key, value in expected.items()
        if key in weights
    }
    check_weights(expected, found, input=INPUT, what=KIND)
