"""What shared workflows depend on: ids, inputs, defaults and outputs; and what each node says of itself."""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import sys
from pathlib import Path

import ovi_native
import pytest

ROOT = Path(__file__).resolve().parents[2]
OLDER_PACKS = {
    "OviEngineLoader",
    "OviVideoGenerator",
    "OviLatentDecoder",
    "OviAttentionSelector",
    "OviWanComponentLoader",
    "OviMMAudioVAELoader",
}
VARIANTS = ["960x960_10s", "960x960_5s", "720x720_5s", "mini", "dreamid_omni"]
SOLVERS = ["unipc", "dpm++", "euler"]
# id: (name, inputs with their defaults, outputs). A bare type has no default: it is connected, or a list of files.
CONTRACT = {
    "OviModelLoader": (
        "Load Ovi Model",
        {"model_name": "COMBO", "audio_model_name": "in the same file", "weight_dtype": "default"},
        ["MODEL"],
    ),
    "OviAudioVAELoader": ("Load Ovi Audio VAE", {"vae_name": "COMBO", "vocoder_name": "in the same file"}, ["VAE"]),
    "OviPipelineLoader": (
        "Load Ovi (all in one)",
        {"variant": "960x960_10s", "precision": "bf16", "download_missing": False, "other_sources": False},
        ["MODEL", "CLIP", "VAE", "VAE"],
    ),
    "OviLowMemory": ("Ovi Low Memory", {"model": "MODEL", "chunk_tokens": 8192}, ["MODEL"]),
    "OviTextEncode": (
        "Ovi Text Encode",
        {"clip": "CLIP", "prompt": "", "variant": "auto"},
        ["CONDITIONING"],
    ),
    "OviDualConditioning": (
        "Ovi Dual Conditioning",
        {"video": "CONDITIONING", "audio": "CONDITIONING"},
        ["CONDITIONING"],
    ),
    "OviResolution": (
        "Ovi Resolution",
        {"aspect": "16:9", "variant": "960x960_10s", "image": "IMAGE"},
        ["INT", "INT", "FLOAT"],
    ),
    "EmptyOviLatent": (
        "Empty Ovi Latent",
        {"width": 960, "height": 960, "seconds": 10.0, "batch_size": 1, "towers": "video + audio"},
        ["LATENT"],
    ),
    "OviImageToVideo": (
        "Ovi Image To Video",
        {
            "vae": "VAE",
            "latent": "LATENT",
            "start_image": "IMAGE",
            "fit": "crop",
            "end_image": "IMAGE",
            "start_strength": 1.0,
            "end_strength": 1.0,
        },
        ["LATENT"],
    ),
    "OviKeyframe": (
        "Ovi Keyframe",
        {"vae": "VAE", "latent": "LATENT", "image": "IMAGE", "seconds": 2.5, "strength": 1.0, "fit": "crop"},
        ["LATENT"],
    ),
    "OviEncodeClip": (
        "Ovi Encode Clip",
        {
            "vae": "VAE",
            "audio_vae": "VAE",
            "latent": "LATENT",
            "images": "IMAGE",
            "audio": "AUDIO",
            "frame_rate": 24.0,
        },
        ["LATENT"],
    ),
    "OviKeepSpan": (
        "Ovi Keep Span",
        {
            "latent": "LATENT",
            "action": "redo",
            "video_spans": "",
            "audio_spans": "",
            "mask": "MASK",
            "mode": "follow the noise",
            "combine": True,
        },
        ["LATENT"],
    ),
    "OviLockVideo": (
        "Ovi Lock Video",
        {
            "vae": "VAE",
            "latent": "LATENT",
            "images": "IMAGE",
            "frame_rate": 24.0,
            "mode": "follow the noise",
            "length": "the latent's",
        },
        ["LATENT"],
    ),
    "OviLockAudio": (
        "Ovi Lock Audio",
        {
            "audio_vae": "VAE",
            "latent": "LATENT",
            "audio": "AUDIO",
            "start_seconds": 0.0,
            "mode": "follow the noise",
            "length": "the latent's",
        },
        ["LATENT"],
    ),
    "OviVoice": (
        "Ovi Own Voice",
        {"audio_vae": "VAE", "latent": "LATENT", "voice": "AUDIO", "seconds": 2.0, "mode": "follow the noise"},
        ["LATENT"],
    ),
    "OviGuider": (
        "Ovi Guider",
        {
            "model": "MODEL",
            "positive": "CONDITIONING",
            "negative": "CONDITIONING",
            "video_cfg": 4.0,
            "audio_cfg": 3.0,
            "skip_layers": "auto",
            "start_percent": 0.0,
            "end_percent": 1.0,
            "guidance_options": "OVI_GUIDANCE_OPTIONS",
        },
        ["GUIDER"],
    ),
    "OviScheduler": ("Ovi Scheduler", {"solver": "unipc", "steps": 50, "shift": 5.0, "denoise": 1.0}, ["SIGMAS"]),
    "OviSamplerSelect": ("Ovi Sampler Select", {"solver": "unipc"}, ["SAMPLER"]),
    "OviSampler": (
        "Ovi Dual-Tower Sampler",
        {
            "model": "MODEL",
            "positive": "CONDITIONING",
            "negative": "CONDITIONING",
            "latent": "LATENT",
            "seed": 0,
            "steps": 50,
            "video_cfg": 4.0,
            "audio_cfg": 3.0,
            "shift": 5.0,
            "solver": "unipc",
            "skip_layers": "auto",
            "denoise": 1.0,
            "guidance_options": "OVI_GUIDANCE_OPTIONS",
        },
        ["LATENT"],
    ),
    "OviGuidanceOptions": (
        "Ovi Guidance Options",
        {
            "tower": "both",
            "start_percent": 0.0,
            "end_percent": 1.0,
            "schedule": "constant",
            "points": "0:4, 0.5:3, 1:1",
            "modality_guidance": 0.0,
            "rescale": 0.0,
            "skip_layers": "as the guider",
            "options": "OVI_GUIDANCE_OPTIONS",
            "reference_guidance": 0.0,
        },
        ["OVI_GUIDANCE_OPTIONS"],
    ),
    "OviCoupling": (
        "Ovi Coupling",
        {
            "model": "MODEL",
            "video_to_audio": 1.0,
            "audio_to_video": 1.0,
            "start_percent": 0.0,
            "end_percent": 1.0,
            "layers": "all",
        },
        ["MODEL"],
    ),
    "OviRemix": (
        "Ovi Remix",
        {"latent": "LATENT", "video_denoise": 0.6, "audio_denoise": 0.6},
        ["LATENT", "FLOAT"],
    ),
    "OviLoop": ("Ovi Loop", {"model": "MODEL"}, ["MODEL"]),
    "OviContextWindows": (
        "Ovi Context Windows",
        {"model": "MODEL", "variant": "960x960_10s", "overlap_seconds": 1.0, "repeat_first_frame": False},
        ["MODEL"],
    ),
    "OviSpeed": (
        "Ovi Speed",
        {
            "model": "MODEL",
            "preset": "balanced",
            "step_cache": 0.1,
            "negative_every": 1,
            "guidance_end_percent": 1.0,
            "fp8_matmuls": "as loaded",
            "attention": "as ComfyUI",
        },
        ["MODEL"],
    ),
    "OviPreviewSound": (
        "Ovi Preview Sound",
        {"model": "MODEL", "audio_vae": "VAE", "every_steps": 5, "audioUI": "AUDIO_UI"},
        ["MODEL"],
    ),
    "OviDecode": (
        "Ovi AV Decode",
        {
            "samples": "LATENT",
            "vae": "VAE",
            "audio_vae": "VAE",
            "tiled": "auto",
            "loop": False,
            "audio_format": "unchanged",
        },
        ["IMAGE", "AUDIO", "VIDEO"],
    ),
    "OviSaveVideo": (
        "Save Ovi Video",
        {
            "video": "VIDEO",
            "filename_prefix": "video/Ovi",
            "mark_as_ai": "auto",
            "embed_workflow": True,
            "credentials": "if set up",
            "audio_format": "unchanged",
            "batch": "a file each",
        },
        ["VIDEO"],
    ),
    "OviPromptBuilder": (
        "Ovi Prompt Builder",
        {"scene": "", "speech": "", "audio_caption": "", "variant": "960x960_10s", "seconds": 0.0},
        ["STRING", "STRING"],
    ),
    "OviExtend": (
        "Ovi Extend",
        {
            "vae": "VAE",
            "audio_vae": "VAE",
            "images": "IMAGE",
            "audio": "AUDIO",
            "overlap_seconds": 1.0,
            "seconds": 10.0,
            "frame_rate": 24.0,
        },
        ["LATENT"],
    ),
    "OviJoin": (
        "Ovi Join Clips",
        {
            "images_a": "IMAGE",
            "audio_a": "AUDIO",
            "images_b": "IMAGE",
            "audio_b": "AUDIO",
            "overlap_seconds": 1.0,
            "correct": "to the overlap",
            "frame_rate": 24.0,
        },
        ["IMAGE", "AUDIO"],
    ),
    "OviStoryboard": (
        "Ovi Storyboard",
        {
            "model": "MODEL",
            "clip": "CLIP",
            "vae": "VAE",
            "audio_vae": "VAE",
            "script": "",
            "variant": "960x960_10s",
            "width": 960,
            "height": 960,
            "overlap_seconds": 1.0,
            "correct": "to the overlap",
            "seed": 0,
            "steps": 50,
            "video_cfg": 4.0,
            "audio_cfg": 3.0,
            "shift": 5.0,
            "solver": "unipc",
            "skip_layers": "auto",
            "video_negative": "jitter, bad hands, blur, distortion",
            "audio_negative": "robotic, muffled, echo, distorted",
            "tiled": "auto",
            "start_image": "IMAGE",
            "farm": "",
        },
        ["VIDEO", "STRING"],
    ),
    "OviLoraLoader": (
        "Load Ovi LoRA",
        {"model": "MODEL", "lora_name": "COMBO", "video_strength": 1.0, "audio_strength": 1.0},
        ["MODEL"],
    ),
    "OviLoadDataset": (
        "Load Ovi Dataset",
        {
            "folder": "COMBO",
            "clip": "CLIP",
            "vae": "VAE",
            "audio_vae": "VAE",
            "variant": "960x960_10s",
            "width": 704,
            "height": 704,
            "seconds": 5.0,
        },
        ["LATENT", "CONDITIONING"],
    ),
    "OviTrainLora": (
        "Train Ovi LoRA",
        {
            "model": "MODEL",
            "latents": "LATENT",
            "positive": "CONDITIONING",
            "batch_size": 1,
            "grad_accumulation_steps": 1,
            "steps": 16,
            "learning_rate": 0.0005,
            "rank": 8,
            "optimizer": "AdamW",
            "loss_function": "MSE",
            "seed": 0,
            "training_dtype": "bf16",
            "lora_dtype": "bf16",
            "algorithm": "LoRA",
            "gradient_checkpointing": True,
            "offloading": False,
            "existing_lora": "[None]",
            "video_loss": 1.0,
            "audio_loss": 1.0,
            "first_frame": 0.5,
        },
        ["LORA_MODEL", "LOSS_MAP", "INT"],
    ),
    "OviPerson": (
        "Ovi Person",
        {
            "positive": "CONDITIONING",
            "negative": "CONDITIONING",
            "vae": "VAE",
            "audio_vae": "VAE",
            "latent": "LATENT",
            "face": "IMAGE",
            "voice": "AUDIO",
            "voice_start": 1.0,
        },
        ["CONDITIONING", "CONDITIONING"],
    ),
    "OviPeoplePrompt": (
        "Ovi People Prompt",
        {"people": "", "scene": "", "looks": "", "actions": "", "speech": "", "caption": ""},
        ["STRING"],
    ),
    "OviCheck": ("Ovi Check", {"variant": "auto"}, ["STRING"]),
}
CHOICES = {
    ("OviModelLoader", "weight_dtype"): ["default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"],
    ("OviPipelineLoader", "variant"): VARIANTS,
    ("OviPipelineLoader", "precision"): ["bf16", "fp8"],
    ("OviTextEncode", "variant"): [*VARIANTS, "auto"],
    ("OviContextWindows", "variant"): VARIANTS,
    ("OviResolution", "aspect"): [
        *("1:1", "5:4", "4:5", "4:3", "3:4", "3:2", "2:3", "16:9", "9:16", "2:1", "1:2", "21:9", "9:21"),
    ],
    ("OviResolution", "variant"): VARIANTS,
    ("EmptyOviLatent", "towers"): ["video + audio", "video only", "audio only"],
    ("OviImageToVideo", "fit"): ["crop", "pad", "stretch"],
    ("OviKeyframe", "fit"): ["crop", "pad", "stretch"],
    ("OviKeepSpan", "action"): ["redo", "keep"],
    ("OviKeepSpan", "mode"): ["follow the noise", "clean"],
    ("OviLockVideo", "mode"): ["follow the noise", "clean"],
    ("OviLockAudio", "mode"): ["follow the noise", "clean"],
    ("OviVoice", "mode"): ["follow the noise", "clean"],
    ("OviLockVideo", "length"): ["the latent's", "the whole clip"],
    ("OviLockAudio", "length"): ["the latent's", "the whole sound"],
    ("OviGuidanceOptions", "tower"): ["both", "video", "audio"],
    ("OviGuidanceOptions", "schedule"): ["constant", "linear", "cosine", "points"],
    ("OviScheduler", "solver"): SOLVERS,
    ("OviSamplerSelect", "solver"): SOLVERS,
    ("OviSampler", "solver"): SOLVERS,
    ("OviDecode", "tiled"): ["auto", "on", "off"],
    ("OviSaveVideo", "mark_as_ai"): ["auto", "whole clip", "part of the clip", "off"],
    ("OviSaveVideo", "credentials"): ["if set up", "required", "off"],
    ("OviSaveVideo", "audio_format"): ["unchanged", "48 kHz", "48 kHz stereo"],
    ("OviSaveVideo", "batch"): ["a file each", "one file"],
    ("OviPromptBuilder", "variant"): VARIANTS,
    ("OviCheck", "variant"): [*VARIANTS, "auto"],
    ("OviJoin", "correct"): ["to the overlap", "to the start", "off"],
    ("OviStoryboard", "variant"): VARIANTS,
    ("OviStoryboard", "correct"): ["to the overlap", "to the start", "off"],
    ("OviStoryboard", "solver"): SOLVERS,
    ("OviStoryboard", "tiled"): ["auto", "on", "off"],
    ("OviLoadDataset", "variant"): VARIANTS,
    ("OviTrainLora", "optimizer"): ["AdamW", "Adam", "SGD", "RMSprop"],
    ("OviTrainLora", "loss_function"): ["MSE", "L1", "Huber", "SmoothL1"],
    ("OviTrainLora", "training_dtype"): ["bf16", "fp32", "none"],
    ("OviTrainLora", "lora_dtype"): ["bf16", "fp32"],
    ("OviTrainLora", "algorithm"): ["LoRA", "LoHa", "LoKr", "OFT"],
}
OPTIONAL = {
    ("OviDecode", "audio_format"),
    ("OviSaveVideo", "audio_format"),
    ("OviSaveVideo", "batch"),
    ("OviPipelineLoader", "download_missing"),
    ("OviPipelineLoader", "other_sources"),
    ("OviResolution", "image"),
    ("OviPromptBuilder", "seconds"),
    ("EmptyOviLatent", "towers"),
    ("OviImageToVideo", "start_image"),
    ("OviImageToVideo", "end_image"),
    ("OviImageToVideo", "start_strength"),
    ("OviImageToVideo", "end_strength"),
    ("OviKeepSpan", "mask"),
    ("OviStoryboard", "start_image"),
    ("OviStoryboard", "farm"),
    ("OviGuider", "guidance_options"),
    ("OviDecode", "loop"),
    ("OviPreviewSound", "audioUI"),
    ("OviSampler", "guidance_options"),
    ("OviExtend", "frame_rate"),
    ("OviJoin", "frame_rate"),
    ("OviGuidanceOptions", "options"),
    ("OviGuidanceOptions", "reference_guidance"),
    ("OviPerson", "face"),
    ("OviPerson", "voice"),
    ("OviPerson", "voice_start"),
    ("OviLockVideo", "length"),
    ("OviLockAudio", "length"),
}


