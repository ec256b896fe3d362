"""Load Ovi (all in one) finds a variant's files by what is in them, fetches nothing that is there, and says so."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import folder_paths
import pytest
import tiny_ovi as tiny
import torch
import weight_layouts as layouts
from fusion_cases import published_weights
from ovi_native.nodes.loading.loaders import OviPipelineLoader
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.loading import contents, download, installed, manifest
from ovi_native.ovi_core.loading.download import Gone, Source
from ovi_native.ovi_core.spec import METADATA_KEY, VARIANTS
from ovi_native.ovi_core.weights.variant_note import noted_variant
from safetensors.torch import save_file

from tools import standins

TEN, FIVE, OLD, DREAMID = (VARIANTS[name] for name in ("960x960_10s", "960x960_5s", "720x720_5s", "dreamid_omni"))
FOLDERS = ("diffusion_models", "text_encoders", "vae", "checkpoints", "clip_vision", "audio_encoders")


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return published_weights(tiny.SIZES)


def sound(prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in standins.audio_vae(0).items() if key.startswith(prefix)}


@pytest.fixture
def models(tmp_path, monkeypatch):
    """ComfyUI's folders with everything but the transformer, under names that nobody publishes."""
    for kind in FOLDERS:
        endings = folder_paths.folder_names_and_paths[kind][1]
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, ([str(tmp_path / kind)], endings))
        (tmp_path / kind / "sub").mkdir(parents=True)
    save_file(standins.text_encoder(0), tmp_path / "text_encoders" / "sub" / "umt5-xxl-enc-mine.safetensors")
    save_file(standins.video_vae(0), tmp_path / "vae" / "video.safetensors")
    save_file(sound("vae."), tmp_path / "vae" / "sub" / "mmaudio_16k.safetensors")
    torch.save(sound("vocoder."), tmp_path / "vae" / "voice.pth")
    save_file({"a": torch.zeros(2)}, tmp_path / "vae" / "nothing.safetensors")
    (tmp_path / "vae" / "empty.pt").write_bytes(b"")
    (tmp_path / "diffusion_models" / "broken.safetensors").write_bytes(b"\xff" * 100)
    folder_paths.filename_list_cache.clear()
    return tmp_path


def saved(folder: Path, name: str, weights: dict[str, torch.Tensor], **metadata: str) -> str:
    path = folder / "diffusion_models" / name
    save_file(weights, path, metadata or None)
    folder_paths.filename_list_cache.clear()
    return str(path)


def fp8(weights):
    return {
        key: value.to(torch.float8_e4m3fn if layouts.is_large(key, value) else torch.bfloat16)
        for key, value in weights.items()
    }


def bf16(weights):
    return {key: value.bfloat16() for key, value in weights.items()}


@pytest.mark.parametrize(
    ("variant", "name", "change", "metadata"),
    [
        (TEN, "sub/Ovi 1.1 10s mine.safetensors", bf16, {}),
        (FIVE, "wan2.2_ovi1_1_10B_bf16.safetensors", bf16, {}),
        (OLD, "Ovi-11B-mine-fp8.safetensors", fp8, {}),
        (TEN, "a.safetensors", fp8, {METADATA_KEY: "960x960_10s"}),
        (DREAMID, "DreamID Omni (copy).safetensors", bf16, {}),
        (OLD, "Wan_Ovi_720x720.safetensors", lambda w: layouts.without_video_prefix(w), {}),
    ],
)
def test_renamed_files_are_found_and_load(models, weights, variant, name, change, metadata, caplog):
    path = saved(models, name, change(weights), **metadata)
    files, notes = installed.find_files(variant)
    assert files.model == path
    assert Path(path).name in " ".join(notes)
    with caplog.at_level(logging.INFO):
        model, clip, vae, audio_vae = OviPipelineLoader.execute(variant.name).result
    assert noted_variant(model) is noted_variant(clip.patcher) is variant
    assert None not in (vae, audio_vae)
    for part in ("umt5-xxl-enc-mine", "video.safetensors", "mmaudio_16k", "voice.pth", Path(path).name):
        assert part in caplog.text
    assert str(models) not in caplog.text


def test_a_gguf_is_found(models, weights):
    path, _ = layouts.write_gguf(models / "diffusion_models" / "mine.gguf", weights, "Q8_0", variant="960x960_5s")
    folder_paths.filename_list_cache.clear()
    assert installed.find_files(FIVE)[0].model == path


