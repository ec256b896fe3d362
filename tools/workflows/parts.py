"""Parts that the workflows have in common: prompts, weights, sampling, saving."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .drawing import GREEN, RED, Drawing, Node, Output

BALL = "A large purple rubber ball bounces on the floor. Audio: Dull rubber thuds, one for each bounce."
FACE = "A yellow face says <S>bee bee<E>. Audio: A clear voice."
LAMP = "A large yellow lamp pulses slowly. Audio: A low hum that follows the light."
LORA = "my_ovi_lora.safetensors"
BIG = """
## Variants
This graph is set to the small variant `mini`. With the full weights choose `960x960_10s` wherever a node has a \
*variant*, then {size}50 steps{skip}."""
SIZE, SKIP = "960×960, 10 s, ", ", video_cfg 4 and skip layers 11 (the small one takes 2 and 2)"
SMALL: dict[str, Any] = {"steps": 20, "video_cfg": 2.0, "skip_layers": "2"}


Draw = Callable[[Drawing], None]


def listed(under: dict[str, Draw], title: str) -> Callable[[Draw], Draw]:
    """List a drawing function in ``under`` by its workflow's title."""

    def put(draw: Draw) -> Draw:
        under[title] = draw
        return draw

    return put


def begin(
    d: Drawing, change: str, size: str = SIZE, skip: str = SKIP, files: str = "", precision: str = "bf16"
) -> Node:
    """The note and the loader. ``files``: example files to copy, as the note's last sentence."""
    copied = f"\n\nThe example's {files} in the pack's folder `assets`; copy into ComfyUI's `input`." if files else ""
    d.note(f"## Change first\n{change}\n{BIG.format(size=size, skip=skip)}{copied}")
    d.group("Weights")
    return d.add("OviPipelineLoader", variant="mini", precision=precision)


def words(d: Drawing, load: Node, prompt: str | Output, variant: str | Output = "mini") -> tuple[Output, Output]:
    """Positive and negative conditioning."""
    d.group("Words")

    def text(title: str, colours: tuple[str, str], said: str | Output) -> Output:
        return d.add("OviTextEncode", title, colours, clip=load.clip, prompt=said, variant=variant).conditioning

    positive = text("What happens", GREEN, prompt)
    picture = text("Not in the picture", RED, "jitter, bad hands, blur, distortion")
    sound = text("Not in the sound", RED, "robotic, muffled, echo, distorted")
    return positive, d.add("OviDualConditioning", video=picture, audio=sound).conditioning


def empty(d: Drawing, **more: Any) -> Output:
    return d.add("EmptyOviLatent", **{"width": 96, "height": 96, "seconds": 2.0, **more}).latent


def clip_of(d: Drawing, file: str) -> Node:
    return d.add("GetVideoComponents", video=d.add("LoadVideo", file=file).video)


def make(
    d: Drawing,
    load: Node,
    prompts: tuple[Output, Output],
    latent: Output,
    model: Output | None = None,
    loop: bool = False,
    heading: str = "Make picture and sound together",
    **more: Any,
) -> Node:
    """Sampler and decoder in a group of their own, under ``heading``; returns the decoder."""
    d.group(heading)
    given = {"model": model or load.model, "positive": prompts[0], "negative": prompts[1], "latent": latent}
    settings = {"seed": 42, **SMALL, **more}
    run = d.add("OviSampler", **given, **settings)
    return decode(d, load, run.latent, loop)


def decode(d: Drawing, load: Node, samples: Output, loop: bool = False) -> Node:
    return d.add("OviDecode", samples=samples, vae=load.vae, audio_vae=load.audio_vae, loop=loop)


SOUND_ALONE, PICTURES_ALONE = "Make the sound for it", "Make the pictures for it"
"""Headings of :func:`make` where the other tower is locked."""


def save(d: Drawing, video: Output) -> None:
    d.group("Watch and listen")
    prefix = "video/" + d.title.replace(" ", "_")
    d.add("SaveVideo", video=video, filename_prefix=prefix, format="mp4", codec="h264")
