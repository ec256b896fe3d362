"""Workflows that go on from another open system's clip or picture, or hand Ovi's clip to one, with its stock nodes."""

from __future__ import annotations

from typing import Any

from .drawing import GREEN, RED, Drawing, Node, Output
from .parts import BALL, SOUND_ALONE, Draw, begin, clip_of, empty, listed, make, save, words

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
SEEN = "A small red wooden ball bounces on the floor."
UNSEEN = "worst quality, blurry, jittery, distorted"
ONE_SENTENCE = (
    "**Write your own sentence** in *What {name} shows*, and in *What happens* the same with what is to be heard after "
    "`Audio:`. The pictures stay as {name} made them, frame for frame."
)


def _load(d: Drawing, kind: str, **given: Any) -> Node:
    """A stock loader, which offers its files for download where the page finds them missing."""
    node = d.add(kind, **given)
    named = [(value, *FILES[value]) for value in given.values() if value in FILES]
    models = [{"name": name, "url": url, "directory": folder} for name, folder, url in named if url]
    node.entry["properties"] |= {"models": models} if models else {}
    return node


def _asked(d: Drawing, name: str, clip: Output) -> tuple[Output, Output]:
    """What the other system is prompts: positive and negative conditioning."""
    d.group(f"What {name} makes")
    shown = d.add("CLIPTextEncode", f"What {name} shows", GREEN, clip=clip, text=SEEN).conditioning
    return shown, d.add("CLIPTextEncode", f"What {name} leaves out", RED, clip=clip, text=UNSEEN).conditioning


def _sampled(
    d: Drawing,
    model: Output,
    asked: tuple[Output, Output],
    latent: Output,
    steps: int,
    cfg: float,
    sampler: str = "euler",
    scheduler: str = "simple",
) -> Output:
    given = {"model": model, "positive": asked[0], "negative": asked[1], "latent_image": latent, "seed": 42}
    run = {"steps": steps, "cfg": cfg, "sampler_name": sampler, "scheduler": scheduler, "denoise": 1.0}
    return d.add("KSampler", **given, **run).latent


def _sounded(d: Drawing, load: Node, images: Output, rate: float | Output, width: int = 224) -> None:
    """Sound for a clip of that rate: it is locked, sampled, decoded and saved. ``width``: of the latent, in pixels."""
    prompts = words(d, load, BALL)
    d.group("The clip is kept, its sound is free")
    latent = empty(d, width=width, height=96 if width == 96 else 128)
    given = {"images": images, "frame_rate": rate, "length": "the whole clip"}
    latent = d.add("OviLockVideo", vae=load.vae, latent=latent, **given).latent
    save(d, make(d, load, prompts, latent, heading=SOUND_ALONE).video)


def _still_to_clip(d: Drawing, name: str, file: str, side: int) -> None:
    load = begin(
        d,
        f"**Describe the picture** in *What {name} shows*, and in *What happens* how it goes on and how it sounds. The "
        "picture becomes the clip's first frame, cropped to its shape.",
    )
    still = _load(d, "CheckpointLoaderSimple", ckpt_name=file)
    asked = _asked(d, name, still.clip)
    latent = d.add("EmptyLatentImage", width=side, height=side, batch_size=1).latent
    drawn = _sampled(d, still.model, asked, latent, steps=25, cfg=7.0, scheduler="normal")
    picture = d.add("VAEDecode", samples=drawn, vae=still.vae).image
    prompts = words(d, load, BALL)
    d.group("Size, length, first frame")
    latent = d.add("OviImageToVideo", vae=load.vae, latent=empty(d), start_image=picture).latent
    save(d, make(d, load, prompts, latent).video)


@listed(CHAINS, "Ovi chain SD 1.5 picture to clip")
def _sd15(d: Drawing) -> None:
    _still_to_clip(d, "SD 1.5", "v1-5-pruned-emaonly-fp16.safetensors", 512)


@listed(CHAINS, "Ovi chain SDXL picture to clip")
def _sdxl(d: Drawing) -> None:
    _still_to_clip(d, "SDXL", "sd_xl_base_1.0.safetensors", 1024)


@listed(CHAINS, "Ovi chain AnimateDiff to sound")
def _animatediff(d: Drawing) -> None:
    load = begin(
        d,
        "**Choose the clip that AnimateDiff made** in *Load Video*, or take that away and connect the images of "
        "AnimateDiff's *VAE Decode* to *Ovi Lock Video*. An image batch does not say its rate: *frame_rate* is 8, as "
        "AnimateDiff was trained. Say in *What happens* what is to be heard.",
        files="clip is `ovi_example_8fps.mp4`",
    )
    d.group("AnimateDiff's clip")
    _sounded(d, load, clip_of(d, "ovi_example_8fps.mp4").images, 8.0, width=96)


