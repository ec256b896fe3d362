"""Parts that the templates have in common: weights, words, size, sampling, saving."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .drawing import GREEN, RED, Node, Output
from .sheet import Sheet

BALL = "A large purple rubber ball bounces on the floor. Audio: Dull rubber thuds, one for each bounce."
FACE = "A yellow face says <S>bee bee<E>. Audio: A clear voice."
LAMP = "A large yellow lamp pulses slowly. Audio: A low hum that follows the light."
TALK = (
    "An old fisherman in a yellow raincoat stands on a pier at dawn. He looks into the camera and says, <S>The sea "
    "gives, and the sea takes.<E> Gulls circle behind him. Audio: A deep, calm voice of an old man, waves against "
    "wood, gulls far away."
)
FIRE = "A small campfire burns on a beach at night; its flames flicker. Audio: The crackle of a wood fire, quiet waves."
STREET = (
    "A street musician plays a violin in the rain, people with umbrellas walk past, lamps shine on the wet stones. "
    "Audio: A slow violin melody, rain, footsteps."
)
LORA = "my_ovi_lora.safetensors"
SMALL = "mini"
MAIN = "960x960_10s"
WORLD = (
    "\n\n## The small model\nThis template uses the small model that comes with the pack: nothing to download. It "
    "knows only balls, lamps, bars and faces in six colours, 96 pixels wide: it shows how the nodes work, not how good "
    "Ovi is."
)
UNSEEN = "\n\n*Not yet run with the published weights.*"
SENTENCE = "**prompt**: your own text: speech between &lt;S&gt; and &lt;E&gt;, the sound after *Audio:*."
ASPECT = "**aspect**: width to height."
MODEL = (
    "**variant**, **precision**: the weights, to fit your card. Size, length and prompt style follow. "
    "**download_missing** downloads the files that you lack."
)

Draw = Callable[[Sheet], None]


def listed(under: dict[str, Draw], title: str) -> Callable[[Draw], Draw]:
    """List a drawing function in ``under`` by its template's title."""

    def put(draw: Draw) -> Draw:
        under[title] = draw
        return draw

    return put


def begin(s: Sheet, about: str, *change: str, precision: str = "bf16") -> Node:
    """The note and the loader.

    Args:
        about: what the template makes, in a sentence.
        change: the checklist of what to change.
    """
    s.about = about
    change = tuple(text for text in change if text != MODEL or s.variant != SMALL)
    steps = "\n".join(f"{number}. {text}" for number, text in enumerate(change, 1))
    s.note(f"{about}\n\n## Change\n{steps}{WORLD if s.variant == SMALL else UNSEEN}")
    return load_ovi(s, precision)


def load_ovi(s: Sheet, precision: str = "bf16") -> Node:
    """The loader, in the first group; what it is set to is asked outside, but for the small model."""
    s.group("Weights", "weights")
    if s.variant == SMALL:
        return s.add("OviPipelineLoader", variant=SMALL)
    asked = {"precision": s.ask("precision", "COMBO", precision)}
    asked["download_missing"] = s.ask("download_missing", "BOOLEAN", False)
    return s.add("OviPipelineLoader", variant=variant(s), **asked)


def variant(s: Sheet) -> Output | str:
    """The one widget that says which weights are used; the small model, for which all else is set, has none."""
    return SMALL if s.variant == SMALL else s.ask("variant", "COMBO", s.variant)


def words(s: Sheet, load: Node, prompt: str | Output, small: str = "") -> tuple[Output, Output]:
    """Positive and negative conditioning.

    Args:
        prompt: the example, or where it comes from.
        small: the example for the small model, where it cannot do the other.
    """
    if isinstance(prompt, str):
        prompt = s.ask("prompt", "STRING", small if small and s.variant == SMALL else prompt, text=True)
    s.group("Words", "words")

    def text(title: str, colours: tuple[str, str], said: str | Output) -> Output:
        return s.add("OviTextEncode", title, colours, clip=load.clip, prompt=said).conditioning

    positive = text("What happens", GREEN, prompt)
    image = text("Not in the video", RED, "jitter, bad hands, blur, distortion")
    sound = text("Not in the sound", RED, "robotic, muffled, echo, distorted")
    return positive, s.add("OviDualConditioning", video=image, audio=sound).conditioning


def resolution(s: Sheet, image: Output | None = None, aspect: str = "16:9") -> Node:
    """Width, height and seconds of the variant, in the shape of an image or in one to choose."""
    shape = {"image": image} if image else {"aspect": s.ask("aspect", "COMBO", "1:1" if s.variant == SMALL else aspect)}
    return s.add("OviResolution", variant=variant(s), **shape)


def empty(s: Sheet, image: Output | None = None, aspect: str = "16:9", **more: Any) -> Output:
    """An empty latent of the variant's size and length; ``more`` is set instead."""
    size = resolution(s, image, aspect)
    given = {"width": size.width, "height": size.height, "seconds": size.seconds}
    return s.add("EmptyOviLatent", **{**given, **more}).latent


def seed(s: Sheet) -> Output:
    """The one widget for what is drawn at random."""
    return s.ask("seed", "INT", 42)


def clip_of(s: Sheet, file: str) -> Node:
    return s.add("GetVideoComponents", video=s.given("clip", "LoadVideo", file=file))


def strengths(s: Sheet) -> dict[str, Any]:
    """How the variant is sampled; what it skips, the sampler knows from the model."""
    return {"steps": 20, "video_cfg": 2.0} if s.variant == SMALL else {"steps": 50, "video_cfg": 4.0}


def make(
    s: Sheet,
    load: Node,
    prompts: tuple[Output, Output],
    latent: Output,
    model: Output | None = None,
    loop: bool = False,
    **more: Any,
) -> Node:
    """Sampler and decoder; returns the decoder."""
    s.group("Sampling", "sampling")
    given = {"model": model or load.model, "positive": prompts[0], "negative": prompts[1], "latent": latent}
    run = s.add("OviSampler", **given, **{"seed": seed(s), **strengths(s), **more})
    return decode(s, load, run.latent, loop)


def decode(s: Sheet, load: Node, samples: Output, loop: bool = False) -> Node:
    s.group("Decoding", "decoding")
    return s.add("OviDecode", samples=samples, vae=load.vae, audio_vae=load.audio_vae, loop=loop)


def save(s: Sheet, video: Output, images: Output | None = None, audio: Output | None = None) -> None:
    """What comes out, and the node that saves the video."""
    s.result("video", video)
    for name, output in (("images", images), ("audio", audio)):
        if output:
            s.result(name, output)
    s.save("SaveVideo", "video", filename_prefix=prefix(s), format="mp4", codec="h264")


def save_decoded(s: Sheet, made: Node) -> None:
    save(s, made.video, made.images, made.audio)


def prefix(s: Sheet) -> str:
    """Name of the saved file."""
    return "video/Ovi_" + s.name.removeprefix("Ovi ").replace(",", "").replace(" ", "_")


@dataclass(frozen=True)
class Example:
    """Files of ``assets`` that templates open."""

    first: str = "ovi_example_first.jpg"
    last: str = "ovi_example_last.jpg"
    silent: str = "ovi_example_silent.mp4"
    clip: str = "ovi_example_clip.mp4"
    voice: str = "ovi_example_voice.flac"


EXAMPLE = Example()
