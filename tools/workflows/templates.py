"""The templates that need Ovi alone, each in a few lines: titles, checklists, nodes."""

from __future__ import annotations

from .drawing import Node
from .parts import (
    ASPECT,
    BALL,
    EXAMPLE,
    FACE,
    FIRE,
    LAMP,
    MODEL,
    SENTENCE,
    SMALL,
    TALK,
    Draw,
    begin,
    clip_of,
    empty,
    listed,
    make,
    resolution,
    save,
    save_decoded,
    seed,
    strengths,
    variant,
    words,
)
from .sheet import Sheet

TEMPLATES: dict[str, Draw] = {}
SHORT = "960x960_5s"
OTHER_VARIANT = {"09 Loop": SHORT, "15 Low memory": SHORT}
"""Templates that are set for 5 s instead of 10."""


@listed(TEMPLATES, "00 Try it now - text to video")
@listed(TEMPLATES, "01 Text to video")
def _text(s: Sheet) -> None:
    s.app = True
    load = begin(s, "A video with speech and sound, from text.", SENTENCE, ASPECT, MODEL)
    prompts = words(s, load, TALK, BALL)
    s.group("Size and length", "size")
    save_decoded(s, make(s, load, prompts, empty(s)))


@listed(TEMPLATES, "00 Try it now - image to video")
@listed(TEMPLATES, "02 Image to video")
def _image(s: Sheet) -> None:
    s.app = True
    load = begin(
        s,
        "A video with sound that begins with your image.",
        "**Load Image**: your image. The clip has its shape.",
        "**prompt**: what happens next, and the sound after *Audio:*.",
        MODEL,
    )
    prompts = words(s, load, BALL)
    image = s.given("image", "LoadImage", image=EXAMPLE.first)
    s.group("Size, length, first frame", "size")
    latent = s.add("OviImageToVideo", vae=load.vae, latent=empty(s, image), start_image=image).latent
    save_decoded(s, make(s, load, prompts, latent))


@listed(TEMPLATES, "00 Try it now - sound for a silent clip")
@listed(TEMPLATES, "03 Sound for a silent clip")
def _sound(s: Sheet) -> None:
    s.app = True
    load = begin(
        s,
        "Sound for a clip; its frames stay as they are.",
        "**Load Video**: your clip.",
        "**prompt**: what the clip shows, and what is heard after *Audio:*.",
        MODEL,
    )
    prompts = words(s, load, BALL)
    clip = clip_into(s, "The silent clip")
    given = {"images": clip.images, "frame_rate": clip.fps, "mode": mode(s), "length": "the whole clip"}
    latent = s.add("OviLockVideo", vae=load.vae, latent=empty(s, clip.images), **given).latent
    save_decoded(s, make(s, load, prompts, latent))


@listed(TEMPLATES, "04 Video for a voice")
def _voice(s: Sheet) -> None:
    load = begin(
        s,
        "A video for a recording; the recording stays as it is.",
        "**Load Audio**: your recording.",
        "**prompt**: who speaks, with the words of the recording between &lt;S&gt; and &lt;E&gt;.",
        ASPECT,
        MODEL,
    )
    prompts = words(s, load, FACE)
    voice = s.given("voice", "LoadAudio", audio=EXAMPLE.voice)
    s.group("Size, the voice", "size")
    given = {"audio": voice, "mode": mode(s), "length": "the whole sound"}
    latent = s.add("OviLockAudio", audio_vae=load.audio_vae, latent=empty(s, aspect="1:1"), **given).latent
    save_decoded(s, make(s, load, prompts, latent))


@listed(TEMPLATES, "05 Extend a clip")
def _extend(s: Sheet) -> None:
    s.app = True
    load = begin(
        s,
        "Continues a clip in video and sound, and joins both.",
        "**Load Video**: your clip.",
        "**prompt**: what happens next.",
        MODEL,
    )
    prompts = words(s, load, FACE)
    clip = clip_into(s, "The clip before", EXAMPLE.clip)
    given = {"images": clip.images, "audio": clip.audio, "frame_rate": clip.fps, "overlap_seconds": 0.5}
    seconds = resolution(s, clip.images).seconds
    latent = s.add("OviExtend", vae=load.vae, audio_vae=load.audio_vae, seconds=seconds, **given).latent
    new = make(s, load, prompts, latent)
    s.group("Both as one", "decoding")
    before = {"images_a": clip.images, "audio_a": clip.audio, "frame_rate": clip.fps, "overlap_seconds": 0.5}
    film = s.add("OviJoin", images_b=new.images, audio_b=new.audio, **before)
    save(s, s.add("CreateVideo", images=film.images, audio=film.audio, fps=24.0).video)


@listed(TEMPLATES, "06 First and last image")
def _first_and_last(s: Sheet) -> None:
    load = begin(
        s,
        "A video that begins with one image and ends with another. End images are untested with the published weights.",
        "**Load Image**, both: images of one shape.",
        "**prompt**: how the one becomes the other.",
        MODEL,
    )
    prompts = words(s, load, BALL)
    first = s.given("first image", "LoadImage", "First image", image=EXAMPLE.first)
    last = s.given("last image", "LoadImage", "Last image", image=EXAMPLE.last)
    s.group("Size, first and last frame", "size")
    given = {"start_image": first, "end_image": last}
    latent = s.add("OviImageToVideo", vae=load.vae, latent=empty(s, first), **given).latent
    save_decoded(s, make(s, load, prompts, latent))


