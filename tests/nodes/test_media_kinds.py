"""Every node that takes IMAGE, AUDIO, MASK or VIDEO, with every kind of each that a node of ComfyUI or of a pack gives.

Either the result is that of float32, or an error names what was found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import folder_paths
import numpy as np
import ovi_native
import pytest
import torch
from comfy_api.latest import InputImpl, Types
from native_cases import small_vaes
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.media.provenance import MarkedVideo
from ovi_native.ovi_core.story import plan, script
from torch import Tensor


async def _nodes() -> list[Any]:
    return await (await ovi_native.comfy_entrypoint()).get_node_list()


NODES = {node.define_schema().node_id: node for node in asyncio.run(_nodes())}
SIDE, FRAMES, RATE = 64, 9, 16_000
CLOSE = 0.02  # relative; bfloat16 rounds to 0.4 %
ENCODED = 0.1  # relative; H.264 of noise, after ComfyUI cuts to whole levels
GENERATOR = torch.Generator().manual_seed(3)
BYTES = torch.randint(0, 256, (FRAMES, SIDE, SIDE, 3), generator=GENERATOR)  # the images, of 255
LEVELS = torch.randint(-100, 100, (1, 2, RATE), generator=GENERATOR)  # the audio, of 128
CELLS = torch.zeros(1, SIDE, SIDE, dtype=torch.long)  # the mask, 0 or 1
CELLS[:, :32, :32] = 1


# -- kinds ----------------------------------------------------------------------------------------------------------


def strided(values: Tensor) -> Tensor:
    """The same values, not contiguous."""
    return torch.stack((values, values), dim=-1)[..., 0]


FLOATS: dict[str, Callable[[Tensor], Tensor]] = {
    "float16": Tensor.half,
    "bfloat16": Tensor.bfloat16,
    "float64": Tensor.double,
    "not contiguous": strided,
    "with a gradient": lambda values: values.clone().requires_grad_(),
}
IMAGES = {name: change(BYTES / 255) for name, change in FLOATS.items()} | {
    "uint8": BYTES.to(torch.uint8),
    "uint16": (BYTES * 257).to(torch.uint16),
    "int16": (BYTES / 255 * 32767).round().to(torch.int16),
    "int32": (BYTES.double() / 255 * (2**31 - 1)).to(torch.int32),
}
BAD_IMAGES = {
    "complex64": (BYTES.to(torch.complex64), "complex64"),
    "sparse": ((BYTES / 255).to_sparse(), "sparse"),
    "meta": ((BYTES / 255).to("meta"), "on meta"),
    "NumPy": ((BYTES / 255).numpy(), "ndarray"),
    "list": ([BYTES / 255], "list"),
    "NaN": (torch.full((FRAMES, SIDE, SIDE, 3), torch.nan), "NaN"),
    "infinite in float16": (torch.full((FRAMES, SIDE, SIDE, 3), torch.inf, dtype=torch.float16), "NaN or infinite"),
    "no image": (torch.zeros(0, SIDE, SIDE, 3), f"[0, {SIDE}, {SIDE}, 3]"),
    "grey": (torch.zeros(FRAMES, SIDE, SIDE, 1), "1 channel"),
}


def audio(waveform: Any, rate: Any = RATE) -> dict:
    return {"waveform": waveform, "sample_rate": rate}


SOUND = LEVELS / 128
AUDIO = {name: audio(change(SOUND)) for name, change in FLOATS.items()} | {
    "int8": audio(LEVELS.to(torch.int8)),
    "uint8": audio((LEVELS + 128).to(torch.uint8)),
    "int16": audio((LEVELS * 2**8).to(torch.int16)),
    "int32": audio((LEVELS * 2**24).to(torch.int32)),
    "NumPy rate": audio(SOUND, np.int32(RATE)),
    "NumPy float rate": audio(SOUND, np.float64(RATE)),
    "torch rate": audio(SOUND, torch.tensor(RATE)),
    "torch rate in a list": audio(SOUND, torch.tensor([RATE])),
    "float rate": audio(SOUND, float(RATE)),
    "text rate": audio(SOUND, str(RATE)),
}
BAD_RATES = ("fast", None, 0, -1, 44100.5, torch.nan, 10**9, True)
BAD_AUDIO = {
    "complex64": (audio(SOUND.to(torch.complex64)), "complex64"),
    "int64": (audio(LEVELS), "int64"),
    "sparse": (audio(SOUND.to_sparse()), "sparse"),
    "meta": (audio(SOUND.to("meta")), "on meta"),
    "NumPy": (audio(SOUND.numpy()), "without a waveform"),
    "NaN": (audio(torch.full_like(SOUND, torch.nan)), "NaN"),
    "NaN in float16": (audio(torch.full_like(SOUND, torch.nan).half()), "NaN"),
    "two dimensions": (audio(SOUND[0]), "[2, 16000]"),
    "text": ("a.wav", "str"),
    **{
        f"rate {rate}": (audio(SOUND, rate), str(rate))
        for rate in ("fast", None, 0, -1, 44100.5, torch.nan, 10**9, True)
    },
    "rates": (audio(SOUND, torch.tensor([RATE, RATE])), "sample rate"),
}
SILENT = {"0 samples": audio(SOUND[..., :0]), "0 channels": audio(SOUND[:, :0]), "0 clips": audio(SOUND[:0])}

MASKS = {name: change(CELLS.float()) for name, change in FLOATS.items()} | {
    "bool": CELLS.bool(),
    "uint8": (CELLS * 255).to(torch.uint8),
    "int32": (CELLS * (2**31 - 1)).to(torch.int32),
    "two dimensions": CELLS[0].float(),
}
BAD_MASKS = {
    "complex64": (CELLS.to(torch.complex64), "complex64"),
    "meta": (CELLS.float().to("meta"), "on meta"),
    "NumPy": (CELLS.numpy(), "ndarray"),
    "NaN": (torch.full((1, SIDE, SIDE), torch.nan), "NaN"),
    "none": (torch.zeros(0, SIDE, SIDE), f"[0, {SIDE}, {SIDE}]"),
    "four dimensions": (torch.zeros(1, 1, SIDE, SIDE), f"[1, 1, {SIDE}, {SIDE}]"),
}


# -- nodes ----------------------------------------------------------------------------------------------------------


def empty() -> dict:
    return NODES["EmptyOviLatent"].execute(SIDE, SIDE, 0.4).result[0]


def latents(node: str, *inputs: Any, **named: Any) -> list[Tensor]:
    """The parts and masks of the LATENT that a node gives."""
    latent = NODES[node].execute(*inputs, **named).result[0]
    both = (latent["samples"], latent.get("noise_mask"))
    return [part for value in both if value is not None for part in value.unbind()]


def joined(**changed: Any) -> list[Tensor]:
    inputs = dict.fromkeys(("images_a", "images_b"), BYTES / 255) | dict.fromkeys(("audio_a", "audio_b"), audio(SOUND))
    images, sound = NODES["OviJoin"].execute(**(inputs | changed), overlap_seconds=0.2).result
    return [images, sound["waveform"]]


def person(**named: Any) -> list[Tensor]:
    """What Ovi Person adds to a conditioning."""
    found: list[Tensor] = []

    def collect(value: Any) -> None:
        if isinstance(value, Tensor):
            found.append(value.float())
        elif isinstance(value, dict):
            [collect(part) for _, part in sorted(value.items(), key=lambda item: str(item[0]))]
        elif isinstance(value, (list, tuple)):
            [collect(part) for part in value]

    vae, audio_vae = small_vaes()
    available = {"vae": vae, "audio_vae": audio_vae, "latent": empty(), "video_vae": vae}
    schema = NODES["OviPerson"].define_schema()
    conds = {slot.id: [[torch.zeros(1, 3, 8), {}]] for slot in schema.inputs if slot.get_io_type() == "CONDITIONING"}
    inputs = {slot.id: available[slot.id] for slot in schema.inputs if slot.id in available}
    collect(list(NODES["OviPerson"].execute(**(conds | inputs | named)).result))
    return found


def first_shot(image: Any) -> list[Tensor]:
    """The hash that decides whether a shot of a storyboard is generated again, as numbers."""
    shots = script.parse("shot\nscene: A pier.")
    key = plan.plan_shots(shots, plan.Settings(width=SIDE, height=SIDE), "models", True, lambda _: image)[0].key
    return [torch.tensor([float(int(key[:8], 16))])]


def film(video: Any) -> list[Tensor]:
    """Frames and audio of the file that Save Ovi Video writes."""
    node = NODES["OviSaveVideo"].PREPARE_CLASS_CLONE(None)
    node.hidden = None
    (saved,) = node.execute(video, "kinds/clip").ui.as_dict()["images"]
    with av.open(str(Path(folder_paths.get_output_directory(), saved["subfolder"], saved["filename"]))) as file:
        frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")).float() for frame in file.decode(video=0)]
        file.seek(0)
        samples = [torch.from_numpy(frame.to_ndarray()) for frame in file.decode(audio=0)] if file.streams.audio else []
    return [torch.stack(frames) / 255, torch.cat(samples, dim=1) if samples else torch.zeros(2, 0)]


def video_of(images: Any, sound: Any, kind: Any = MarkedVideo) -> Any:
    return kind(Types.VideoComponents(images=images, audio=sound, frame_rate=Fraction(24)))


V, A = 0, 1  # of small_vaes()
ONE = (BYTES / 255)[:1]
ROWS: dict[tuple[str, str], Callable[[Any], list[Tensor]]] = {
    ("OviImageToVideo", "start_image"): lambda x: latents("OviImageToVideo", small_vaes()[V], empty(), _first(x)),
    ("OviImageToVideo", "end_image"): lambda x: latents(
        "OviImageToVideo", small_vaes()[V], empty(), ONE, end_image=_first(x)
    ),
    ("OviKeyframe", "image"): lambda x: latents("OviKeyframe", small_vaes()[V], empty(), _first(x), 0.2),
    ("OviEncodeClip", "images"): lambda x: latents("OviEncodeClip", *small_vaes(), empty(), x, audio(SOUND)),
    ("OviEncodeClip", "audio"): lambda x: latents("OviEncodeClip", *small_vaes(), empty(), BYTES / 255, x),
    ("OviLockVideo", "images"): lambda x: latents("OviLockVideo", small_vaes()[V], empty(), x),
    ("OviLockAudio", "audio"): lambda x: latents("OviLockAudio", small_vaes()[A], empty(), x),
    ("OviVoice", "voice"): lambda x: latents("OviVoice", small_vaes()[A], empty(), x, 0.5),
    ("OviExtend", "images"): lambda x: latents("OviExtend", *small_vaes(), x, audio(SOUND[..., :6_000]), 0.2, 0.6),
    ("OviExtend", "audio"): lambda x: latents("OviExtend", *small_vaes(), BYTES / 255, x, 0.2, 0.6),
    ("OviJoin", "images_a"): lambda x: joined(images_a=x),
    ("OviJoin", "images_b"): lambda x: joined(images_b=x),
    ("OviJoin", "audio_a"): lambda x: joined(audio_a=x),
    ("OviJoin", "audio_b"): lambda x: joined(audio_b=x),
    ("OviPerson", "face"): lambda x: person(face=_first(x)),
    ("OviPerson", "voice"): lambda x: person(face=ONE, voice=x, voice_start=0.0),
    ("OviStoryboard", "start_image"): lambda x: first_shot(_first(x)),
    ("OviKeepSpan", "mask"): lambda x: latents("OviKeepSpan", filled(), "redo", "", "", x),
    ("OviResolution", "image"): lambda x: [
        torch.tensor(NODES["OviResolution"].execute("1:1", "mini", x).result).float()
    ],
    ("OviSaveVideo", "video"): film,
}


def _first(images: Any) -> Any:
    """A single image of several, where ``images`` has any."""
    return images[:1] if isinstance(images, Tensor) and not images.is_sparse else images


def filled() -> dict:
    """A latent of an existing clip."""
    latent = empty()
    for part in latent["samples"].unbind():
        part += 1
    return latent


def of_type(kind: str) -> list[tuple[str, str]]:
    """The inputs of :data:`ROWS` that take a type of ComfyUI's."""
    return [row for row in ROWS if TYPES.get(row) == kind]


