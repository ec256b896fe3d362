"""The reference's cases of ``golden/fusion.json``: their model, inputs and results."""

from __future__ import annotations

import functools
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
import seeded  # noqa: E402  (the reference's own file of draws, kept beside its results)

CASES: dict[str, dict] = json.loads((GOLDEN / "fusion.json").read_text())
SOLVER_CASES = [name for name, case in CASES.items() if case["kind"] == "sample"]
FORWARD_CASES = [name for name, case in CASES.items() if case["kind"] == "forward"]
MODES = ("t2v", "i2v")


@functools.cache
def results() -> Any:
    return np.load(GOLDEN / "fusion.npz")


def relative_error(ours: Tensor, golden: np.ndarray) -> float:
    theirs = torch.from_numpy(golden)
    return float((ours.double() - theirs).norm() / theirs.norm())


def published_weights(sizes: dict[str, int], seed: int = 11) -> dict[str, Tensor]:
    """Weights of a transformer of these sizes under the published names, as the reference's cases draw them."""
    from ovi_native.ovi_core.model import checkpoint
    from ovi_native.ovi_core.network.transformer import OviConfig

    expected = checkpoint.to_published_keys(checkpoint.expected_weights(OviConfig(**sizes)))
    return {key: torch.from_numpy(seeded.weight(key, w.shape, seed)).float() for key, w in expected.items()}


@functools.cache
def sizes() -> dict[str, int]:
    """All cases have one model."""
    return next(iter(CASES.values()))["model"]


def write_model(folder: Path, weights: dict[str, Tensor] | None = None, name: str = "ovi.safetensors") -> Path:
    path = folder / name
    save_file(weights if weights is not None else published_weights(sizes()), path)
    return path


@dataclass(frozen=True)
class Inputs:
    """Drawn inputs of one case; latents as the model sees them (normalised), text as the encoder gives it."""

    case: dict

    def _draw(self, name: str, *shape: int) -> Tensor:
        return torch.from_numpy(seeded.draw(name, shape, self.case["seed"])).float()

    @property
    def video(self) -> Tensor:
        """[1, 48, T, H, W]"""
        return self._draw("video", 48, self.case["T"], self.case["H"], self.case["W"])[None]

    @property
    def audio(self) -> Tensor:
        """[1, 20, L]"""
        return self._draw("audio", self.case["L"], 20).T[None]

    @property
    def image(self) -> Tensor:
        """[1, 48, 1, H, W]"""
        return self._draw("image", 48, 1, self.case["H"], self.case["W"])[None]

    def text(self, name: str) -> Tensor:
        """``pos``, ``vneg`` or ``aneg`` [1, 512, text_dim], padded with zeros."""
        drawn = self._draw(name, self.case[f"len_{name}"], self.case["model"]["text_dim"])
        return torch.nn.functional.pad(drawn, (0, 0, 0, 512 - drawn.shape[0]))[None]
