"""Safetensors files: headers, metadata, quantized layers, and whole small models with one part changed."""

from __future__ import annotations

from pathlib import Path
from random import Random

import safetensors.torch

from .. import files
from ..mutate import mutated, mutated_json

SUFFIX = ".safetensors"


def make(random: Random) -> bytes:
    if random.random() < files.WHOLE_MODEL:
        return _whole_model(random)
    chosen = random.sample(files.KEYS, random.randrange(1, 8))
    entries = {key: (random.choice(list(files.DTYPES)), files.shape(random)) for key in chosen}
    metadata = {"_quantization_metadata": files.json.dumps(mutated_json(random, files.QUANTIZATION))}
    header, size = files.header_of(entries, random.choice((None, {}, {"format": "pt"}, metadata, metadata)))
    if random.random() < 0.7:
        header = mutated_json(random, header)
    data = random.choice((bytes(size), b'{"format": "float8_e4m3fn"}' + bytes(size), bytes(size // 2)))
    out = files.safetensors_bytes(header, data)
    return mutated(random, out) if random.random() < 0.3 else out


def _whole_model(random: Random) -> bytes:
    weights = dict(files.tiny_model())
    key = random.choice(list(weights))
    for name in (key, key.rpartition(".")[0] + random.choice((".weight_scale", ".comfy_quant", ".scale_weight"))):
        if random.random() < 0.7:
            weights[name] = files.tensor(random).contiguous()
    if random.random() < 0.3:
        del weights[key]
    metadata = {"_quantization_metadata": files.json.dumps(mutated_json(random, files.QUANTIZATION))}
    return safetensors.torch.save(weights, random.choice((None, {"ovi_variant": "mini"}, metadata)))


def run(data: bytes, folder: Path) -> None:
    path = folder / "weights.safetensors"
    path.write_bytes(data)
    files.try_everything(path)
