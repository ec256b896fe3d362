"""Killed with signal 9 at every stage of writing a file: saving a video, an interrupted training, a dataset's cache.

The stages of a storyboard, of a download and of a conversion: ``tests/story/test_story.py`` and
``tests/loading/test_interrupted_writes.py``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import comfy.cli_args
import folder_paths
import pytest
import safetensors.torch
import torch
from comfy_api.latest import InputImpl, Types
from killing import killed
from native_cases import drawn, small_vaes
from ovi_native.nodes.saving import OviSaveVideo
from ovi_native.ovi_core import safe_write
from ovi_native.ovi_core.spec import ClipShape
from ovi_native.ovi_core.training.latent_cache import LatentCache
from ovi_native.ovi_core.training.saving import save_interrupted

from tools.dev.clip_check import read_clip

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot copy a process")
FRAMES, STEPS = 9, 7


def save_video(folder: Path) -> None:
    components = Types.VideoComponents(
        images=drawn(FRAMES, 64, 64, 3).sigmoid(),
        audio={"waveform": 0.1 * drawn(1, 1, 6000), "sample_rate": 16_000},
        frame_rate=Fraction(24),
    )
    OviSaveVideo.execute(InputImpl.VideoFromComponents(components), "clip")


def is_video(file: Path) -> bool:
    return read_clip(file).frames == FRAMES


def save_lora(folder: Path) -> None:
    save_interrupted({"a.lora_up.weight": drawn(64, 64)}, STEPS, [folder])


def is_lora(file: Path) -> bool:
    return torch.equal(safetensors.torch.load_file(file)["a.lora_up.weight"], drawn(64, 64))


SHAPE = ClipShape.from_seconds(64, 32, 0.5)


def cache(folder: Path) -> tuple[LatentCache, Path]:
    return LatentCache(*small_vaes(), SHAPE), folder / "a.ovi_0.safetensors"


def save_cache(folder: Path) -> None:
    made, file = cache(folder)
    made.write(file, drawn(*SHAPE.video_shape()).half(), drawn(*SHAPE.audio_shape()).half())


def is_cache(file: Path) -> bool:
    return cache(file.parent)[0].read(file) is not None


WRITERS: dict[str, tuple[Callable[[Path], None], Callable[[Path], bool]]] = {
    "a saved video": (save_video, is_video),
    "a LoRA of an interrupted training": (save_lora, is_lora),
    "latents of a dataset": (save_cache, is_cache),
}


def kill(*args: Any, **kwargs: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def half_written(part: Path, mode: int) -> None:
    """The system has taken half of the file when the process is killed."""
    os.truncate(part, part.stat().st_size // 2)
    kill()


STAGES: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "before anything is written": (safe_write, "_created", kill),
    "half written": (safe_write, "_flush", half_written),
    "written, not flushed": (os, "fsync", kill),
    "flushed, not renamed": (os, "replace", kill),
    "renamed": (safe_write, "_flush_folder", kill),
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_is_whole_or_not_there_and_the_next_run_leaves_nothing_else(writer, stage, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    monkeypatch.setattr(comfy.cli_args.args, "disable_metadata", True)
    write, is_whole = WRITERS[writer]
    owner, name, then = STAGES[stage]

    def write_and_be_killed() -> None:
        setattr(owner, name, then)
        write(tmp_path)

    assert killed(write_and_be_killed)
    finished = [file for file in tmp_path.iterdir() if not safe_write.PART.search(file.name)]
    assert len(finished) == (stage == "renamed")
    assert all(map(is_whole, finished))
    write(tmp_path)
    files = sorted(tmp_path.iterdir())
    assert all(map(is_whole, files)), "a leftover of the killed writer stays"
    assert 1 <= len(files) <= 1 + len(finished)
