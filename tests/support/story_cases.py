"""A storyboard of tiny models, for tests."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SCRIPT = """
# four shots, of which the second goes on from the first
seed: 5
sound: waves

shot 0.8 s
scene: A woman stands on a pier.
speech: The woman: Good morning.

shot 1 s, go on
scene: She laughs.

shot 0.5 s, cut
scene: A lighthouse.
guidance: 1, 1

shot 0.8 s
scene: Night.
seed: 9
"""
LENGTHS, OVERLAPS = [21, 25, 13, 21], [0, 5, 0, 0]  # frames
FRAMES = sum(LENGTHS) - sum(OVERLAPS)


@functools.cache
def models() -> Any:
    """A tiny model, text encoder and both VAEs."""
    from native_cases import small_vaes, write_tiny
    from ovi_native.ovi_core.loading.loader import load_model
    from ovi_native.ovi_core.story.models import Models
    from ovi_native.ovi_core.text.umt5 import load_text_encoder
    from ovi_native.tools import standins

    with tempfile.TemporaryDirectory() as folder:
        model = load_model(write_tiny(Path(folder)))
    return Models(model, load_text_encoder(standins.text_encoder(0)), *small_vaes())


def settings(**changed: Any) -> Any:
    from ovi_native.ovi_core.story.plan import Settings

    small = {"variant": "mini", "width": 64, "height": 32, "overlap_seconds": 0.2, "steps": 2, "skip_layers": (1,)}
    return Settings(**small | changed)


def store(folder: Path) -> Any:
    from ovi_native.ovi_core.story.shot_store import Store

    return Store(Path(folder))


def shot(key: str = "a", frames: int = 5) -> Any:
    """A plan of nothing but what a store looks at: 64x32 px at Ovi's rates."""
    from ovi_native.ovi_core.media.video_file import Streams

    return SimpleNamespace(key=key, streams=Streams(64, 32, 24, 16_000), clip=SimpleNamespace(frames=frames))


def rendered(folder: Path, script: str = SCRIPT, **more: Any) -> tuple[Path, str]:
    """The film and the report of a script whose store is ``folder``."""
    import torch
    from ovi_native.ovi_core.story.render import render
    from ovi_native.ovi_core.story.shot_maker import ShotMaker

    given = {"models": models(), "load_image": None} | more
    chosen, kept, load_image = settings(**given.pop("settings", {})), store(folder), given.pop("load_image")
    voices = {"load_voice": given["load_voice"]} if "load_voice" in given else {}
    maker = ShotMaker(given.pop("models"), chosen, kept, load_image, **voices)
    with torch.inference_mode():  # as ComfyUI runs nodes
        return render(maker, script, chosen, kept, load_image, **given)


def shot_files(folder: Path) -> dict[str, int]:
    """The shots in the store, each with the time it was written."""
    paths = sorted(path for path in (Path(folder) / "shots").glob("*.mkv") if ".part" not in path.name)
    return {path.name: path.stat().st_mtime_ns for path in paths}
