"""Consoles that are not UTF-8, as Windows has them: what they cannot show is escaped, and nothing stops."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from servers import COMFYUI

from tools.dev.setup import ROOT

MODEL = ROOT / "models" / "ovi-mini" / "vae" / "ovi_mini_video_vae.safetensors"
NOTE = """
import logging, sys
sys.path.append({root!r})
from tools import pack
pack.load("--cpu")
import app.logger
app.logger.setup_logger()
import asyncio
from ovi_native.nodes.extension import OviExtension
from ovi_native.nodes.saving import OviSaveVideo
from ovi_native.nodes.shared import notify
from ovi_native.ovi_core.errors import OviError
asyncio.run(OviExtension().on_load())
notify.warn(OviSaveVideo, ["\u58f0\u97f3 \u2192 \u2026 \U0001f600"])
try:
    raise OviError(input="prompt", found="'\u4f60\u597d'", accepted="\u2026", remedy="Write \u2192.")
except OviError as error:
    logging.error("%s", error)
print("done")
"""


def environment(encoding: str) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONIOENCODING": encoding,
        "PYTHONUTF8": "0",
        "OVI_DEV_PYTHON": sys.executable,
        "COMFYUI_PATH": str(COMFYUI),
    }


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_dev_py_prints_names_that_the_console_lacks(tmp_path: Path, encoding: str):
    file = tmp_path / "\u6a21\u578b.safetensors"
    shutil.copy(MODEL, file)
    command = [sys.executable, ROOT / "dev.py", "inspect", str(file), str(tmp_path / "\u6ca1\u6709.safetensors")]
    done = subprocess.run(command, capture_output=True, check=False, env=environment(encoding))
    assert done.returncode == 1  # the second file is not there
    assert b"Traceback" not in done.stderr, done.stderr.decode("latin-1")
    assert rb"\u6a21\u578b.safetensors" in done.stdout
    assert rb"\u6ca1\u6709.safetensors" in done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_note_reaches_the_log_of_such_a_console(tmp_path: Path, encoding: str):
    command = [sys.executable, "-c", NOTE.format(root=str(ROOT))]  # in a folder for the log file that ComfyUI writes
    done = subprocess.run(command, capture_output=True, check=False, env=environment(encoding), cwd=tmp_path)
    said = done.stdout + done.stderr
    assert b"UnicodeEncodeError" not in said
    assert done.returncode == 0, said.decode("latin-1")
    assert b"done" in done.stdout
    assert said.count(b"\\u58f0\\u97f3 ") == 1  # the note, escaped, once
