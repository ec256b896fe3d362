"""The pack's entry: light to import, and on a ComfyUI that is too old one clear line instead of a traceback."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import types
from pathlib import Path

import ovi_native
import pytest

import nodes as comfyui_nodes

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("found", ["0.26.0", "0.18.2", "0.3.40", "v0.26.9", "0.26"])
def test_an_older_comfyui_is_named_with_what_to_do(found):
    message = ovi_native.too_old(found)
    assert f"this is {found}." in message
    assert "0.27.0 or newer" in message
    assert "Update ComfyUI" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "found", ["0.27.0", "0.27.1", "0.30.0", "0.45.0", "1.0", "v1.2.3", "0.100.0-rc1", "", "unknown"]
)
def test_newer_and_unknown_ones_are_taken(found):
    assert ovi_native.too_old(found) == ""


def test_the_floor_is_that_of_the_project_file():
    floor = ".".join(map(str, ovi_native.FLOOR))
    assert f'requires-comfyui = ">={floor}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_comfyui_lists_the_pack_as_not_imported_and_writes_one_line(monkeypatch, caplog):
    """ComfyUI's own loader, on a pretended old version."""
    monkeypatch.setitem(sys.modules, "comfyui_version", types.SimpleNamespace(__version__="0.18.2"))
    name = str(ROOT).replace(".", "_x_")
    monkeypatch.setitem(sys.modules, name, None)
    with caplog.at_level(logging.WARNING):
        assert asyncio.run(comfyui_nodes.load_custom_node(str(ROOT))) is False
    lines = [record.message for record in caplog.records if "Ovi native" in record.message]
    assert len(lines) == 1
    assert "this is 0.18.2" in lines[0]
    assert not any("Traceback" in record.message for record in caplog.records)


def test_importing_the_entry_imports_nothing_of_the_pack_and_nothing_heavy():
    code = (
        "import importlib.util, sys; "
        f"spec = importlib.util.spec_from_file_location('pack', {str(ROOT / '__init__.py')!r}); "
        "spec.loader.exec_module(importlib.util.module_from_spec(spec)); "
        "print([name for name in sys.modules if name in ('torch', 'numpy', 'comfy', 'av') or name.startswith('pack.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == "[]"
