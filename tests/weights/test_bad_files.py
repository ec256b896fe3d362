"""Files that are no Ovi, or not whole: each loader says what they are and what to do."""

from __future__ import annotations

import folder_paths
import pytest
import torch
from native_cases import finite, sample, tiny_wan, tiny_weights, write_tiny
from ovi_native.nodes.loading.loaders import OviAudioVAELoader, OviModelLoader, OviPipelineLoader
from ovi_native.tools import standins
from refusals import refusal
from safetensors.torch import save_file


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The only folder of models, whatever their kind."""
    for kind in ("diffusion_models", "text_encoders", "vae"):
        endings = folder_paths.folder_names_and_paths[kind][1]
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, ([str(tmp_path / kind)], endings))
        (tmp_path / kind).mkdir()
    folder_paths.filename_list_cache.clear()
    return tmp_path


def changed(**changes):
    """The tiny model's weights with some replaced, added, or, where None, left out."""
    weights = dict(tiny_weights()) | {key.replace("__", "."): value for key, value in changes.items()}
    return {key: value for key, value in weights.items() if value is not None}


def tower(name):
    return {key: value for key, value in tiny_weights().items() if key.startswith(name)}


def like(**shapes):
    return {key.replace("__", "."): torch.zeros(shape) for key, shape in shapes.items()}


def lora():
    down, up = (f"diffusion_model.blocks.0.self_attn.q.lora_{half}.weight" for half in "AB")
    return {down: torch.zeros(4, 128), up: torch.zeros(128, 4)}


SD_UNET = like(model__diffusion_model__input_blocks__0__0__weight=(320, 4, 3, 3), first_stage_model__x=(1,))
LTX = like(model__diffusion_model__transformer_blocks__0__attn1__to_q__weight=(8, 8), vae__decoder__x=(1,))
ANOTHER = "Pick an Ovi file"
AGAIN = "fetch the published one again"
FIRST = "video_model.blocks.0.self_attn.q.weight"


@pytest.mark.parametrize(
    ("weights", "found", "remedy"),
    [
        (tiny_wan, "a Wan transformer", ANOTHER),
        (lambda: LTX, "a diffusion transformer", ANOTHER),
        (lambda: SD_UNET, "a Stable Diffusion", ANOTHER),
        (lora, "a LoRA", ANOTHER),
        (lambda: like(something=(1,)), "unknown kind (1 weights: something)", ANOTHER),
        (lambda: standins.video_vae(0), "a Wan 2.2 video VAE", ANOTHER),
        (lambda: tower("video_model."), "only the video tower", "Add the file with the audio tower"),
        (lambda: tower("audio_model."), "only the audio tower", "Add the file with the video tower"),
        (lambda: changed(**{FIRST: None}), "1 missing: blocks.0.self_attn.q.weight", AGAIN),
        (lambda: changed(video_model__extra=torch.zeros(1)), "1 not part of it: extra", AGAIN),
        (lambda: changed(video_model__blocks__x__y=torch.zeros(1)), "not part of it: blocks.x.y", AGAIN),
        (lambda: changed(**{FIRST: torch.zeros(128, 64)}), "q.weight [128, 64] instead of [128, 128]", AGAIN),
        (lambda: changed(**{"video_model.patch_embedding.weight": torch.zeros(128)}), "patch_embedding.weight", AGAIN),
        (lambda: changed(**{FIRST.replace("weight", "extra_scale"): torch.zeros(1)}), "q.extra_scale", AGAIN),
        (lambda: changed(video_model__no__such__weight_scale=torch.zeros(1)), "no.such.weight_scale", AGAIN),
    ],
)
def test_a_wrong_or_incomplete_model_file_is_named(folder, weights, found, remedy):
    save_file(weights(), folder / "diffusion_models" / "file.safetensors")
    refusal(
        OviModelLoader.execute,
        "file.safetensors",
        node="Load Ovi Model",
        input="model_name",
        found=found,
        remedy=remedy,
    )


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("ovi.safetensors", b"", "an empty file"),
        ("ovi.safetensors", b"<!DOCTYPE html><html><body>Sign in</body></html>", "a web page saved under this name"),
        ("ovi.safetensors", b"\n  <html lang='en'>", "a web page saved under this name"),
        ("ovi.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
        ("ovi.safetensors", b"\x40\x00\x00\x00\x00\x00\x00\x00{", "damaged or no weight file"),
        ("ovi.ckpt", b"PK\x03\x04 cut short", "damaged or no weight file"),
    ],
)
def test_a_file_without_weights_is_said_to_be_what_it_is(folder, name, content, found):
    (folder / "diffusion_models" / name).write_bytes(content)
    error = refusal(
        OviModelLoader.execute,
        name,
        node="Load Ovi Model",
        input="model_name",
        found=found,
        remedy=f"Fetch '{name}' again",
    )
    assert name in error.found


def test_a_truncated_model_file_is_to_be_fetched_again(folder):
    path = folder / "diffusion_models" / "ovi.safetensors"
    whole = write_tiny(folder / "diffusion_models", name="ovi.safetensors")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    refusal(
        OviModelLoader.execute,
        "ovi.safetensors",
        node="Load Ovi Model",
        input="model_name",
        found="damaged",
        remedy="Fetch 'ovi.safetensors' again",
    )
    path.write_bytes(content)
    assert finite(sample(OviModelLoader.execute("ovi.safetensors").result[0]))
    assert whole == str(path)