@listed(CHAINS, "Ovi chain Open-Sora to sound")
def _open_sora(d: Drawing) -> None:
    load = begin(
        d,
        "**Choose the file** in *Load Video*, of Open-Sora or whatever else makes one: its frame rate comes with it. "
        "Say in *What happens* what it shows and what is to be heard.",
        files="clip is `ovi_example_silent.mp4`",
    )
    d.group("The file")
    clip = clip_of(d, "ovi_example_silent.mp4")
    _sounded(d, load, clip.images, clip.fps, width=96)


@listed(CHAINS, "Ovi chain LTX-Video to sound")
def _ltx(d: Drawing) -> None:
    load = begin(
        d,
        ONE_SENTENCE.format(name="LTX-Video") + " *frame_rate* is the same in *LTXVConditioning* and *Ovi Lock Video*.",
        size="1152×768 in *Empty Ovi Latent*, ",
    )
    ltx = _load(d, "CheckpointLoaderSimple", ckpt_name="ltxv-2b-0.9.8-distilled.safetensors")
    text = _load(d, "CLIPLoader", clip_name="t5xxl_fp16.safetensors", type="ltxv")
    asked = _asked(d, "LTX-Video", text.clip)
    paced = d.add("LTXVConditioning", positive=asked[0], negative=asked[1], frame_rate=25.0)
    latent = d.add("EmptyLTXVLatentVideo", width=768, height=512, length=97, batch_size=1).latent
    d.group("LTX-Video's clip")
    sampler = d.add("KSamplerSelect", sampler_name="euler").sampler
    sigmas = d.add("LTXVScheduler", steps=8, latent=latent).sigmas
    given = {"model": ltx.model, "positive": paced.positive, "negative": paced.negative, "latent_image": latent}
    run = d.add("SamplerCustom", **given, sampler=sampler, sigmas=sigmas, noise_seed=42, cfg=1.0)
    film = d.add("VAEDecode", samples=run.output, vae=ltx.vae).image
    _sounded(d, load, film, 25.0, width=192)


@listed(CHAINS, "Ovi chain HunyuanVideo to sound")
def _hunyuan(d: Drawing) -> None:
    load = begin(d, ONE_SENTENCE.format(name="HunyuanVideo"), size="1248×704 in *Empty Ovi Latent*, ")
    model = _load(d, "UNETLoader", unet_name="hunyuan_video_t2v_720p_bf16.safetensors").model
    files = {"clip_name1": "clip_l.safetensors", "clip_name2": "llava_llama3_fp8_scaled.safetensors"}
    text = _load(d, "DualCLIPLoader", **files, type="hunyuan_video")
    vae = _load(d, "VAELoader", vae_name="hunyuan_video_vae_bf16.safetensors").vae
    d.group("What HunyuanVideo makes")
    shown = d.add("CLIPTextEncode", "What HunyuanVideo shows", GREEN, clip=text.clip, text=SEEN).conditioning
    shown = d.add("FluxGuidance", conditioning=shown, guidance=6.0).conditioning
    latent = d.add("EmptyHunyuanLatentVideo", width=848, height=480, length=73, batch_size=1).latent
    model = d.add("ModelSamplingSD3", model=model, shift=7.0).model
    d.group("HunyuanVideo's clip")
    given = {"noise": d.add("RandomNoise", noise_seed=42).noise, "latent_image": latent}
    given["guider"] = d.add("BasicGuider", model=model, conditioning=shown).guider
    given["sampler"] = d.add("KSamplerSelect", sampler_name="euler").sampler
    given["sigmas"] = d.add("BasicScheduler", model=model, scheduler="simple", steps=20, denoise=1.0).sigmas
    run = d.add("SamplerCustomAdvanced", **given)
    film = d.add("VAEDecodeTiled", samples=run.output, vae=vae, tile_size=256).image
    _sounded(d, load, film, 24.0)


def _split_files(d: Drawing, name: str, kind: str, model: str, text: str, vae: str, change: str) -> tuple[Node, ...]:
    """The loaders of a system that is published in three files: Ovi's, and model, text encoder and VAE."""
    load = begin(d, ONE_SENTENCE.format(name=name) + change, size="1248×704 in *Empty Ovi Latent*, ")
    return (
        load,
        _load(d, "UNETLoader", unet_name=model),
        _load(d, "CLIPLoader", clip_name=text, type=kind),
        _load(d, "VAELoader", vae_name=vae),
    )


