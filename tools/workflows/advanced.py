"""Templates for what goes beyond one clip at a time in the usual way."""

from __future__ import annotations

from .parts import (
    ASPECT,
    BALL,
    LORA,
    MODEL,
    SENTENCE,
    SMALL,
    STREET,
    TALK,
    Draw,
    begin,
    decode,
    empty,
    listed,
    make,
    prefix,
    resolution,
    save_decoded,
    seed,
    strengths,
    variant,
    words,
)
from .sheet import Sheet

ADVANCED: dict[str, Draw] = {}


@listed(ADVANCED, "11 Several seeds")
def _several(s: Sheet) -> None:
    load = begin(
        s,
        "Several clips of one prompt, each with its own noise and its own file.",
        SENTENCE,
        "**clips**: how many at once; each takes memory.",
        ASPECT,
        MODEL,
    )
    prompts = words(s, load, TALK, BALL)
    s.group("Size, length, how many", "size")
    latent = empty(s, batch_size=s.ask("clips", "INT", 2))
    s.result("video", make(s, load, prompts, latent).video)
    s.save("OviSaveVideo", "video", filename_prefix=prefix(s))


@listed(ADVANCED, "12 Draft, then large")
def _draft(s: Sheet) -> None:
    load = begin(
        s,
        "A draft of half the size, then the same clip in full size: the draft's video latent is enlarged, its audio "
        "latent is kept, and both are refined together: 15 steps in full size instead of 50. Untested with the "
        "published weights.",
        SENTENCE,
        "**refine**: how much changes in the second run; less stays closer to the draft.",
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
    run = {"seed": seed(s), **strengths(s)}
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


@listed(ADVANCED, "13 Prompt enhancer")
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


@listed(ADVANCED, "14 LoRA")
def _lora(s: Sheet) -> None:
    load = begin(
        s,
        "A clip with a LoRA; its strength is set for video and sound separately.",
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


@listed(ADVANCED, "15 Low memory")
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


@listed(ADVANCED, "16 Few steps")
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
    noise = s.add("RandomNoise", noise_seed=seed(s)).noise
    sigmas = s.add("ManualSigmas", sigmas=s.ask("sigmas", "STRING", "1.0, 0.94, 0.83, 0.63, 0.0")).sigmas
    solver = s.add("OviSamplerSelect", solver="euler").sampler
    s.group("Sampling", "sampling")
    strength = {"video_cfg": 1.0, "audio_cfg": 1.0, "skip_layers": "0"}
    guider = s.add("OviGuider", model=load.model, positive=prompts[0], negative=prompts[1], **strength).guider
    given = {"noise": noise, "guider": guider, "sampler": solver, "sigmas": sigmas, "latent_image": latent}
    save_decoded(s, decode(s, load, s.add("SamplerCustomAdvanced", **given).output))


@listed(ADVANCED, "17 Longer than trained")
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