@pytest.mark.parametrize(
    "names", [("Wan_2_2_Ovi_video_model_bf16", "Wan_2_2_Ovi_audio_model_bf16"), ("a720x720", "b720x720")]
)
def test_two_files_are_found_and_loaded_together(models, weights, names):
    video = saved(models, f"{names[0]}.safetensors", layouts.wan_names(weights))
    audio = saved(models, f"{names[1]}.safetensors", layouts.audio_names(weights))
    files, notes = installed.find_files(OLD)
    assert (files.model, files.audio_model) == (video, audio)
    assert all(Path(path).name in notes[0] for path in (video, audio))
    model = OviPipelineLoader.execute(OLD.name).result[0]
    assert noted_variant(model) is OLD


def test_a_file_of_unknown_variant_is_taken_with_a_note_but_never_one_of_another(models, weights):
    saved(models, "model_960x960_10s.safetensors", bf16(weights))
    with pytest.raises(OviError, match="1 of 5 files"):
        installed.find_files(FIVE)
    path = saved(models, "my merge.safetensors", bf16(weights))
    files, notes = installed.find_files(FIVE)
    assert files.model == path
    assert "does not show its variant and is taken for 960x960_5s" in notes[0]
    sure = saved(models, "ovi 960x960 mine.safetensors", fp8(weights))
    assert installed.find_files(FIVE)[0].model == sure


def test_of_several_the_one_that_loses_nothing_is_taken(models, weights):
    found = {}
    for name, change in {"fp32": dict, "bf16": bf16, "fp8": fp8}.items():
        found[name] = saved(models, f"dreamid mine {name}.safetensors", change(weights))
    assert installed.find_files(DREAMID)[0].model == found["bf16"]
    for name, next_best in (("bf16", "fp32"), ("fp32", "fp8")):
        Path(found[name]).unlink()
        folder_paths.filename_list_cache.clear()
        assert installed.find_files(DREAMID)[0].model == found[next_best]


def test_a_published_name_on_something_else_gives_way_to_the_right_file(models, weights):
    saved(models, "model.safetensors", {"double_blocks.0.weight": torch.zeros(2)})
    right = saved(models, "Ovi 720x720.safetensors", bf16(weights))
    save_file(standins.video_vae(0), models / "vae" / "v1-16.safetensors")
    folder_paths.filename_list_cache.clear()
    files, _ = installed.find_files(OLD)
    assert files.model == right
    assert files.audio_vae == str(models / "vae" / "sub" / "mmaudio_16k.safetensors")


def test_one_file_with_vae_and_vocoder_needs_no_other(models, weights):
    saved(models, "model.safetensors", bf16(weights))
    (models / "vae" / "voice.pth").unlink()
    (models / "vae" / "sub" / "mmaudio_16k.safetensors").unlink()
    save_file(standins.audio_vae(0), models / "vae" / "both.safetensors")
    folder_paths.filename_list_cache.clear()
    files, _ = installed.find_files(OLD)
    assert (Path(files.audio_vae).name, files.vocoder) == ("both.safetensors", None)
    assert OviPipelineLoader.execute(OLD.name).result[3] is not None


def test_files_of_the_small_model_are_no_others(models, weights):
    saved(models, "model.safetensors", bf16(weights))
    encoder = models / "text_encoders" / "sub" / "umt5-xxl-enc-mine.safetensors"
    encoder.rename(encoder.with_name("ovi_mini_umt5 copy.safetensors"))
    folder_paths.filename_list_cache.clear()
    with pytest.raises(OviError, match="umt5_xxl_fp16"):
        installed.find_files(OLD)


# Downloads.


def test_nothing_is_fetched_that_is_there_under_another_name(models, weights, monkeypatch):
    saved(models, "Ovi 960x960.safetensors", bf16(weights))
    asked: list = []
    monkeypatch.setattr(manifest, "fetch", lambda files, *more: asked.extend(files))
    installed.fetch_missing(FIVE, lambda done, total: None)
    assert asked == []
    (models / "vae" / "video.safetensors").unlink()
    folder_paths.filename_list_cache.clear()
    installed.fetch_missing(FIVE, lambda done, total: None)
    assert [source for source, _ in asked] == [manifest.WAN_VAE_SOURCE]


