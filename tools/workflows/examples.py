"""The small clips, images and the voice that the workflows open: scenes of the small model's world."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import torch
from comfy_api.latest import InputImpl, Types
from ovi_native.ovi_core.spec import FPS, SAMPLE_RATE, ClipShape
from PIL import Image

from ..mini.world.casting import draw_scene
from ..mini.world.render import Rendered, render

CLIP = ClipShape.from_seconds(96, 96, 2)
BALL, FACE, SECOND = 330, 158, 17  # seeds of scenes: the ball, the yellow face and the blue one of the prompts


def _scene(seed: int, kind: str, clip: ClipShape = CLIP) -> Rendered:
    return render(draw_scene(seed, clip, kind=kind))


def _sound(scene: Rendered) -> dict:
    return {"waveform": torch.from_numpy(scene.sound)[None, None].float(), "sample_rate": SAMPLE_RATE}


def _video(file: Path, scene: Rendered, heard: bool) -> None:
    parts = Types.VideoComponents(torch.from_numpy(scene.frames), FPS, _sound(scene) if heard else None)
    InputImpl.VideoFromComponents(parts).save_to(str(file))


def _slow(file: Path, scene: Rendered, fps: int, frames: int) -> None:
    taken = torch.from_numpy(scene.frames)[:: FPS // fps][:frames]
    InputImpl.VideoFromComponents(Types.VideoComponents(taken, fps, None)).save_to(str(file))


def _still(file: Path, index: int, seed: int = BALL, kind: str = "floor") -> None:
    frame = _scene(seed, kind, ClipShape.from_seconds(256, 256, 2)).frames[index]
    Image.fromarray((frame * 255).round().astype("uint8")).save(file, quality=90)


def _voice(file: Path, seed: int = FACE) -> None:
    samples = (_scene(seed, "face").sound[None] * 32767).round().astype("int16")
    frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
    frame.rate = SAMPLE_RATE
    with av.open(str(file), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono")
        container.mux([*stream.encode(frame), *stream.encode(None)])


FILES: dict[str, Callable[[Path], None]] = {
    "ovi_example_silent.mp4": lambda file: _video(file, _scene(BALL, "floor"), heard=False),
    "ovi_example_8fps.mp4": lambda file: _slow(file, _scene(BALL, "floor"), fps=8, frames=16),
    "ovi_example_clip.mp4": lambda file: _video(file, _scene(FACE, "face"), heard=True),
    "ovi_example_voice.flac": _voice,
    "ovi_example_first.jpg": lambda file: _still(file, 0),
    "ovi_example_last.jpg": lambda file: _still(file, -1),
    "ovi_example_face.jpg": lambda file: _still(file, 0, FACE, "face"),
    "ovi_example_face_2.jpg": lambda file: _still(file, 0, SECOND, "face"),
    "ovi_example_voice_2.flac": lambda file: _voice(file, SECOND),
}
