"""Templates that go on from another open system's clip or picture, or hand Ovi's clip to one, with its stock nodes."""

from __future__ import annotations

from typing import Any

from .drawing import GREEN, RED, Node, Output
from .parts import (
    BALL,
    EXAMPLE,
    MODEL,
    Draw,
    begin,
    clip_of,
    empty,
    listed,
    make,
    prefix,
    save,
    save_decoded,
    seed,
    words,
)
from .sheet import Sheet

CHAINS: dict[str, Draw] = {}
HUB = "https://huggingface.co"
WAN_21 = f"{HUB}/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files"
WAN_22 = f"{HUB}/Comfy-Org/Wan_2.2_ComfyUI_Repackaged/resolve/main/split_files"
HUNYUAN = f"{HUB}/Comfy-Org/HunyuanVideo_repackaged/resolve/main/split_files"
MOCHI = f"{HUB}/Comfy-Org/mochi_preview_repackaged/resolve/main/split_files"
FLUX_TEXT = f"{HUB}/comfyanonymous/flux_text_encoders/resolve/main"
LTX = f"{HUB}/Lightricks/LTX-Video/resolve/main"
# Every file that a chain names: its folder, and where it is to be had. Nobody publishes CogVideoX as ComfyUI names it.
FILES: dict[str, tuple[str, str]] = {
    "v1-5-pruned-emaonly-fp16.safetensors": (
        "checkpoints",
        f"{HUB}/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/v1-5-pruned-emaonly-fp16.safetensors",
    ),
    "sd_xl_base_1.0.safetensors": (
        "checkpoints",
        f"{HUB}/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/sd_xl_base_1.0.safetensors",
    ),
    "ltxv-2b-0.9.8-distilled.safetensors": ("checkpoints", f"{LTX}/ltxv-2b-0.9.8-distilled.safetensors"),
    "ltxv-spatial-upscaler-0.9.8.safetensors": (
        "latent_upscale_models",
        f"{LTX}/ltxv-spatial-upscaler-0.9.8.safetensors",
    ),
    "t5xxl_fp16.safetensors": ("text_encoders", f"{FLUX_TEXT}/t5xxl_fp16.safetensors"),
    "clip_l.safetensors": ("text_encoders", f"{FLUX_TEXT}/clip_l.safetensors"),
    "hunyuan_video_t2v_720p_bf16.safetensors": (
        "diffusion_models",
        f"{HUNYUAN}/diffusion_models/hunyuan_video_t2v_720p_bf16.safetensors",
    ),
    "llava_llama3_fp8_scaled.safetensors": (
        "text_encoders",
        f"{HUNYUAN}/text_encoders/llava_llama3_fp8_scaled.safetensors",
    ),
    "hunyuan_video_vae_bf16.safetensors": ("vae", f"{HUNYUAN}/vae/hunyuan_video_vae_bf16.safetensors"),
    "mochi_preview_bf16.safetensors": (
        "diffusion_models",
        f"{MOCHI}/diffusion_models/mochi_preview_bf16.safetensors",
    ),
    "mochi_vae.safetensors": ("vae", f"{MOCHI}/vae/mochi_vae.safetensors"),
    "wan2.1_t2v_1.3B_fp16.safetensors": (
        "diffusion_models",
        f"{WAN_21}/diffusion_models/wan2.1_t2v_1.3B_fp16.safetensors",
    ),
    "umt5_xxl_fp8_e4m3fn_scaled.safetensors": (
        "text_encoders",
        f"{WAN_21}/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors",
    ),
    "wan_2.1_vae.safetensors": ("vae", f"{WAN_21}/vae/wan_2.1_vae.safetensors"),
    "wan2.2_ti2v_5B_fp16.safetensors": (
        "diffusion_models",
        f"{WAN_22}/diffusion_models/wan2.2_ti2v_5B_fp16.safetensors",
    ),
    "wan2.2_vae.safetensors": ("vae", f"{WAN_22}/vae/wan2.2_vae.safetensors"),
    "cogvideox_5b.safetensors": ("diffusion_models", ""),
    "cogvideox_vae.safetensors": ("vae", f"{HUB}/Comfy-Org/void-model/resolve/main/vae/cogvideox_vae.safetensors"),
    "film_net_fp16.safetensors": (
        "frame_interpolation",
        f"{HUB}/Comfy-Org/frame_interpolation/resolve/main/frame_interpolation/film_net_fp16.safetensors",
    ),
    "RealESRGAN_x4plus.safetensors": (
        "upscale_models",
        f"{HUB}/Comfy-Org/Real-ESRGAN_repackaged/resolve/main/RealESRGAN_x4plus.safetensors",
    ),
}
HASHES = {
    name: {"hash": digits, "hash_type": "SHA256"}
    for name, digits in (
        ("wan2.2_vae.safetensors", "e40321bd36b9709991dae2530eb4ac303dd168276980d3e9bc4b6e2b75fed156"),
        ("umt5_xxl_fp8_e4m3fn_scaled.safetensors", "c3355d30191f1f066b26d93fba017ae9809dce6c627dda5f6a66eaa651204f68"),
    )
}
SEEN = "A small red wooden ball bounces on the floor."
UNSEEN = "worst quality, blurry, jittery, distorted"
PROMPT = "**prompt**: what the clip shows, and what is heard after *Audio:*."