@listed(CHAINS, "Ovi chain Mochi to sound")
def _mochi(d: Drawing) -> None:
    files = ("mochi_preview_bf16.safetensors", "t5xxl_fp16.safetensors", "mochi_vae.safetensors")
    load, model, text, vae = _split_files(d, "Mochi", "mochi", *files, change="")
    asked = _asked(d, "Mochi", text.clip)
    latent = d.add("EmptyMochiLatentVideo", width=848, height=480, length=163, batch_size=1).latent
    film = _sampled(d, model.model, asked, latent, steps=30, cfg=4.5)
    _sounded(d, load, d.add("VAEDecode", samples=film, vae=vae.vae).image, 30.0)


@listed(CHAINS, "Ovi chain Wan 2.1 to sound")
def _wan21(d: Drawing) -> None:
    files = ("wan2.1_t2v_1.3B_fp16.safetensors", "umt5_xxl_fp8_e4m3fn_scaled.safetensors", "wan_2.1_vae.safetensors")
    load, model, text, vae = _split_files(d, "Wan 2.1", "wan", *files, change="")
    asked = _asked(d, "Wan 2.1", text.clip)
    latent = d.add("EmptyHunyuanLatentVideo", width=832, height=480, length=81, batch_size=1).latent
    shifted = d.add("ModelSamplingSD3", model=model.model, shift=8.0).model
    film = _sampled(d, shifted, asked, latent, steps=30, cfg=6.0, sampler="uni_pc")
    _sounded(d, load, d.add("VAEDecode", samples=film, vae=vae.vae).image, 16.0)


@listed(CHAINS, "Ovi chain Wan 2.2 to sound")
def _wan22(d: Drawing) -> None:
    files = ("wan2.2_ti2v_5B_fp16.safetensors", "umt5_xxl_fp8_e4m3fn_scaled.safetensors", "wan2.2_vae.safetensors")
    change = " The full Ovi has the same text encoder and VAE: then *Load Ovi* gives both, and two loaders can go."
    load, model, text, vae = _split_files(d, "Wan 2.2", "wan", *files, change=change)
    asked = _asked(d, "Wan 2.2", text.clip)
    size = {"width": 1280, "height": 704, "length": 121, "batch_size": 1}
    latent = d.add("Wan22ImageToVideoLatent", vae=vae.vae, **size).latent
    shifted = d.add("ModelSamplingSD3", model=model.model, shift=8.0).model
    film = _sampled(d, shifted, asked, latent, steps=20, cfg=5.0, sampler="uni_pc")
    _sounded(d, load, d.add("VAEDecode", samples=film, vae=vae.vae).image, 24.0)


@listed(CHAINS, "Ovi chain CogVideoX to sound")
def _cogvideox(d: Drawing) -> None:
    files = ("cogvideox_5b.safetensors", "t5xxl_fp16.safetensors", "cogvideox_vae.safetensors")
    change = (
        " `cogvideox_5b.safetensors` stands for a CogVideoX model as ComfyUI's own code names its weights. A clip that "
        "another pack made goes from its *VAE Decode* straight to *Ovi Lock Video*; *frame_rate* is 8, of 1.5 it is 16."
    )
    load, model, text, vae = _split_files(d, "CogVideoX", "cogvideox", *files, change=change)
    asked = _asked(d, "CogVideoX", text.clip)
    # Of the same 16 channels, 4 frames and 8 pixels a step; ComfyUI has no node of CogVideoX's own for it.
    latent = d.add("EmptyHunyuanLatentVideo", width=720, height=480, length=49, batch_size=1).latent
    film = _sampled(d, model.model, asked, latent, steps=50, cfg=6.0)
    _sounded(d, load, d.add("VAEDecode", samples=film, vae=vae.vae).image, 8.0, width=192)


def _of_ovi(d: Drawing, change: str, files: str = "") -> Node:
    """The decoder of a clip that Ovi makes from text."""
    load = begin(d, change, files=files)
    prompts = words(d, load, BALL)
    d.group("Size, length")
    return make(d, load, prompts, empty(d))


def _save(d: Drawing, images: Output, audio: Output, fps: float, mark: str = "whole clip") -> None:
    """Save what a stock node changed, with the mark that it has lost on the way."""
    d.group("Watch and listen")
    video = d.add("CreateVideo", images=images, audio=audio, fps=fps).video
    d.add("OviSaveVideo", video=video, filename_prefix="video/" + d.title.replace(" ", "_"), mark_as_ai=mark)


