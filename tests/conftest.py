"""Every test runs with a real ComfyUI and this pack in the process."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

from tools import pack

# The tests' tensors are small: a second thread would wait longer than it computes. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS / "support")]  # helper modules of the tests
sys.path.append(str(TESTS.parent))  # tools/; last, for its nodes/ must not hide ComfyUI's module of that name

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

pack.load("--cpu")

from ovi_native.ovi_core.loading import loader  # noqa: E402

IN_FULL, loader.MULTIPLIED_OUT = loader.MULTIPLIED_OUT, 0  # fp8 weights stay so, as where a card computes
pytest_plugins = ["studio_fixtures"]

# The same few examples in every run and no clock, so that a slow machine fails nothing. OVI_FUZZ asks for more.
settings.register_profile(
    "ovi",
    derandomize=True,
    max_examples=int(os.environ.get("OVI_FUZZ", "25")),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("ovi")


def pytest_addoption(parser):
    parser.addoption(
        "--rewrite", action="store_true", help="write what is compared or shown (snapshots, screenshots) again"
    )


def pytest_collection_finish():
    """What is loaded by now stays; each full collection of garbage would look through it, for half a second."""
    gc.freeze()


@pytest.fixture
def no_gradients():
    """As ComfyUI runs nodes."""
    import torch

    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A MODEL of tiny weights; a module that needs others has a fixture of its own."""
    import tiny_ovi

    return tiny_ovi.load(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def in_full():
    """Small models of scaled fp8 are multiplied out, as where a CPU computes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "MULTIPLIED_OUT", IN_FULL)
        yield


@pytest.fixture
def save(tmp_path, monkeypatch):
    """Saves a VIDEO with the stock node and says what is in the file."""
    import comfy.cli_args
    import folder_paths
    from comfy_extras.nodes_video import SaveVideo

    from tools.dev.clip_check import read_clip

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    monkeypatch.setattr(comfy.cli_args.args, "disable_metadata", True)

    def run(video):
        SaveVideo.execute(video, "clip", "auto", {"codec": "auto"})
        (path,) = tmp_path.glob("clip_*")
        return read_clip(path)

    return run
