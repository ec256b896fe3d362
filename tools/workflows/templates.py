"""The templates that need Ovi alone, each in a few lines: titles, checklists, nodes."""

from __future__ import annotations

from .drawing import Node
from .parts import (
    BALL,
    EXAMPLE,
    FACE,
    FIRE,
    LAMP,
    LORA,
    MODEL,
    SMALL,
    STREET,
    TALK,
    Draw,
    begin,
    clip_of,
    decode,
    empty,
    listed,
    make,
    prefix,
    resolution,
    save,
    save_decoded,
    strengths,
    variant,
    words,
)
from .sheet import Sheet

TEMPLATES: dict[str, Draw] = {}
SENTENCE = "**prompt**: your own sentence. Speech between &lt;S&gt; and &lt;E&gt;, the sound after *Audio:*."
ASPECT = "**aspect**: the shape, width to height."
SHORT = "960x960_5s"
OTHER_VARIANT = {"09 Loop": SHORT, "15 Low memory": SHORT}
"""Templates that are set for 5 s instead of 10."""


@listed(TEMPLATES, "00 Try it now - text to video")
@listed(TEMPLATES, "01 Text to video")
def _text(s: Sheet) -> None:
    s.app = True
    load = begin(s, "A video with speech and sound, from a sentence.", SENTENCE, ASPECT, MODEL)
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
        "**prompt**: what happens then, and the sound after *Audio:*.",
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
        "Goes on from the end of a clip, in video and sound, and joins both.",
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
        "**prompt**: something that goes on, such as fire, rain, a lamp.",
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
    seed = s.ask("seed", "INT", 42)
    save(s, s.add("OviStoryboard", **models, script=script, **shape, seed=seed, **strengths(s)).video)


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


@listed(TEMPLATES, "11 Several seeds")
def _several(s: Sheet) -> None:
    load = begin(
        s,
        "Several clips of one sentence, each from its own noise, each in its own file.",
        SENTENCE,
        "**clips**: how many at once. Memory grows with it.",
        ASPECT,
        MODEL,
    )
    prompts = words(s, load, TALK, BALL)
    s.group("Size, length, how many", "size")
    latent = empty(s, batch_size=s.ask("clips", "INT", 2))
    s.result("video", make(s, load, prompts, latent).video)
    s.save("OviSaveVideo", "video", filename_prefix=prefix(s))


@listed(TEMPLATES, "12 Draft, then large")
def _draft(s: Sheet) -> None:
    load = begin(
        s,
        "A draft of half the size, then the same clip in full size: the draft's video latent is enlarged, its audio "
        "latent is kept, and both are refined together. Faster than full size from the start. Untested with the "
        "published weights.",
        SENTENCE,
        "**refine**: how much changes in the second run; less stays nearer to the draft.",
        ASPECT,
        MODEL,
    )
    prompts = words(s, load, TALK, BALL)
    s.group("Half the size", "size")
    size = resolution(s)
    half = {
        name: s.add("ComfyMathExpression", f"Half the {name}", expression=HALF, **{"values.a": getattr(size, name)}).int
        for name in ("width", "height")
    }
    latent = s.add("EmptyOviLatent", **half, seconds=size.seconds).latent
    s.group("Draft", "sampling")
    given = {"model": load.model, "positive": prompts[0], "negative": prompts[1]}
    run = {"seed": s.ask("seed", "INT", 42), **strengths(s)}
    parts = s.add("LTXVSeparateAVLatent", av_latent=s.add("OviSampler", "Draft", **given, latent=latent, **run).latent)
    s.group("Twice the size", "size")
    large = s.add("LatentUpscaleBy", samples=parts.video_latent, upscale_method="bicubic", scale_by=2.0).latent
    joint = s.add("LTXVConcatAVLatent", video_latent=large, audio_latent=parts.audio_latent).latent
    s.group("Refine both", "sampling")
    run |= {"steps": 6 if s.variant == SMALL else 15, "denoise": s.ask("refine", "FLOAT", 0.15)}
    refined = s.add("OviSampler", "Refine", **given, latent=joint, **run).latent
    save_decoded(s, decode(s, load, refined))


HALF = "max(32, round(a / 64) * 32)"
"""Pixels, on the grid of 32."""


@listed(TEMPLATES, "13 Prompt enhancer")
def _enhancer(s: Sheet) -> None:
    load = begin(
        s,
        "A language model writes the prompt from a few words, in the form that Ovi reads; the clip is generated from "
        "it.",
        "**prompt**: a few words.",
        "**instructions**, inside: how the prompt is written. What it wrote is shown there too.",
        ASPECT,
        MODEL,
    )
    writer = s.add("CLIPLoader", "Language model", clip_name=WRITER["name"], type="stable_diffusion")
    writer.entry["properties"]["models"] = [WRITER]
    s.group("Written by a language model", "given")
    short = s.ask("prompt", "STRING", "A fisherman on a pier talks about the sea.", text=True)
    asked = s.add("StringConcatenate", "Instructions", string_a=INSTRUCTIONS, string_b=short, delimiter="\n\n").string
    written = s.add("TextGenerate", clip=writer.clip, prompt=asked, max_length=400).generated_text
    s.add("PreviewAny", "What it wrote", source=written)
    prompts = words(s, load, written)
    s.group("Size and length", "size")
    save_decoded(s, make(s, load, prompts, empty(s)))