def _load(s: Sheet, kind: str, **given: Any) -> Node:
    """A stock loader, which offers its files for download where the page finds them missing."""
    node = s.add(kind, **given)
    named = [(value, *FILES[value]) for value in given.values() if value in FILES]
    models = [
        {"name": name, "url": url, "directory": folder, **HASHES.get(name, {})} for name, folder, url in named if url
    ]
    node.entry["properties"] |= {"models": models} if models else {}
    return node


def _shown(s: Sheet, name: str, clip: Output) -> Output:
    """What the other system is prompted to show."""
    s.group(f"Words for {name}", "words")
    said = s.ask("scene", "STRING", SEEN, text=True)
    return s.add("CLIPTextEncode", f"What {name} shows", GREEN, clip=clip, text=said).conditioning


def _asked(s: Sheet, name: str, clip: Output) -> tuple[Output, Output]:
    """What the other system is prompted with: positive and negative conditioning."""
    shown = _shown(s, name, clip)
    return shown, s.add("CLIPTextEncode", f"What {name} leaves out", RED, clip=clip, text=UNSEEN).conditioning


def _sampled(
    s: Sheet,
    model: Output,
    asked: tuple[Output, Output],
    latent: Output,
    steps: int,
    cfg: float,
    sampler: str = "euler",
    scheduler: str = "simple",
) -> Output:
    given = {"model": model, "positive": asked[0], "negative": asked[1], "latent_image": latent, "seed": seed(s)}
    run = {"steps": steps, "cfg": cfg, "sampler_name": sampler, "scheduler": scheduler, "denoise": 1.0}
    return s.add("KSampler", **given, **run).latent


def _sounded(s: Sheet, load: Node, images: Output, rate: float | Output) -> None:
    """Sound for a clip of that rate: it is locked, sampled, decoded and saved."""
    prompts = words(s, load, BALL)
    s.group("The clip stays, its sound is free", "size")
    given = {"images": images, "frame_rate": rate, "length": "the whole clip"}
    latent = s.add("OviLockVideo", vae=load.vae, latent=empty(s, images), **given).latent
    save_decoded(s, make(s, load, prompts, latent))


def _still_to_clip(s: Sheet, name: str, file: str, side: int) -> None:
    load = begin(
        s,
        f"{name} makes an image, Ovi a clip with sound that begins with it.",
        f"**scene**: what {name} draws.",
        "**prompt**: what happens next, and what is heard after *Audio:*.",
        MODEL,
    )
    still = _load(s, "CheckpointLoaderSimple", ckpt_name=file)
    asked = _asked(s, name, still.clip)
    s.group(f"Image of {name}", "given")
    latent = s.add("EmptyLatentImage", width=side, height=side, batch_size=1).latent
    drawn = _sampled(s, still.model, asked, latent, steps=25, cfg=7.0, scheduler="normal")
    image = s.add("VAEDecode", samples=drawn, vae=still.vae).image
    prompts = words(s, load, BALL)
    s.group("Size, length, first frame", "size")
    latent = s.add("OviImageToVideo", vae=load.vae, latent=empty(s, image), start_image=image).latent
    save_decoded(s, make(s, load, prompts, latent))


@listed(CHAINS, "21 SD 1.5 image to clip")
def _sd15(s: Sheet) -> None:
    _still_to_clip(s, "SD 1.5", "v1-5-pruned-emaonly-fp16.safetensors", 512)


@listed(CHAINS, "22 SDXL image to clip")
def _sdxl(s: Sheet) -> None:
    _still_to_clip(s, "SDXL", "sd_xl_base_1.0.safetensors", 1024)


