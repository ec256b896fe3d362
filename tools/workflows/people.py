"""Workflows with reference people, set for the weights that were trained on them (DreamID-Omni)."""

from __future__ import annotations

from typing import Any

from .drawing import Drawing, Node, Output
from .parts import Draw, decode, empty, listed, save, words

PEOPLE: dict[str, Draw] = {}
VARIANT = "dreamid_omni"
# As those who trained the weights sample them.
STRENGTHS: dict[str, Any] = {"video_cfg": 3.0, "audio_cfg": 4.0, "skip_layers": "0"}
REFERENCE = {"video": 1.5, "audio": 2.0}
SIZE = {"width": 1280, "height": 704}
SPEECH_STARTS = 0.2  # seconds, in the examples' recordings
EXAMPLES = ("ovi_example_face.jpg", "ovi_example_voice.flac"), ("ovi_example_face_2.jpg", "ovi_example_voice_2.flac")
CARE = """
## Consent
A face and a voice belong to somebody. Use only those of people who agreed to it, and say that the clip is generated.
## Weights
This graph is set for `dreamid_omni`: 1280×704 or 992×512, 5 s. Ovi's own weights never saw reference people. What is \
known of the results are reference numbers only; no clip was made with the published weights yet."""


def _begin(d: Drawing, change: str, files: str) -> Node:
    copied = f"\n\nThe example's {files} are in the pack's folder `assets`; copy into ComfyUI's `input`."
    d.note(f"## Change first\n{change}\n{CARE}{copied}")
    d.group("Weights")
    return d.add("OviPipelineLoader", variant=VARIANT)


def _person(
    d: Drawing, load: Node, prompts: tuple[Output, Output], latent: Output, files: tuple[str, str], number: str = ""
) -> tuple[Output, Output]:
    """Both conditionings with the person of these files, a face and a voice."""
    face = d.add("LoadImage", f"Face{number}", image=files[0]).image
    voice = d.add("LoadAudio", f"Voice{number}", audio=files[1]).audio
    given = {"positive": prompts[0], "negative": prompts[1], "vae": load.vae, "audio_vae": load.audio_vae}
    reference = {"latent": latent, "face": face, "voice": voice, "voice_start": SPEECH_STARTS}
    person = d.add("OviPerson", f"Person{number}" if number else "", **given, **reference)
    return person.positive, person.negative


def _made(d: Drawing, load: Node, prompts: tuple[Output, Output], latent: Output) -> Output:
    """The clip, sampled with guidance by references in each tower."""
    d.group("How closely to follow face and voice")
    options: dict[str, Output] = {}
    for tower, strength in REFERENCE.items():
        given = {"tower": tower, "reference_guidance": strength, **options}
        options = {"options": d.add("OviGuidanceOptions", f"References, {tower}", **given).options}
    d.group("Make picture and sound together")
    given = {"model": load.model, "positive": prompts[0], "negative": prompts[1], "latent": latent, **STRENGTHS}
    run = d.add("OviSampler", **given, seed=42, guidance_options=options["options"])
    return decode(d, load, run.latent).video


@listed(PEOPLE, "Ovi one person")
def _one(d: Drawing) -> None:
    load = _begin(
        d,
        "**Choose a face and a voice** in *Load Image* and *Load Audio*: a close crop, and clear speech of more than a "
        "second. *voice_start* is where it begins. Then describe the person and write what they say in *Ovi People "
        "Prompt*.",
        files="face `ovi_example_face.jpg` and voice `ovi_example_voice.flac`",
    )
    d.group("What happens")
    prompt = d.add(
        "OviPeoplePrompt",
        people="A yellow cartoon face with round eyes.",
        scene="A plain wall in soft light. The shot is a close-up.",
        looks="<sub1> wears a small black hat.",
        actions="<sub1> looks into the camera and speaks.",
        speech="1 (cheerfully): It is good to see you again.",
    ).prompt
    prompts = words(d, load, prompt, VARIANT)
    d.group("Size and person")
    latent = empty(d, **SIZE, seconds=5.0)
    prompts = _person(d, load, prompts, latent, EXAMPLES[0])
    save(d, _made(d, load, prompts, latent))


@listed(PEOPLE, "Ovi two people")
def _two(d: Drawing) -> None:
    load = _begin(
        d,
        "**Choose both faces and voices**, and write in *Ovi People Prompt* a row for each person, in the same order. "
        "Faces and voices are counted apart: if only one of the two has a voice, that person comes first.",
        files="faces `ovi_example_face.jpg`, `ovi_example_face_2.jpg` and voices `ovi_example_voice.flac`, "
        "`ovi_example_voice_2.flac`",
    )
    d.group("What happens")
    prompt = d.add(
        "OviPeoplePrompt",
        people="A yellow cartoon face with round eyes.\nA blue cartoon face with round eyes.",
        scene="A plain wall in soft light. The shot shows both side by side.",
        looks="",
        actions="<sub1> and <sub2> look at each other.",
        speech="1 (cheerfully): Have we met before?\n2: Only in the mirror.",
    ).prompt
    prompts = words(d, load, prompt, VARIANT)
    d.group("Size and first person")
    latent = empty(d, **SIZE, seconds=5.0)
    prompts = _person(d, load, prompts, latent, EXAMPLES[0], " 1")
    d.group("Second person")
    prompts = _person(d, load, prompts, latent, EXAMPLES[1], " 2")
    save(d, _made(d, load, prompts, latent))


@listed(PEOPLE, "Ovi cast storyboard")
def _cast(d: Drawing) -> None:
    load = _begin(
        d,
        "**Write your own cast and shots** in *script*: a line `cast Name: face file, voice file from 0.2 s` above the "
        "first shot, what the face shows below it, and `with: Name` in each shot. The files are in ComfyUI's `input`. "
        "A finished shot is kept and not made again.",
        files="faces `ovi_example_face.jpg`, `ovi_example_face_2.jpg` and voices `ovi_example_voice.flac`, "
        "`ovi_example_voice_2.flac`",
    )
    d.group("Script")
    script = (
        "cast Sunny: face ovi_example_face.jpg, voice ovi_example_voice.flac from 0.2 s\n"
        "A yellow cartoon face with round eyes.\n"
        "cast Blue: face ovi_example_face_2.jpg, voice ovi_example_voice_2.flac from 0.2 s\n"
        "A blue cartoon face with round eyes.\n\n"
        "reference: 1.5, 2\n\n"
        "shot 5 s\nwith: Sunny\nscene: A plain wall in soft light. The shot is a close-up.\n"
        "speech: Sunny: Has anybody seen my friend?\n\n"
        "shot 5 s\nwith: Blue\nscene: A dark window at night. The shot is a close-up.\n"
        "speech: Blue: I am over here.\n\n"
        "shot 5 s\nwith: Sunny, Blue\nscene: A garden at noon. The shot shows both side by side.\n"
        "speech: Sunny: There you are!\nBlue: I never left."
    )
    models = {"model": load.model, "clip": load.clip, "vae": load.vae, "audio_vae": load.audio_vae}
    size = {"variant": VARIANT, **SIZE, "overlap_seconds": 0.5}
    save(d, d.add("OviStoryboard", **models, script=script, **size, seed=42, **STRENGTHS).video)