WRITER = {
    "name": "qwen3.5_4b_bf16.safetensors",
    "url": "https://huggingface.co/Comfy-Org/Qwen3.5/resolve/main/text_encoders/qwen3.5_4b_bf16.safetensors",
    "directory": "text_encoders",
}
INSTRUCTIONS = (
    "Write one paragraph that describes a video of ten seconds for a video generator. Describe who is seen, the place, "
    "the light and what happens, in plain present tense. Put each sentence that is spoken between <S> and <E>, at most "
    "twelve words in all. End with 'Audio:' and a short description of voices and sounds. Write nothing else. The idea:"
)


@listed(TEMPLATES, "14 LoRA")
def _lora(s: Sheet) -> None:
    load = begin(
        s,
        "A clip with a LoRA, its strength set apart for video and sound.",
        f"**lora_name**: your LoRA, from *models/loras*; *{LORA}* stands for it. It has to fit the variant.",
        "**video_strength**, **audio_strength**: how much of it each tower takes.",
        SENTENCE,
        ASPECT,
        MODEL,
    )
    asked = {"lora_name": s.ask("lora_name", "COMBO", LORA)}
    asked |= {name: s.ask(name, "FLOAT", 1.0) for name in ("video_strength", "audio_strength")}
    model = s.add("OviLoraLoader", model=load.model, **asked).model
    prompts = words(s, load, TALK, BALL)
    s.group("Size and length", "size")
    save_decoded(s, make(s, load, prompts, empty(s), model))


@listed(TEMPLATES, "15 Low memory")
def _low_memory(s: Sheet) -> None:
    load = begin(
        s,
        "For a card with little memory: fp8 weights, and fewer tokens computed at once.",
        SENTENCE,
        "**chunk_tokens**: halve it if memory still runs out. Inside, *tiled* in *Ovi AV Decode* can be set to on.",
        ASPECT,
        MODEL,
        precision="fp8",
    )
    model = s.add("OviLowMemory", model=load.model, chunk_tokens=s.ask("chunk_tokens", "INT", 8192)).model
    prompts = words(s, load, TALK, BALL)
    s.group("Size and length", "size")
    save_decoded(s, make(s, load, prompts, empty(s), model))


@listed(TEMPLATES, "16 Few steps")
def _few_steps(s: Sheet) -> None:
    load = begin(
        s,
        "Four steps without guidance, for weights or a LoRA that were trained for few steps; others give blurred "
        "clips.",
        SENTENCE,
        "**sigmas**: noise levels, one number more than there are steps.",
        ASPECT,
        MODEL,
    )
    prompts = words(s, load, TALK, BALL)
    s.group("Size, length, steps", "size")
    latent = empty(s)
    noise = s.add("RandomNoise", noise_seed=s.ask("seed", "INT", 42)).noise
    sigmas = s.add("ManualSigmas", sigmas=s.ask("sigmas", "STRING", "1.0, 0.94, 0.83, 0.63, 0.0")).sigmas
    solver = s.add("OviSamplerSelect", solver="euler").sampler
    s.group("Sampling", "sampling")
    strength = {"video_cfg": 1.0, "audio_cfg": 1.0, "skip_layers": "0"}
    guider = s.add("OviGuider", model=load.model, positive=prompts[0], negative=prompts[1], **strength).guider
    given = {"noise": noise, "guider": guider, "sampler": solver, "sigmas": sigmas, "latent_image": latent}
    save_decoded(s, decode(s, load, s.add("SamplerCustomAdvanced", **given).output))


@listed(TEMPLATES, "17 Longer than trained")
def _windows(s: Sheet) -> None:
    load = begin(
        s,
        "A clip longer than the weights were trained for, generated in crossfaded windows, in the memory of one.",
        SENTENCE,
        "**seconds**: the length.",
        ASPECT,
        MODEL,
    )
    model = s.add("OviContextWindows", model=load.model, variant=variant(s)).model
    prompts = words(s, load, STREET, BALL)
    s.group("Size and length", "size")
    seconds = s.ask("seconds", "FLOAT", 12.0 if s.variant == SMALL else 20.0)
    save_decoded(s, make(s, load, prompts, empty(s, seconds=seconds), model))


def clip_into(s: Sheet, heading: str, file: str = EXAMPLE.silent) -> Node:
    """Frames, sound and rate of a clip from outside, in a group of their own."""
    s.group(heading, "given")
    return clip_of(s, file)


def mode(s: Sheet) -> str:
    """How a locked tower is seen: the small model learned to see it clean."""
    return "clean" if s.variant == SMALL else "follow the noise"