@listed(CHAINS, "23 AnimateDiff to sound")
def _animatediff(s: Sheet) -> None:
    load = begin(
        s,
        "Sound for a clip from AnimateDiff, at the 8 frames per second it was trained on.",
        "**Load Video**: the clip; or connect the images of AnimateDiff's *VAE Decode* to *Ovi Lock Video*, inside.",
        PROMPT,
        MODEL,
    )
    s.group("AnimateDiff's clip", "given")
    _sounded(s, load, clip_of(s, "ovi_example_8fps.mp4").images, 8.0)


@listed(CHAINS, "28 Open-Sora to sound")
def _open_sora(s: Sheet) -> None:
    load = begin(
        s,
        "Sound for a file from Open-Sora or any other source, at its own frame rate.",
        "**Load Video**: the file.",
        PROMPT,
        MODEL,
    )
    s.group("The file", "given")
    clip = clip_of(s, EXAMPLE.silent)
    _sounded(s, load, clip.images, clip.fps)


def _begin_other(s: Sheet, name: str, more: str = "") -> Node:
    return begin(
        s,
        f"{name} makes a silent clip, Ovi its sound. The frames stay as {name} made them.{more}",
        f"**scene**: what {name} shows.",
        "**prompt**: the same, and what is heard after *Audio:*.",
        MODEL,
    )


@listed(CHAINS, "26 LTX-Video to sound")
def _ltx(s: Sheet) -> None:
    load = _begin_other(s, "LTX-Video")
    ltx = _load(s, "CheckpointLoaderSimple", ckpt_name="ltxv-2b-0.9.8-distilled.safetensors")
    text = _load(s, "CLIPLoader", clip_name="t5xxl_fp16.safetensors", type="ltxv")
    asked = _asked(s, "LTX-Video", text.clip)
    paced = s.add("LTXVConditioning", positive=asked[0], negative=asked[1], frame_rate=25.0)
    s.group("LTX-Video's clip", "given")
    latent = s.add("EmptyLTXVLatentVideo", width=768, height=512, length=97, batch_size=1).latent
    sampler = s.add("KSamplerSelect", sampler_name="euler").sampler
    sigmas = s.add("LTXVScheduler", steps=8, latent=latent).sigmas
    given = {"model": ltx.model, "positive": paced.positive, "negative": paced.negative, "latent_image": latent}
    run = s.add("SamplerCustom", **given, sampler=sampler, sigmas=sigmas, noise_seed=seed(s), cfg=1.0)
    _sounded(s, load, s.add("VAEDecode", samples=run.output, vae=ltx.vae).image, 25.0)


@listed(CHAINS, "25 HunyuanVideo to sound")
def _hunyuan(s: Sheet) -> None:
    load = _begin_other(s, "HunyuanVideo")
    model = _load(s, "UNETLoader", unet_name="hunyuan_video_t2v_720p_bf16.safetensors").model
    files = {"clip_name1": "clip_l.safetensors", "clip_name2": "llava_llama3_fp8_scaled.safetensors"}
    text = _load(s, "DualCLIPLoader", **files, type="hunyuan_video")
    vae = _load(s, "VAELoader", vae_name="hunyuan_video_vae_bf16.safetensors").vae
    shown = _shown(s, "HunyuanVideo", text.clip)
    shown = s.add("FluxGuidance", conditioning=shown, guidance=6.0).conditioning
    latent = s.add("EmptyHunyuanLatentVideo", width=848, height=480, length=73, batch_size=1).latent
    s.group("HunyuanVideo's clip", "given")
    model = s.add("ModelSamplingSD3", model=model, shift=7.0).model
    given = {"noise": s.add("RandomNoise", noise_seed=seed(s)).noise, "latent_image": latent}
    given["guider"] = s.add("BasicGuider", model=model, conditioning=shown).guider
    given["sampler"] = s.add("KSamplerSelect", sampler_name="euler").sampler
    given["sigmas"] = s.add("BasicScheduler", model=model, scheduler="simple", steps=20, denoise=1.0).sigmas
    run = s.add("SamplerCustomAdvanced", **given)
    film = s.add("VAEDecodeTiled", samples=run.output, vae=vae, tile_size=256).image
    _sounded(s, load, film, 24.0)


def _split_files(s: Sheet, name: str, kind: str, files: tuple[str, str, str], more: str = "") -> tuple[Node, ...]:
    """The loaders of a system that is published in three files: Ovi's, and model, text encoder and VAE."""
    load = _begin_other(s, name, more)
    return (
        load,
        _load(s, "UNETLoader", unet_name=files[0]),
        _load(s, "CLIPLoader", clip_name=files[1], type=kind),
        _load(s, "VAELoader", vae_name=files[2]),
    )


