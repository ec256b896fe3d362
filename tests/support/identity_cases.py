"""The cases of ``golden/identity.json``: what the engine of DreamID-Omni gives for people's faces and voices."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from fusion_cases import GOLDEN, Inputs
from torch import Tensor

CASES: dict[str, dict] = json.loads((GOLDEN / "identity.json").read_text())
SOLVER_CASES = [name for name, case in CASES.items() if case["kind"] == "sample"]
FORWARD_CASES = [name for name, case in CASES.items() if case["kind"] == "forward"]


@functools.cache
def results() -> Any:
    return np.load(GOLDEN / "identity.npz")


@dataclass(frozen=True)
class PeopleInputs(Inputs):
    """Inputs of a case with references, normalised as the model sees them."""

    def face(self, k: int) -> Tensor:
        """[1, 48, 1, H, W]"""
        return self._draw(f"face{k}", 48, 1, self.case["H"], self.case["W"])[None]

    def voice(self, k: int) -> Tensor:
        """[1, 20, n]"""
        return self._draw(f"voice{k}", self.case["voices"][k], 20).T[None]

    def people(self) -> list[dict[str, Tensor | None]]:
        """An entry for each person, in slots."""
        count, voices = self.case["faces"], self.case["voices"]
        return [
            {
                "face": self.face(k) if k < count else None,
                "voice": self.voice(k) if k < len(voices) else None,
            }
            for k in range(max(count, len(voices)))
        ]