async def list_nodes():
    return await (await ovi_native.comfy_entrypoint()).get_node_list()


NODES = {node.GET_SCHEMA().node_id: node for node in asyncio.run(list_nodes())}
INPUTS = [(name, input) for name, node in NODES.items() for input in node.GET_SCHEMA().inputs]
each_node = pytest.mark.parametrize("name", NODES)
each_input = pytest.mark.parametrize(("node", "input"), INPUTS, ids=[f"{name}.{input.id}" for name, input in INPUTS])


def told(input):
    """The default of an input, or its type where it has none."""
    default = getattr(input, "default", None)
    return input.get_io_type() if default is None else default


def test_the_nodes_are_those_of_the_contract():
    assert list(NODES) == list(CONTRACT)


@each_node
def test_names_inputs_defaults_and_outputs_are_those_of_the_contract(name):
    schema = NODES[name].GET_SCHEMA()
    found = {input.id: told(input) for input in schema.inputs}
    display_name, inputs, outputs = CONTRACT[name]
    assert schema.display_name == display_name
    assert list(found.items()) == list(inputs.items())
    assert {key: type(value) for key, value in found.items()} == {key: type(value) for key, value in inputs.items()}
    assert [output.get_io_type() for output in schema.outputs] == outputs


def test_choices_and_optional_inputs_are_those_of_the_contract():
    found = {(node, input.id): input.options for node, input in INPUTS if (node, input.id) in CHOICES}
    assert found == CHOICES
    assert {(node, input.id) for node, input in INPUTS if input.optional} == OPTIONAL