TYPES = {
    (name, slot.id): slot.get_io_type()
    for name, node in NODES.items()
    for slot in node.define_schema().inputs
    if slot.get_io_type() in ("IMAGE", "AUDIO", "MASK", "VIDEO")
}


@pytest.fixture(autouse=True)
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def close(found: list[Tensor], wanted: list[Tensor], most: float = CLOSE) -> bool:
    return len(found) == len(wanted) and all(
        a.shape == b.shape and float((a.float() - b.float()).norm()) <= most * float(b.float().norm())
        for a, b in zip(found, wanted, strict=True)
    )


def test_every_input_has_a_row():
    assert TYPES.keys() == {row for row in ROWS if row[0] in NODES}


@pytest.mark.parametrize("where", of_type("IMAGE"), ids=".".join)
def test_images(where):
    run, wanted = ROWS[where], ROWS[where](BYTES / 255)
    exact = where == ("OviStoryboard", "start_image")  # whose result is a hash
    kinds = {
        name: images
        for name, images in IMAGES.items()
        if not exact or name not in ("float16", "bfloat16", "int16", "int32")
    }
    assert {name: close(run(images), wanted) for name, images in kinds.items()} == dict.fromkeys(kinds, True)
    check_refused(run, BAD_IMAGES)


@pytest.mark.parametrize("where", of_type("AUDIO"), ids=".".join)
def test_audio(where):
    run, wanted = ROWS[where], ROWS[where](audio(SOUND))
    assert {name: close(run(value), wanted) for name, value in AUDIO.items()} == dict.fromkeys(AUDIO, True)
    check_refused(run, BAD_AUDIO)
    if where[0] in ("OviExtend", "OviJoin"):  # audio is optional
        none = run(None)
        assert {name: close(run(value), none) for name, value in SILENT.items()} == dict.fromkeys(SILENT, True)
    else:
        check_refused(run, {name: (value, "shape [") for name, value in SILENT.items()})


