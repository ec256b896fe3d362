"""State dicts for tests, drawn as the reference cases in ``golden/`` were."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import torch

GOLDEN = Path(__file__).parents[1] / "golden"
_spec = importlib.util.spec_from_file_location("seeded", GOLDEN / "seeded.py")
assert _spec is not None
assert _spec.loader is not None
seeded = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(seeded)


def draw_weights(shapes: dict[str, list[int]], seed: int) -> dict[str, torch.Tensor]:
    """Float32 weights for a table of key -> shape."""
    return {key: torch.as_tensor(seeded.weight(key, shape, seed)).float() for key, shape in shapes.items()}


def shapes_of(module: torch.nn.Module) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in module.state_dict().items()}


def golden_json(name: str) -> dict:
    return json.loads((GOLDEN / name).read_text())


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found.double() - expected.double()).norm() / expected.double().norm()).item()
