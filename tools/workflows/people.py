"""Workflows with reference people, set for the weights that were trained on them (DreamID-Omni)."""

from __future__ import annotations

from typing import Any

from .drawing import Node, Output
from .parts import Draw, decode, empty, listed, load_ovi, resolution, save, save_decoded, seed, variant, words
from .sheet import Sheet

PEOPLE: dict[str, Draw] = {}
VARIANT = "dreamid_omni"
# As those who trained the weights sample them.
STRENGTHS: dict[str, Any] = {"video_cfg": 3.0, "audio_cfg": 4.0}
REFERENCE = {"video": 1.5, "audio": 2.0}
SPEECH_STARTS = 0.2  # seconds, in the examples' recordings
EXAMPLES = ("ovi_example_face.jpg", "ovi_example_voice.flac"), ("ovi_example_face_2.jpg", "ovi_example_voice_2.flac")
CARE = """

**A face and a voice belong to a person.** Use only those of people who agreed, and say that the clip is generated.

*Only its numbers were compared with the reference; no clip was made with the published weights yet.*"""


def _begin(s: Sheet, about: str, *change: str) -> Node:
    s.about = about
    steps = "\n".join(f"{number}. {text}" for number, text in enumerate(change, 1))
    s.note(f"{about}\n\n## Change\n{steps}{CARE}")
    return load_ovi(s)


def _prompt(s: Sheet, **texts: str) -> Output:
    s.group("What happens", "words")
    return s.add(
        "OviPeoplePrompt", **{name: s.ask(name, "STRING", text, text=True) for name, text in texts.items()}
    ).prompt


def _person(
    s: Sheet, load: Node, prompts: tuple[Output, Output], latent: Output, files: tuple[str, str], number: str = ""
) -> tuple[Output, Output]:
    """Both conditionings with the person of these files, a face and a voice."""
    face = s.given(f"face{number}", "LoadImage", f"Face{number}", image=files[0])
    voice = s.given(f"voice{number}", "LoadAudio", f"Voice{number}", audio=files[1])
    given = {"positive": prompts[0], "negative": prompts[1], "vae": load.vae, "audio_vae": load.audio_vae}
    start = s.ask("voice_start", "FLOAT", SPEECH_STARTS)
    reference = {"latent": latent, "face": face, "voice": voice, "voice_start": start}
    person = s.add("OviPerson", f"Person{number}" if number else "", **given, **reference)
    return person.positive, person.negative


def _made(s: Sheet, load: Node, prompts: tuple[Output, Output], latent: Output) -> None:
    """The clip, sampled with guidance by references in each tower."""
    s.group("How closely to follow face and voice", "sampling")
    options: dict[str, Output] = {}
    for tower, strength in REFERENCE.items():
        given = {"tower": tower, "reference_guidance": strength, **options}
        options = {"options": s.add("OviGuidanceOptions", f"References, {tower}", **given).options}
    s.group("Sampling", "sampling")
    given = {"model": load.model, "positive": prompts[0], "negative": prompts[1], "latent": latent, **STRENGTHS}
    run = s.add("OviSampler", **given, seed=seed(s), guidance_options=options["options"])
    save_decoded(s, decode(s, load, run.latent))


VOICE = "**voice_start**: second at which speech begins in the recording."


@listed(PEOPLE, "18 One person")
def _one(s: Sheet) -> None:
    load = _begin(
        s,
        "A person with a given face speaks with a given voice.",
        "**Load Image**: a close crop of the face. **Load Audio**: more than a second of clear speech.",
        "**people** describes the person, **speech** has what they say.",
        VOICE,
    )
    prompt = _prompt(
        s,
        people="A yellow cartoon face with round eyes.",
        scene="A plain wall in soft light. The shot is a close-up.",
        looks="<sub1> wears a small black hat.",
        actions="<sub1> looks into the camera and speaks.",
        speech="1 (cheerfully): It is good to see you again.",
    )
    prompts = words(s, load, prompt)
    s.group("Size and person", "size")
    latent = empty(s)
    prompts = _person(s, load, prompts, latent, EXAMPLES[0])
    _made(s, load, prompts, latent)


@listed(PEOPLE, "19 Two people")
def _two(s: Sheet) -> None:
    load = _begin(
        s,
        "Two people with given faces speak with given voices.",
        "**Load Image**, **Load Audio**: face and voice of both.",
        "**people** has a row for each, in the same order. If only one of the two has a voice, that person "
        "comes first.",
        VOICE,
    )
    prompt = _prompt(
        s,
        people="A yellow cartoon face with round eyes.\nA blue cartoon face with round eyes.",
        scene="A plain wall in soft light. The shot shows both side by side.",
        actions="<sub1> and <sub2> look at each other.",
        speech="1 (cheerfully): Have we met before?\n2: Only in the mirror.",
    )
    prompts = words(s, load, prompt)
    s.group("Size and first person", "size")
    latent = empty(s)
    prompts = _person(s, load, prompts, latent, EXAMPLES[0], " 1")
    s.group("Second person", "size")
    prompts = _person(s, load, prompts, latent, EXAMPLES[1], " 2")
    _made(s, load, prompts, latent)


@listed(PEOPLE, "20 Storyboard with a cast")
def _cast(s: Sheet) -> None:
    load = _begin(
        s,
        "A film of several shots with people whose faces and voices are given.",
        "**script**: a line *cast Name: face file, voice file from 0.2 s* above the first shot, what the face shows "
        "below it, and *with: Name* in each shot. The files are in ComfyUI's *input* folder.",
        "Finished shots are kept and not generated again.",
    )
    s.group("Size", "size")
    size = resolution(s)
    s.group("All shots", "sampling")
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
    shape = {"variant": variant(s), "width": size.width, "height": size.height, "overlap_seconds": 0.5}
    shape |= {"script": s.ask("script", "STRING", script, text=True), "seed": seed(s)}
    save(s, s.add("OviStoryboard", **models, **shape, **STRENGTHS).video)
