"""The workflows, each in a few lines: what they are called, what their note says, which nodes they have."""

from __future__ import annotations

from .drawing import Drawing
from .parts import (
    BALL,
    FACE,
    LAMP,
    LORA,
    PICTURES_ALONE,
    SMALL,
    SOUND_ALONE,
    Draw,
    begin,
    clip_of,
    decode,
    empty,
    listed,
    make,
    save,
    words,
)

TEMPLATES: dict[str, Draw] = {}


@listed(TEMPLATES, "Ovi text to video")
def _text(d: Drawing) -> None:
    load = begin(
        d,
        "**Write your own sentence** in *What happens* (speech between `<S>` and `<E>`, the sound after `Audio:`). The "
        "small variant knows only balls, lamps, bars and faces in six colours.",
    )
    prompts = words(d, load, BALL)
    d.group("Size, length")
    save(d, make(d, load, prompts, empty(d)).video)


@listed(TEMPLATES, "Ovi picture to video")
def _picture(d: Drawing) -> None:
    load = begin(
        d,
        "**Choose your picture** in *Load Image* and write in *What happens* what its subject does; it should be able "
        "to.",
        files="picture is `ovi_example_first.jpg`",
    )
    prompts = words(d, load, BALL)
    d.group("Size, length and first frame")
    first = d.add("LoadImage", "First picture", image="ovi_example_first.jpg").image
    latent = d.add("OviImageToVideo", vae=load.vae, latent=empty(d), start_image=first).latent
    save(d, make(d, load, prompts, latent, seed=7).video)


@listed(TEMPLATES, "Ovi first and last picture")
def _first_and_last(d: Drawing) -> None:
    load = begin(
        d,
        "**Choose both pictures** and write in *What happens* how the one becomes the other.",
        files="pictures are `ovi_example_first.jpg` and `ovi_example_last.jpg`",
    )
    prompts = words(d, load, BALL)
    d.group("Size, length, first and last frame")
    latent = empty(d)
    first = d.add("LoadImage", "First picture", image="ovi_example_first.jpg").image
    last = d.add("LoadImage", "Last picture", image="ovi_example_last.jpg").image
    latent = d.add("OviImageToVideo", vae=load.vae, latent=latent, start_image=first, end_image=last).latent
    save(d, make(d, load, prompts, latent).video)


@listed(TEMPLATES, "Ovi sound for a silent clip")
def _sound_for_a_clip(d: Drawing) -> None:
    load = begin(
        d,
        "**Choose your clip** in *Load Video* and say in *What happens* what it shows and, after `Audio:`, what is "
        "to be heard. The pictures stay as they are. *mode* is clean, as the small variant learned it; with the full "
        "weights begin with *follow the noise*.",
        files="clip is `ovi_example_silent.mp4`",
    )
    prompts = words(d, load, BALL)
    d.group("The silent clip")
    clip = clip_of(d, "ovi_example_silent.mp4")
    given = {"images": clip.images, "frame_rate": clip.fps, "mode": "clean", "length": "the whole clip"}
    latent = d.add("OviLockVideo", vae=load.vae, latent=empty(d), **given).latent
    save(d, make(d, load, prompts, latent, heading=SOUND_ALONE).video)


@listed(TEMPLATES, "Ovi pictures for a voice")
def _pictures_for_a_voice(d: Drawing) -> None:
    load = begin(
        d,
        "**Choose your recording** in *Load Audio* and write in *What happens* who speaks, with the words that are "
        "heard between `<S>` and `<E>`. The sound stays as it is. *mode* is clean, for the small variant hears a noisy "
        "sound too late; with the full weights begin with *follow the noise*.",
        files="voice is `ovi_example_voice.flac`",
    )
    prompts = words(d, load, FACE)
    d.group("The voice")
    voice = d.add("LoadAudio", audio="ovi_example_voice.flac").audio
    latent = d.add("OviLockAudio", audio_vae=load.audio_vae, latent=empty(d), audio=voice, mode="clean").latent
    save(d, make(d, load, prompts, latent, heading=PICTURES_ALONE).video)