@listed(CHAINS, "27 Mochi to sound")
def _mochi(s: Sheet) -> None:
    files = ("mochi_preview_bf16.safetensors", "t5xxl_fp16.safetensors", "mochi_vae.safetensors")
    load, model, text, vae = _split_files(s, "Mochi", "mochi", files)
    asked = _asked(s, "Mochi", text.clip)
    s.group("Mochi's clip", "given")
    latent = s.add("EmptyMochiLatentVideo", width=848, height=480, length=163, batch_size=1).latent
    film = _sampled(s, model.model, asked, latent, steps=30, cfg=4.5)
    _sounded(s, load, s.add("VAEDecode", samples=film, vae=vae.vae).image, 30.0)


@listed(CHAINS, "29 Wan 2.1 to sound")
def _wan21(s: Sheet) -> None:
    files = ("wan2.1_t2v_1.3B_fp16.safetensors", "umt5_xxl_fp8_e4m3fn_scaled.safetensors", "wan_2.1_vae.safetensors")
    load, model, text, vae = _split_files(s, "Wan 2.1", "wan", files)
    asked = _asked(s, "Wan 2.1", text.clip)
    s.group("Wan's clip", "given")
    latent = s.add("EmptyHunyuanLatentVideo", width=832, height=480, length=81, batch_size=1).latent
    shifted = s.add("ModelSamplingSD3", model=model.model, shift=8.0).model
    film = _sampled(s, shifted, asked, latent, steps=30, cfg=6.0, sampler="uni_pc")
    _sounded(s, load, s.add("VAEDecode", samples=film, vae=vae.vae).image, 16.0)


@listed(CHAINS, "30 Wan 2.2 to sound")
def _wan22(s: Sheet) -> None:
    files = ("wan2.2_ti2v_5B_fp16.safetensors", "umt5_xxl_fp8_e4m3fn_scaled.safetensors", "wan2.2_vae.safetensors")
    more = " Ovi uses the same text encoder and VAE: connect those of *Load Ovi*, and two loaders can go."
    load, model, text, vae = _split_files(s, "Wan 2.2", "wan", files, more)
    asked = _asked(s, "Wan 2.2", text.clip)
    s.group("Wan's clip", "given")
    size = {"width": 1280, "height": 704, "length": 121, "batch_size": 1}
    latent = s.add("Wan22ImageToVideoLatent", vae=vae.vae, **size).latent
    shifted = s.add("ModelSamplingSD3", model=model.model, shift=8.0).model
    film = _sampled(s, shifted, asked, latent, steps=20, cfg=5.0, sampler="uni_pc")
    _sounded(s, load, s.add("VAEDecode", samples=film, vae=vae.vae).image, 24.0)


@listed(CHAINS, "24 CogVideoX to sound")
def _cogvideox(s: Sheet) -> None:
    files = ("cogvideox_5b.safetensors", "t5xxl_fp16.safetensors", "cogvideox_vae.safetensors")
    more = (
        " *cogvideox_5b.safetensors* stands for a CogVideoX model with the names that ComfyUI reads. A clip that "
        "another pack made goes from its *VAE Decode* to *Ovi Lock Video*, with *frame_rate* 8 (1.5: 16)."
    )
    load, model, text, vae = _split_files(s, "CogVideoX", "cogvideox", files, more)
    asked = _asked(s, "CogVideoX", text.clip)
    s.group("CogVideoX's clip", "given")
    # Of the same 16 channels, 4 frames and 8 pixels a step; ComfyUI has no node of CogVideoX's own for it.
    latent = s.add("EmptyHunyuanLatentVideo", width=720, height=480, length=49, batch_size=1).latent
    film = _sampled(s, model.model, asked, latent, steps=50, cfg=6.0)
    _sounded(s, load, s.add("VAEDecode", samples=film, vae=vae.vae).image, 8.0)


def _of_ovi(s: Sheet, about: str, *change: str) -> Node:
    """The decoder of a clip that Ovi makes from text."""
    load = begin(s, about, "**prompt**: your own text.", *change, MODEL)
    prompts = words(s, load, BALL)
    s.group("Size and length", "size")
    return make(s, load, prompts, empty(s))


def _save(s: Sheet, images: Output, audio: Output, fps: float, mark: str = "whole clip") -> None:
    """Save what a stock node changed, with the mark that it has lost on the way."""
    s.group("Image and sound together", "decoding")
    save(s, s.add("CreateVideo", images=images, audio=audio, fps=fps).video)
    s.save("OviSaveVideo", "video", filename_prefix=prefix(s), mark_as_ai=mark)