@pytest.mark.parametrize("where", of_type("MASK"), ids=".".join)
def test_masks(where):
    run, wanted = ROWS[where], ROWS[where](CELLS.float())
    assert {name: close(run(mask), wanted) for name, mask in MASKS.items()} == dict.fromkeys(MASKS, True)
    check_refused(run, BAD_MASKS)


@pytest.mark.parametrize("kind", [MarkedVideo, InputImpl.VideoFromComponents])
def test_videos(kind):
    run, images = ROWS["OviSaveVideo", "video"], BYTES / 255
    wanted = run(video_of(images, audio(SOUND)))
    videos = {f"images {name}": video_of(value, audio(SOUND), kind) for name, value in IMAGES.items()}
    videos |= {f"audio {name}": video_of(images, value, kind) for name, value in AUDIO.items()}
    assert {name: close(run(value), wanted, ENCODED) for name, value in videos.items()} == dict.fromkeys(videos, True)
    silent = run(video_of(images, None))
    assert all(close(run(video_of(images, value, kind)), silent, ENCODED) for value in SILENT.values())
    bad = {name: (video_of(value, None, kind), found) for name, (value, found) in BAD_IMAGES.items()}
    bad |= {f"audio {name}": (video_of(images, value, kind), found) for name, (value, found) in BAD_AUDIO.items()}
    check_refused(run, bad | {"None": (None, "no"), "a path": ("a.mp4", "a.mp4")})


def check_refused(run: Callable[[Any], Any], kinds: dict[str, tuple[Any, str]]) -> None:
    """Each of ``kinds`` raises an OviError that says what was found."""
    for name, (value, found) in kinds.items():
        with pytest.raises(OviError) as caught:
            run(value)
        assert found in caught.value.found, name
