"""Weight files of all formats, made of parts that can be wrong, and all that the pack does with a file it is given."""

from __future__ import annotations

import functools
import io
import json
import struct
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import torch
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.loading import inspection, loader
from ovi_native.ovi_core.network.transformer import OviConfig
from ovi_native.ovi_core.text import umt5
from ovi_native.ovi_core.vae import audio_vae, video_vae
from ovi_native.ovi_core.weights import files
from torch import Tensor

from .. import standins

TINY = OviConfig(dim=128, ffn_dim=256, num_layers=2, text_dim=64)
DTYPES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "U8": 1, "I8": 1, "I64": 8, "F8_E4M3": 1, "F8_E5M2": 1, "BOOL": 1}
WHOLE_MODEL = 0.02
"""Share of inputs that are a whole model but for one part: they cost a hundred times as much."""
LAYER = "video_model.blocks.0.self_attn.q"
QUANTIZATION = {"format_version": "1.0", "layers": {LAYER: {"format": "float8_e4m3fn"}}}
KEYS = (
    LAYER + ".weight", LAYER + ".bias", LAYER + ".weight_scale", LAYER + ".comfy_quant", LAYER + ".scale_weight",
    LAYER + ".input_scale", LAYER + ".weight_zero_point", LAYER + ".qweight", LAYER + ".weight_packed", "scaled_fp8",
    "audio_model.blocks.0.self_attn.q.weight", "blocks.0.modulation", "video_model.patch_embedding.weight", "blocks.x",
    "model.diffusion_model.blocks.0.ffn.0.weight", "encoder.block.0.layer.0.SelfAttention.q.weight", "shared.weight",
    "spiece_model", "decoder.conv_in.conv.weight", "encoder.conv1.weight", "conv2.weight", "vae.encoder.conv_in.weight",
    "vocoder.conv_pre.weight", "generator", "data_mean", "head.head.weight", "", "a", ".", "blocks..weight",
)  # fmt: skip


@functools.cache
def tiny_model() -> dict[str, Tensor]:
    """A transformer of small sizes, float32."""
    sizes = {3072: TINY.dim, 14336: TINY.ffn_dim, 18432: 6 * TINY.dim, 4096: TINY.text_dim, 8192: 512}
    table = standins._table("checkpoint_11b_keys.json")
    shapes = {key: shape for key, shape in table.items() if standins._block_of(key) < TINY.num_layers}
    return standins._draw(standins._resized(shapes, sizes), 0)


def try_everything(path: Path) -> None:
    """Give a file to all that reads files of a user.

    Raises:
        OviError: it is refused where its content is read.
    """
    inspection.inspect(str(path))
    for read in READERS:
        try:
            read(str(path))
        except OviError as error:
            if len(str(error).splitlines()) != 1:
                raise
    files.read_file(str(path), input="file", accepted="weights")


READERS: tuple[Callable[[str], Any], ...] = (
    lambda path: files.read_header(path, input="file", accepted="weights"),
    lambda path: loader.read_model_file(path, header_only=True),
    lambda path: loader.load_model(path),
    lambda path: umt5.read_text_encoder(path),
    lambda path: audio_vae.read_audio_vae(path),
    lambda path: audio_vae.read_audio_vae(path, path),
    lambda path: video_vae.read_video_vae(path),
)


def shape(random: Random) -> list[int]:
    return [random.choice((0, 1, 1, 2, 3, 8, 16)) for _ in range(random.choice((0, 1, 1, 2, 2, 2, 3, 5)))]


def safetensors_bytes(header: Any, data: bytes) -> bytes:
    """A safetensors file with this header, as it is, and these bytes behind it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + data


def header_of(entries: Mapping[str, tuple[str, list[int]]], metadata: Any = None) -> tuple[dict[str, Any], int]:
    """A correct safetensors header and the bytes that it needs."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    end = 0
    for key, (dtype, sizes) in entries.items():
        start, end = end, end + DTYPES[dtype] * functools.reduce(lambda a, b: a * b, sizes, 1)
        header[key] = {"dtype": dtype, "shape": sizes, "data_offsets": [start, end]}
    return header, end


def tensor(random: Random) -> Tensor:
    """A small tensor of any type, some of them not finite or not contiguous."""
    dtype = random.choice((torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8))
    value = torch.zeros(shape(random), dtype=torch.float32)
    if random.random() < 0.1:
        value = value + random.choice((float("nan"), float("inf"), 1e30))
    value = value.to(dtype) if value.isfinite().all() or dtype.is_floating_point else value
    return value.t() if value.ndim == 2 and random.random() < 0.2 else value


def structure(random: Random, depth: int = 0) -> Any:
    """What a torch file may hold: state dicts, wrapped or not, and things that are none."""
    kind = random.randrange(9 if depth < 4 else 4)
    if kind <= 1:
        return tensor(random)
    if kind == 2:
        return random.choice((None, True, 1, 2**70, 1.5, "text", b"bytes", (), torch.float16, torch.Size([1])))
    if kind == 3:
        return torch.nn.Parameter(torch.zeros(2))
    if kind == 4:
        return [structure(random, depth + 1) for _ in range(random.randrange(3))]
    keys = [random.choice((*KEYS, "state_dict", "model", "module", "generator", 0, None, 1.5)) for _ in range(4)]
    return {key: structure(random, depth + 1) for key in keys[: random.randrange(5)]}


def torch_bytes(value: Any, zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def rezipped(data: bytes, change: Callable[[str, bytes], bytes], deflated: bool) -> bytes:
    """A torch file whose members were changed, with correct check sums."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for member in old.namelist():
            kind = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
            new.writestr(zipfile.ZipInfo(member), change(member, old.read(member)), kind)
    return buffer.getvalue()


def tiny_folder() -> Path:
    """A folder for what a target keeps for as long as its process lives."""
    return Path(_FOLDER.name)


_FOLDER = tempfile.TemporaryDirectory(prefix="ovi-fuzz-")