@each_node
def test_ids_are_the_packs_own(name):
    assert name.startswith("Ovi") or name == "EmptyOviLatent"
    assert name not in OLDER_PACKS
    assert not name.startswith("WanVideo")
    assert NODES[name].GET_SCHEMA().category.startswith("Ovi/")


@each_node
def test_nodes_describe_themselves_and_name_their_outputs(name):
    schema = NODES[name].GET_SCHEMA()
    assert schema.description.endswith(".")
    assert schema.search_aliases
    assert all(output.display_name for output in schema.outputs)


@each_input
def test_every_input_has_a_tooltip_and_numbers_have_a_range(node, input):
    assert input.tooltip
    assert input.tooltip.endswith(".")
    if input.get_io_type() in ("INT", "FLOAT"):
        assert input.min <= input.default <= input.max
        assert input.step or input.id in ("seed", "steps", "batch_size")
    if input.get_io_type() == "COMBO" and input.default is not None:
        assert input.default in input.options


@each_node
def test_execute_takes_the_inputs_of_the_schema_with_their_defaults(name):
    node = NODES[name]
    parameters = inspect.signature(node.execute).parameters
    inputs = {input.id: input for input in node.GET_SCHEMA().inputs}
    assert set(parameters) == set(inputs)
    for key, parameter in parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            assert parameter.default == getattr(inputs[key], "default", None), key


IMPORT = """
import asyncio, json, sys
sys.path.append({root!r})
from tools import pack
pack.load("--cpu")
import nodes, server, comfy_api.latest
before, calls = set(sys.modules), []
sys.addaudithook(lambda event, _: calls.append(event) if event in {network!r} else None)
async def list_nodes():
    import ovi_native
    return await (await ovi_native.comfy_entrypoint()).get_node_list()
listed = [node.GET_NODE_INFO_V1()["name"] for node in asyncio.run(list_nodes())]
packages = {{name.partition(".")[0] for name in set(sys.modules) - before}} - sys.stdlib_module_names
print(json.dumps([listed, sorted(packages), calls]))
"""


def test_the_pack_is_imported_without_network_and_without_a_library_that_comfyui_has_not_loaded():
    """What makes a pack slow to import are other people's libraries; ours wait until they are needed."""
    network = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request")
    code = IMPORT.format(root=str(ROOT), network=network)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "tests")
    listed, packages, calls = json.loads(run.stdout.splitlines()[-1])
    assert listed == list(CONTRACT)
    assert set(packages) - {"comfy_extras"} == {"ovi_native"}  # the former is ComfyUI's own
    assert calls == []