@listed(CHAINS, "31 Ovi to LTX upscale")
def _to_ltx(s: Sheet) -> None:
    clip = _of_ovi(
        s,
        "LTX-Video doubles the size of Ovi's clip and adds detail. Whole seconds have the 8n + 1 frames that it needs.",
        "**scene**: the same without the sound, for LTX-Video.",
        "**sigmas**: a lower first number changes less, and keeps the lips as they are.",
    )
    s.group("Weights of LTX-Video", "weights")
    ltx = _load(s, "CheckpointLoaderSimple", ckpt_name="ltxv-2b-0.9.8-distilled.safetensors")
    text = _load(s, "CLIPLoader", clip_name="t5xxl_fp16.safetensors", type="ltxv")
    doubler = _load(s, "LatentUpscaleModelLoader", model_name="ltxv-spatial-upscaler-0.9.8.safetensors")
    asked = _asked(s, "LTX-Video", text.clip)
    paced = s.add("LTXVConditioning", positive=asked[0], negative=asked[1], frame_rate=24.0)
    s.group("LTX-Video draws details", "sampling")
    latent = s.add("VAEEncode", pixels=clip.images, vae=ltx.vae).latent
    given = {"samples": latent, "upscale_model": doubler.latent_upscale_model, "vae": ltx.vae}
    latent = s.add("LTXVLatentUpsampler", **given).latent
    sampler = s.add("KSamplerSelect", sampler_name="euler").sampler
    sigmas = s.add("ManualSigmas", sigmas=s.ask("sigmas", "STRING", "0.725, 0.4219, 0.0")).sigmas
    given = {"model": ltx.model, "positive": paced.positive, "negative": paced.negative, "latent_image": latent}
    run = s.add("SamplerCustom", **given, sampler=sampler, sigmas=sigmas, noise_seed=seed(s), cfg=1.0)
    _save(s, s.add("VAEDecode", samples=run.output, vae=ltx.vae).image, clip.audio, 24.0)


@listed(CHAINS, "32 Ovi to upscaling")
def _to_upscaling(s: Sheet) -> None:
    clip = _of_ovi(
        s,
        "Real-ESRGAN makes each frame 4 times as wide and high, and *Scale Image By* brings it down to twice Ovi's "
        "size.",
    )
    s.group("Larger frames", "given")
    esrgan = _load(s, "UpscaleModelLoader", model_name="RealESRGAN_x4plus.safetensors").upscale_model
    large = s.add("ImageUpscaleWithModel", upscale_model=esrgan, image=clip.images).image
    large = s.add("ImageScaleBy", image=large, upscale_method="lanczos", scale_by=0.5).image
    _save(s, large, clip.audio, 24.0)


@listed(CHAINS, "33 Ovi to more frames a second")
def _to_more_frames(s: Sheet) -> None:
    clip = _of_ovi(
        s,
        "FILM adds a frame between each two of Ovi's. If you change *multiplier*, inside, set *fps* of *Create Video* "
        "to 24 times it, so that video and sound stay together.",
    )
    s.group("Frames between", "given")
    between = _load(s, "FrameInterpolationModelLoader", model_name="film_net_fp16.safetensors").interp_model
    more = s.add("FrameInterpolate", interp_model=between, images=clip.images, multiplier=2).image
    _save(s, more, clip.audio, 48.0)


@listed(CHAINS, "34 Ovi to music and voice mix")
def _to_mix(s: Sheet) -> None:
    clip = _of_ovi(
        s,
        "Music or a voice is added to Ovi's sound. The mix is as long as the clip.",
        "**Load Audio**: your music or voice.",
        "**pause**: seconds before it. **volume**: its loudness relative to Ovi's sound, in dB.",
    )
    s.group("The mix", "given")
    pause = s.add("EmptyAudio", duration=s.ask("pause", "FLOAT", 0.5), sample_rate=44100).audio
    added = s.given("music", "LoadAudio", "Music or voice", audio=EXAMPLE.voice)
    added = s.add("AudioConcat", audio1=pause, audio2=added, direction="after").audio
    added = s.add("AudioAdjustVolume", audio=added, volume=s.ask("volume", "INT", -6)).audio
    mix = s.add("AudioMerge", "Ovi's sound and the other", audio1=clip.audio, audio2=added, merge_method="add").audio
    _save(s, clip.images, mix, 24.0, mark="part of the clip")