@listed(TEMPLATES, "07 Redo a word")
def _redo(s: Sheet) -> None:
    load = begin(
        s,
        "Regenerates some seconds of a clip; all else stays as it is.",
        "**Load Video**: your clip.",
        "**prompt**: the whole clip, with the right word.",
        "**video_spans**, **audio_spans**: the seconds to redo. Another seed gives another take.",
        MODEL,
    )
    prompts = words(s, load, FACE)
    clip = clip_into(s, "The clip, and what to redo", EXAMPLE.clip)
    given = {"images": clip.images, "audio": clip.audio, "frame_rate": clip.fps}
    latent = empty(s, clip.images)
    latent = s.add("OviEncodeClip", vae=load.vae, audio_vae=load.audio_vae, latent=latent, **given).latent
    spans = {name: s.ask(name, "STRING", "0.7-1.1") for name in ("video_spans", "audio_spans")}
    latent = s.add("OviKeepSpan", latent=latent, **spans).latent
    save_decoded(s, make(s, load, prompts, latent))


@listed(TEMPLATES, "08 Keep a voice")
def _keep_voice(s: Sheet) -> None:
    load = begin(
        s,
        "New speech in the voice of a recording, which is not in the finished clip. Untested with the published "
        "weights.",
        "**Load Audio**: 2 to 3 s of the voice, of a person who agreed to it.",
        "**prompt**: first the words of the recording, then the new ones, each between &lt;S&gt; and &lt;E&gt;.",
        ASPECT,
        MODEL,
    )
    prompts = words(s, load, "A yellow face says <S>bee bee<E> <S>bee bee<E>. Audio: A clear voice.")
    voice = s.given("voice", "LoadAudio", audio=EXAMPLE.voice)
    s.group("Size, length, the voice", "size")
    latent = s.add("OviVoice", audio_vae=load.audio_vae, latent=empty(s, aspect="1:1"), voice=voice).latent
    save_decoded(s, make(s, load, prompts, latent))


@listed(TEMPLATES, "09 Loop")
def _loop(s: Sheet) -> None:
    load = begin(
        s,
        "A clip whose end meets its start, in video and sound. Untested with the published weights.",
        "**prompt**: something that repeats, such as fire, rain, a lamp.",
        ASPECT,
        MODEL,
    )
    model = s.add("OviLoop", model=load.model).model
    prompts = words(s, load, FIRE, LAMP)
    s.group("Size and length", "size")
    save_decoded(s, make(s, load, prompts, empty(s), model, loop=True))


@listed(TEMPLATES, "10 Storyboard")
def _storyboard(s: Sheet) -> None:
    load = begin(
        s,
        "A film of several shots from a script. Finished shots are kept and not generated again.",
        "**script**: a line *shot* begins each, *shot, go on* begins it with the end of the one before; *shot 5 s* "
        "sets its length.",
        ASPECT,
        MODEL,
    )
    s.group("Size", "size")
    size = resolution(s)
    s.group("All shots", "sampling")
    models = {"model": load.model, "clip": load.clip, "vae": load.vae, "audio_vae": load.audio_vae}
    shape = {"variant": variant(s), "width": size.width, "height": size.height, "overlap_seconds": 0.5}
    script = s.ask("script", "STRING", SMALL_SCRIPT if s.variant == SMALL else SCRIPT, text=True)
    save(s, s.add("OviStoryboard", **models, script=script, **shape, seed=seed(s), **strengths(s)).video)


SCRIPT = (
    "shot\nscene: A young woman in a green coat walks along an empty beach in the evening sun.\n"
    "sound: Quiet waves and wind.\n\n"
    "shot, go on\nscene: The young woman in the green coat stops, turns to the camera and smiles.\n"
    "speech: I have been waiting for you.\nsound: A warm voice, quiet waves.\n\n"
    "shot\nscene: A wooden boat lies on the sand, seagulls walk around it.\nsound: Seagulls, wind."
)
SMALL_SCRIPT = (
    "shot 2 s\nscene: A large purple rubber ball bounces on the floor.\n"
    "sound: Dull rubber thuds, one for each bounce.\n\n"
    "shot 2 s, go on\nscene: A large purple rubber ball bounces on the floor.\n"
    "sound: Dull rubber thuds, one for each bounce.\n\n"
    "shot 2 s\nscene: A yellow face says\nspeech: bee bee\nsound: A clear voice."
)


def clip_into(s: Sheet, heading: str, file: str = EXAMPLE.silent) -> Node:
    """Frames, sound and rate of a clip from outside, in a group of their own."""
    s.group(heading, "given")
    return clip_of(s, file)


def mode(s: Sheet) -> str:
    """How a locked tower is seen: the small model learned to see it clean."""
    return "clean" if s.variant == SMALL else "follow the noise"