@listed(CHAINS, "Ovi chain to LTX upscale")
def _to_ltx(d: Drawing) -> None:
    clip = _of_ovi(
        d,
        "**Write your own sentence** in *What happens*, and in *What LTX-Video shows* the same without the sound. "
        "LTX-Video doubles the size and draws details anew; the first number in *ManualSigmas* says how much: less "
        "keeps lips as they are. Whole seconds have the 8n + 1 frames that it takes.",
    )
    d.group("Weights of LTX-Video")
    ltx = _load(d, "CheckpointLoaderSimple", ckpt_name="ltxv-2b-0.9.8-distilled.safetensors")
    text = _load(d, "CLIPLoader", clip_name="t5xxl_fp16.safetensors", type="ltxv")
    doubler = _load(d, "LatentUpscaleModelLoader", model_name="ltxv-spatial-upscaler-0.9.8.safetensors")
    asked = _asked(d, "LTX-Video", text.clip)
    paced = d.add("LTXVConditioning", positive=asked[0], negative=asked[1], frame_rate=24.0)
    latent = d.add("VAEEncode", pixels=clip.images, vae=ltx.vae).latent
    given = {"samples": latent, "upscale_model": doubler.latent_upscale_model, "vae": ltx.vae}
    latent = d.add("LTXVLatentUpsampler", **given).latent
    d.group("LTX-Video draws details")
    sampler = d.add("KSamplerSelect", sampler_name="euler").sampler
    sigmas = d.add("ManualSigmas", sigmas="0.725, 0.4219, 0.0").sigmas
    given = {"model": ltx.model, "positive": paced.positive, "negative": paced.negative, "latent_image": latent}
    run = d.add("SamplerCustom", **given, sampler=sampler, sigmas=sigmas, noise_seed=42, cfg=1.0)
    _save(d, d.add("VAEDecode", samples=run.output, vae=ltx.vae).image, clip.audio, 24.0)


@listed(CHAINS, "Ovi chain to more frames a second")
def _to_more_frames(d: Drawing) -> None:
    clip = _of_ovi(
        d,
        "**Write your own sentence** in *What happens*. *multiplier* puts frames between those that Ovi made; *fps* in "
        "*Create Video* is 24 times it, so that picture and sound stay together.",
    )
    d.group("Frames between")
    between = _load(d, "FrameInterpolationModelLoader", model_name="film_net_fp16.safetensors").interp_model
    more = d.add("FrameInterpolate", interp_model=between, images=clip.images, multiplier=2).image
    _save(d, more, clip.audio, 48.0)


@listed(CHAINS, "Ovi chain to upscaling")
def _to_upscaling(d: Drawing) -> None:
    clip = _of_ovi(
        d,
        "**Write your own sentence** in *What happens*. The upscaler makes each frame 4 times as wide and high; "
        "*scale_by* brings it down to what you want, here twice Ovi's size.",
    )
    d.group("Larger frames")
    upscaler = _load(d, "UpscaleModelLoader", model_name="RealESRGAN_x4plus.safetensors").upscale_model
    large = d.add("ImageUpscaleWithModel", upscale_model=upscaler, image=clip.images).image
    large = d.add("ImageScaleBy", image=large, upscale_method="lanczos", scale_by=0.5).image
    _save(d, large, clip.audio, 24.0)


@listed(CHAINS, "Ovi chain to music and voice mix")
def _to_mix(d: Drawing) -> None:
    clip = _of_ovi(
        d,
        "**Choose your music or voice** in *Load Audio*. *Empty Audio* is the pause before it, *Adjust Audio Volume* "
        "sets how loud it is beside Ovi's sound. The mix is as long as the clip.",
        files="voice is `ovi_example_voice.flac`",
    )
    d.group("The mix")
    pause = d.add("EmptyAudio", duration=0.5, sample_rate=44100).audio
    added = d.add("LoadAudio", "Music or voice", audio="ovi_example_voice.flac").audio
    added = d.add("AudioConcat", audio1=pause, audio2=added, direction="after").audio
    added = d.add("AudioAdjustVolume", audio=added, volume=-6).audio
    mix = d.add("AudioMerge", "Ovi's sound and the other", audio1=clip.audio, audio2=added, merge_method="add").audio
    _save(d, clip.images, mix, 24.0, mark="part of the clip")