@pytest.mark.parametrize(
    ("weights", "found"),
    [(tiny_wan, "a Wan transformer"), (lambda: standins.audio_vae(0), "an audio VAE with a vocoder")],
)
def test_a_wrong_audio_tower_is_named(folder, weights, found):
    save_file(tower("video_model."), folder / "diffusion_models" / "video.safetensors")
    save_file(weights(), folder / "diffusion_models" / "audio.safetensors")
    refusal(
        OviModelLoader.execute,
        "video.safetensors",
        "audio.safetensors",
        node="Load Ovi Model",
        input="audio_model_name",
        found=found,
        remedy="Pick the audio file",
    )


def test_towers_that_do_not_belong_together_are_refused(folder):
    save_file(tower("video_model."), folder / "diffusion_models" / "video.safetensors")
    other = {key: value for key, value in tiny_weights(dim=256).items() if key.startswith("audio_model.")}
    save_file(other, folder / "diffusion_models" / "audio.safetensors")
    refusal(
        OviModelLoader.execute,
        "video.safetensors",
        "audio.safetensors",
        node="Load Ovi Model",
        input="model_name",
        found="of another shape: ",
        remedy=AGAIN,
    )


@pytest.mark.parametrize(
    ("weights", "found"),
    [
        (lambda: standins.video_vae(0), "a Wan 2.2 video VAE"),
        (lambda: like(encoder__conv_in__weight=(512, 128, 3)), "an MMAudio 44.1 kHz VAE"),
        (lambda: tower("video_model."), "one tower of an Ovi transformer"),
    ],
)
def test_a_wrong_audio_vae_file_is_named(folder, weights, found):
    save_file(weights(), folder / "vae" / "file.safetensors")
    refusal(
        OviAudioVAELoader.execute,
        "file.safetensors",
        node="Load Ovi Audio VAE",
        input="vae_name",
        found=found,
        remedy="Pick v1-16.pth",
    )


def test_an_audio_vae_without_its_vocoder_asks_for_it(folder):
    halves = {key.removeprefix("vae."): value for key, value in standins.audio_vae(0).items() if key.startswith("vae.")}
    save_file(halves, folder / "vae" / "vae.safetensors")
    refusal(
        OviAudioVAELoader.execute,
        "vae.safetensors",
        node="Load Ovi Audio VAE",
        input="vocoder_name",
        found="MMAudio",
        remedy="Pick best_netG.pt",
    )


def test_all_missing_files_of_a_variant_are_named_with_folder_and_source(folder):
    error = refusal(
        OviPipelineLoader.execute,
        "720x720_5s",
        node="Load Ovi (all in one)",
        input="variant",
        found="5 of 5 files",
        remedy="Put these files",
    )
    for name, place, source in (
        ("model.safetensors", "diffusion_models", "huggingface.co/chetwinlow1/Ovi"),
        ("umt5_xxl_fp16.safetensors", "text_encoders", "huggingface.co/Comfy-Org/Wan_2.1_ComfyUI_repackaged"),
        ("wan2.2_vae.safetensors", "vae", "huggingface.co/Comfy-Org/Wan_2.2_ComfyUI_Repackaged"),
        ("v1-16.pth", "vae", "huggingface.co/hkchengrex/MMAudio"),
        ("best_netG.pt", "vae", "huggingface.co/hkchengrex/MMAudio"),
    ):
        assert f"'{name}' in models/{place} (from {source}" in error.remedy, name


def test_only_what_is_missing_is_asked_for(folder):
    (folder / "vae" / "Wan2.2_VAE.safetensors").write_bytes(b"")
    (folder / "text_encoders" / "umt5_xxl_fp16.safetensors").write_bytes(b"")
    error = refusal(
        OviPipelineLoader.execute,
        "960x960_10s",
        node="Load Ovi (all in one)",
        input="variant",
        found="3 of 5 files",
        remedy="v1-16",
    )
    assert "umt5" not in error.remedy
    assert "wan2.2" not in error.remedy


@pytest.mark.parametrize(
    ("wrong", "weights", "found"),
    [
        ("model", tiny_wan, "the file 'ovi_960x960_10s.safetensors', which is a Wan transformer"),
        ("text encoder", lambda: standins.video_vae(0), "the file 'umt5_xxl_fp16.safetensors', which is a Wan 2.2"),
        ("video VAE", lambda: standins.audio_vae(0), "the file 'wan2.2_vae.safetensors', which is an audio VAE"),
        ("vocoder", tiny_wan, "the file 'best_netG.safetensors', which is a Wan transformer"),
        ("vocoder", None, "the file 'best_netG.safetensors', which is an empty file"),
    ],
)
def test_a_wrong_file_that_was_found_by_its_name_is_named(folder, wrong, weights, found):
    places = {
        "model": ("diffusion_models/ovi_960x960_10s.safetensors", tiny_weights),
        "text encoder": ("text_encoders/umt5_xxl_fp16.safetensors", lambda: standins.text_encoder(0)),
        "video VAE": ("vae/wan2.2_vae.safetensors", lambda: standins.video_vae(0)),
        "audio VAE": ("vae/v1-16.safetensors", lambda: standins.audio_vae(0)),
        "vocoder": ("vae/best_netG.safetensors", lambda: standins.audio_vae(0)),
    }
    for part, (place, right) in places.items():
        make = weights if part == wrong else right
        if make is None:
            (folder / place).write_bytes(b"")
        else:
            save_file(make(), folder / place)
    expected = {"node": "Load Ovi (all in one)", "input": "variant", "found": found, "remedy": "Put the right file"}
    refusal(OviPipelineLoader.execute, "960x960_10s", **expected)
