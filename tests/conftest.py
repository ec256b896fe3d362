"""Every test runs with a real ComfyUI and this pack in the process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# The tests' tensors are small: a second thread would wait longer than it computes. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS)]  # helper modules of the tests
sys.path.append(str(TESTS.parent))  # tools/; last, for its nodes/ must not hide ComfyUI's module of that name

import pytest  # noqa: E402

from tools.dev import pack  # noqa: E402

pack.load("--cpu")


def pytest_addoption(parser):
    parser.addoption(
        "--rewrite", action="store_true", help="write what is compared or shown (snapshots, screenshots) anew"
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A MODEL of tiny weights; a module that needs others has a fixture of its own."""
    import native_host

    return native_host.load(tmp_path_factory.mktemp("model"))
