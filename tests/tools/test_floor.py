"""The oldest ComfyUI that the pack is for: fetched as the pinned one is, and a clip made on it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.dev import setup
from tools.dev.setup import FLOOR, ROOT

SMOKE = ROOT / "tests" / "support" / "floor_smoke.py"


@pytest.fixture(scope="module")
def floor() -> Path:
    return setup.ensure_release(FLOOR, ROOT / ".comfyui" / f"ComfyUI-{FLOOR.version}", Path(sys.executable))


def test_a_clip_of_two_steps_is_made_on_the_oldest_comfyui(floor: Path):
    environment = {**os.environ, "COMFYUI_PATH": str(floor), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, SMOKE], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    made = json.loads(done.stdout.splitlines()[-1])
    assert made["comfyui"] == FLOOR.version
    assert made["images"] == [9, 64, 64, 3]
    assert made["finite"]
    assert made["spread"] > 0.02
    assert made["nodes"] > 30


def test_the_floor_is_what_the_project_claims():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.findall(r'^requires-comfyui = ">=(.+)"', project, re.MULTILINE) == [FLOOR.version]