@listed(TEMPLATES, "Ovi go on from a clip")
def _go_on(d: Drawing) -> None:
    load = begin(
        d,
        "**Choose your clip** in *Load Video* and write what happens next. *Ovi Extend* and *Ovi Join Clips* have the "
        "same overlap.",
        size="10 s in *Ovi Extend*, ",
        files="clip is `ovi_example_clip.mp4`",
    )
    prompts = words(d, load, FACE)
    d.group("The clip before")
    clip = clip_of(d, "ovi_example_clip.mp4")
    given = {"images": clip.images, "audio": clip.audio, "overlap_seconds": 0.5}
    latent = d.add("OviExtend", vae=load.vae, audio_vae=load.audio_vae, seconds=2.0, **given).latent
    new = make(d, load, prompts, latent)
    d.group("Both as one")
    before = {"images_a": clip.images, "audio_a": clip.audio, "overlap_seconds": 0.5}
    film = d.add("OviJoin", images_b=new.images, audio_b=new.audio, **before)
    save(d, d.add("CreateVideo", images=film.images, audio=film.audio, fps=24.0).video)


@listed(TEMPLATES, "Ovi storyboard")
def _storyboard(d: Drawing) -> None:
    load = begin(
        d,
        "**Write your own shots** in *script*: a line `shot 2 s` begins one, `go on` begins it with the end of the "
        "shot before. A finished shot is kept and not made again.",
        size="960×960, shots of 10 s, ",
    )
    d.group("Script")
    script = (
        "shot 2 s\nscene: A large purple rubber ball bounces on the floor.\n"
        "sound: Dull rubber thuds, one for each bounce.\n\n"
        "shot 2 s, go on\nscene: A large purple rubber ball bounces on the floor.\n"
        "sound: Dull rubber thuds, one for each bounce.\n\n"
        "shot 2 s\nscene: A yellow face says\nspeech: bee bee\nsound: A clear voice."
    )
    models = {"model": load.model, "clip": load.clip, "vae": load.vae, "audio_vae": load.audio_vae}
    size = {"variant": "mini", "width": 96, "height": 96, "overlap_seconds": 0.5}
    save(d, d.add("OviStoryboard", **models, script=script, **size, seed=42, **SMALL).video)


@listed(TEMPLATES, "Ovi several seeds at once")
def _several(d: Drawing) -> None:
    load = begin(
        d,
        "**Write your own sentence** in *What happens*. *batch_size* in *Empty Ovi Latent* says how many clips are "
        "made of it, each from noise of its own; they are saved one after the other in one file.",
    )
    prompts = words(d, load, BALL)
    d.group("Size, length, how many")
    save(d, make(d, load, prompts, empty(d, batch_size=2)).video)


@listed(TEMPLATES, "Ovi LoRA")
def _lora(d: Drawing) -> None:
    load = begin(
        d,
        f"**Choose your LoRA** in *Load Ovi LoRA* (`{LORA}` stands for it; it lies in `models/loras`, and has to "
        "fit the variant), then its strength for the picture and for the sound.",
    )
    model = d.add("OviLoraLoader", model=load.model, lora_name=LORA).model
    prompts = words(d, load, BALL)
    d.group("Size, length")
    save(d, make(d, load, prompts, empty(d), model).video)


@listed(TEMPLATES, "Ovi low memory")
def _low_memory(d: Drawing) -> None:
    load = begin(
        d,
        "**Write your own sentence** in *What happens*. If it still does not fit, halve *chunk_tokens*. `fp8` in *Load "
        "Ovi* halves the weights, *tiled* in *Ovi AV Decode* may be set to on.",
        precision="fp8",
    )
    model = d.add("OviLowMemory", model=load.model).model
    prompts = words(d, load, BALL)
    d.group("Size, length")
    save(d, make(d, load, prompts, empty(d), model).video)