PARTS = {
    "Ovi 960x960.safetensors": ("diffusion_models", "checkpoints"),
    "sub/umt5-xxl-enc-mine.safetensors": ("text_encoders", "clip_vision"),
    "video.safetensors": ("vae", "checkpoints"),
    "sub/mmaudio_16k.safetensors": ("vae", "audio_encoders"),
    "voice.pth": ("vae", "checkpoints"),
}


@pytest.mark.parametrize("moved", [*([name] for name in PARTS), list(PARTS)], ids=[*PARTS, "all of them"])
def test_what_lies_in_a_wrong_folder_is_taken_from_there_and_not_fetched(models, weights, monkeypatch, moved):
    saved(models, "Ovi 960x960.safetensors", bf16(weights))
    for name in moved:
        right, wrong = PARTS[name]
        (models / right / name).rename(models / wrong / name)
    folder_paths.filename_list_cache.clear()
    fetched: list = []
    monkeypatch.setattr(manifest, "fetch", lambda files, *more: fetched.extend(files))
    installed.fetch_missing(FIVE, lambda done, total: None)
    assert fetched == []
    _, notes = installed.find_files(FIVE)
    for name in moved:
        right, wrong = PARTS[name]
        (note,) = [note for note in notes if Path(name).name in note]
        assert f"in models/{wrong}; other nodes look for it in models/{right}" in note
    if len(moved) > 1:
        assert None not in OviPipelineLoader.execute(FIVE.name).result


def test_towers_in_different_folders_are_found_and_a_file_in_the_right_one_comes_first(models, weights):
    saved(models, "a720x720.safetensors", layouts.wan_names(weights))
    audio = models / "checkpoints" / "b720x720.safetensors"
    save_file(layouts.audio_names(weights), audio)
    save_file(bf16(weights), models / "checkpoints" / "Ovi 960x960.safetensors")
    folder_paths.filename_list_cache.clear()
    files, notes = installed.find_files(OLD)
    assert files.audio_model == str(audio)
    assert [note for note in notes if audio.name in note and "in models/checkpoints" in note]
    right = saved(models, "Ovi 960x960 mine.safetensors", bf16(weights))
    assert installed.find_files(FIVE)[0].model == right


@pytest.mark.parametrize(
    ("variant", "offered"),
    [
        (TEN, "'Wan2_2-5B-Ovi_960x960_10s_fp8_e4m3fn_scaled_KJ.safetensors' (12.3 GB, https://huggingface.co/Kijai/"),
        (DREAMID, "'dreamid_omni.bf16.safetensors' (23.3 GB, https://huggingface.co/benjiaiplayground/"),
    ],
)
def test_where_a_source_is_gone_the_next_published_file_is_named_with_its_size(variant, offered, monkeypatch):
    part = manifest.model_part(variant)

    def gone(files, *more):
        raise Gone(files[0][0], download._failed(files[0][0], "Hugging Face has no such file (404)", "Check"))

    monkeypatch.setattr(manifest, "fetch", gone)
    with pytest.raises(Gone) as caught:
        manifest.fetch_parts([(part, Path("x"))], lambda done, total: None)
    assert offered in caught.value.remedy
    assert "Or switch other_sources on" in caught.value.remedy
    assert "into models/diffusion_models" in str(caught.value)
    name = Path(part.others[0].path).name
    assert part.among([name]) == name, "it is found when it was put there"


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_what_is_gone_is_told_from_what_failed(status, monkeypatch):
    from huggingface_hub.errors import HfHubHTTPError

    class Answer:
        status_code = status
        headers: dict = {}
        request = None

    source = Source("a/b", "c.safetensors")
    error = HfHubHTTPError.__new__(HfHubHTTPError)
    Exception.__init__(error, "no")
    error.response = Answer()
    with pytest.raises(OviError) as caught, download._explained(source):
        raise error
    assert isinstance(caught.value, Gone) == (status != 500)
    if status != 500:
        copy = pickle.loads(pickle.dumps(caught.value))
        assert (str(copy), copy.source) == (str(caught.value), source)


def test_a_header_is_read_once(models, weights, monkeypatch):
    path = saved(models, "mine 960x960.safetensors", bf16(weights))
    contents._examine.cache_clear()
    read: list = []
    real = contents.read_header
    monkeypatch.setattr(contents, "read_header", lambda path, **more: read.append(path) or real(path, **more))
    for _ in range(3):
        installed.find_files(FIVE)
    assert read.count(path) == 1