@listed(TEMPLATES, "Ovi few steps")
def _few_steps(d: Drawing) -> None:
    load = begin(
        d,
        "**Write your own sentence** in *What happens*. *ManualSigmas* has one number more than there are steps. With "
        "guidance 1 the negative text is not used, and a step takes half the time.\n\nThis is for weights or a LoRA "
        "trained for few steps; others get blurred.",
        skip="",
        size="960×960, 10 s; for a better clip ",
    )
    prompts = words(d, load, BALL)
    d.group("Size, length, steps")
    latent = empty(d)
    noise = d.add("RandomNoise", noise_seed=42).noise
    sigmas = d.add("ManualSigmas", sigmas="1.0, 0.94, 0.83, 0.63, 0.0").sigmas
    solver = d.add("OviSamplerSelect", solver="euler").sampler
    d.group("Make picture and sound together")
    strength = {"video_cfg": 1.0, "audio_cfg": 1.0, "skip_layers": "0"}
    guider = d.add("OviGuider", model=load.model, positive=prompts[0], negative=prompts[1], **strength).guider
    given = {"noise": noise, "guider": guider, "sampler": solver, "sigmas": sigmas, "latent_image": latent}
    save(d, decode(d, load, d.add("SamplerCustomAdvanced", **given).output).video)


@listed(TEMPLATES, "Ovi own voice")
def _own_voice(d: Drawing) -> None:
    load = begin(
        d,
        "**Choose a recording** of the voice in *Load Audio*, 2 to 3 s. *What happens* has first the words of the "
        "recording, then the new ones, each between `<S>` and `<E>`. The recording is not in the finished clip.",
        files="voice is `ovi_example_voice.flac`",
    )
    prompts = words(d, load, "A yellow face says <S>bee bee<E> <S>bee bee<E>. Audio: A clear voice.")
    d.group("Size, length and the voice")
    voice = d.add("LoadAudio", audio="ovi_example_voice.flac").audio
    latent = d.add("OviVoice", audio_vae=load.audio_vae, latent=empty(d), voice=voice).latent
    save(d, make(d, load, prompts, latent).video)


@listed(TEMPLATES, "Ovi loop")
def _loop(d: Drawing) -> None:
    load = begin(
        d,
        "**Write your own sentence** in *What happens*, of something that goes on: a fire, rain, a lamp. *loop* is on "
        "in *Ovi AV Decode*, and *Ovi Loop* is on the model.",
    )
    model = d.add("OviLoop", model=load.model).model
    prompts = words(d, load, LAMP)
    d.group("Size, length")
    save(d, make(d, load, prompts, empty(d), model, loop=True).video)


@listed(TEMPLATES, "Ovi redo a word")
def _redo(d: Drawing) -> None:
    load = begin(
        d,
        "**Choose your clip** in *Load Video*, write the seconds to be made anew in *Ovi Keep Span* and the right word "
        "in *What happens*. All else stays as it is. Another seed gives another take.",
        files="clip is `ovi_example_clip.mp4`",
    )
    prompts = words(d, load, FACE)
    d.group("The clip, and what to redo in it")
    clip = clip_of(d, "ovi_example_clip.mp4")
    given = {"images": clip.images, "audio": clip.audio, "frame_rate": clip.fps}
    latent = d.add("OviEncodeClip", vae=load.vae, audio_vae=load.audio_vae, latent=empty(d), **given).latent
    latent = d.add("OviKeepSpan", latent=latent, video_spans="0.7-1.1", audio_spans="0.7-1.1").latent
    save(d, make(d, load, prompts, latent).video)


@listed(TEMPLATES, "Ovi long clip in windows")
def _windows(d: Drawing) -> None:
    load = begin(
        d,
        "**Write your own sentence** in *What happens* and the length in *Empty Ovi Latent*: longer than the weights "
        "were trained for. *Ovi Context Windows* lets the model see it piece by piece, in the memory of one.",
        size="960×960, 20 s, ",
    )
    model = d.add("OviContextWindows", model=load.model, variant="mini").model
    prompts = words(d, load, BALL)
    d.group("Size, length")
    save(d, make(d, load, prompts, empty(d, seconds=12.0), model).video)
