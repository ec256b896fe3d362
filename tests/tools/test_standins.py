"""The stand-in weights: published layouts, one recipe one result, noise that is neither silent nor blank."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from comfy.ldm.mmaudio.vae.alias_free_torch import kaiser_sinc_filter1d
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.text.umt5 import read_text_encoder
from ovi_native.ovi_core.vae.audio_vae import read_audio_vae
from ovi_native.ovi_core.vae.video_vae import read_video_vae

from tools import standins

ROOT = Path(__file__).resolve().parents[2]
TRANSFORMER = "diffusion_models/ovi_mini.safetensors"
VIDEO_VAE = "vae/ovi_mini_video_vae.safetensors"
AUDIO_VAE = "vae/ovi_mini_audio_vae.safetensors"
TEXT_ENCODER = "text_encoders/ovi_mini_umt5.safetensors"
NAMES = {TRANSFORMER, VIDEO_VAE, AUDIO_VAE, TEXT_ENCODER}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    standins.make(folder)
    return folder


def draw(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(4))


def metadata(path):
    with safetensors.safe_open(path, framework="pt") as file:
        return file.metadata()


def same(one, other):
    """Whether two files hold the same metadata and tensors; safetensors writes the metadata in any order."""
    a, b = safetensors.torch.load_file(one), safetensors.torch.load_file(other)
    equal = a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    return equal and metadata(one) == metadata(other)


def test_four_small_files_that_say_what_they_are(models):
    files = [path for path in models.rglob("*") if path.is_file()]
    assert {str(path.relative_to(models)) for path in files} == NAMES
    assert sum(path.stat().st_size for path in files) < 30_000_000
    for path in files:
        assert metadata(path).items() >= {"format": "pt", "ovi_variant": "mini", "stand_in": "random weights"}.items()


def test_a_separate_run_makes_the_same_files_and_another_seed_other_noise(models, tmp_path):
    subprocess.run([sys.executable, standins.__file__, str(tmp_path / "a")], check=True)
    subprocess.run([sys.executable, standins.__file__, str(tmp_path / "b"), "--seed", "1"], check=True)
    for name in NAMES:
        assert same(tmp_path / "a" / name, models / name)
    ours, others = (safetensors.torch.load_file(folder / VIDEO_VAE) for folder in (models, tmp_path / "b"))
    assert ours.keys() == others.keys()
    assert not torch.equal(ours["conv1.weight"], others["conv1.weight"])


def test_a_second_run_writes_nothing_and_a_stale_file_is_made_again(models, tmp_path):
    folder = tmp_path / "models"
    shutil.copytree(models, folder)
    for name in NAMES:
        os.utime(folder / name, (1, 1))
    older = metadata(folder / VIDEO_VAE) | {"recipe": "older"}
    safetensors.torch.save_file({"older": torch.ones(1)}, folder / VIDEO_VAE, metadata=older)
    standins.make(folder)
    assert same(folder / VIDEO_VAE, models / VIDEO_VAE)
    assert {(folder / name).stat().st_mtime for name in NAMES - {VIDEO_VAE}} == {1}


def test_a_trained_file_of_the_same_name_is_kept(models, tmp_path):
    trained = tmp_path / VIDEO_VAE
    trained.parent.mkdir()
    safetensors.torch.save_file({"trained": torch.ones(1)}, trained, metadata={"format": "pt"})
    standins.make(tmp_path)
    assert list(safetensors.torch.load_file(trained)) == ["trained"]
    assert (tmp_path / AUDIO_VAE).is_file()


def test_the_transformer_has_the_published_keys_of_its_blocks(models):
    table = json.loads((ROOT / "tests" / "golden" / "checkpoint_11b_keys.json").read_text())
    weights = safetensors.torch.load_file(models / TRANSFORMER)
    blocks = [f"{tower}_model.blocks.{block}." for tower in ("video", "audio") for block in range(4)]
    assert weights.keys() == {key for key in table if ".blocks." not in key or key.startswith(tuple(blocks))}
    assert {key: value.ndim for key, value in weights.items()} == {key: len(table[key]) for key in weights}
    config = load_model(str(models / TRANSFORMER)).model.model_config.unet_config
    assert config.items() >= {"dim": 256, "ffn_dim": 512, "num_layers": 4, "text_dim": 64}.items()


def test_sound_is_audible_and_not_clipped(models):
    vae = read_audio_vae(str(models / AUDIO_VAE))
    with torch.inference_mode():
        for loudness in (0.3, 3.0):
            sound = vae.decode(draw(1, 20, 157) * loudness)
            assert sound.shape == (1, 80_384, 1)
            assert 0.02 < sound.std() < 0.2
            assert sound.abs().max() < 1
            assert sound.mean().abs() < 1e-3
        assert vae.encode(sound).isfinite().all()


def test_the_vocoders_fixed_filters_are_the_published_ones(models):
    weights = safetensors.torch.load_file(models / AUDIO_VAE)
    filters = [value for key, value in weights.items() if key.endswith(".filter")]
    assert filters
    for value in filters:
        torch.testing.assert_close(value.float(), kaiser_sinc_filter1d(0.25, 0.3, 12), atol=2e-3, rtol=0)


def test_pictures_are_neither_blank_nor_clipped(models):
    vae = read_video_vae(str(models / VIDEO_VAE))
    with torch.inference_mode():
        pictures = vae.decode(draw(1, 48, 3, 8, 8))
        assert pictures.shape == (1, 9, 128, 128, 3)
        assert pictures.isfinite().all()
        assert ((pictures == 0) | (pictures == 1)).float().mean() < 0.05
        assert pictures.std(dim=(1, 2, 3)).min() > 0.03
        assert (pictures[:, 1:] - pictures[:, :-1]).abs().mean() > 0.01
        assert vae.encode(pictures[0]).isfinite().all()


@pytest.mark.parametrize("text", ["A man says <S>hello<E>. Audio: wind (soft)", "日本語 \U0001f600 naïve", ""])
def test_any_text_is_spelt_and_encoded(models, text):
    clip = read_text_encoder(str(models / TEXT_ENCODER))
    tokens = [token for token, _ in clip.tokenize(text)["umt5xxl"][0]]
    used = tokens.index(1) + 1
    assert 2 not in tokens[:used]  # unknown
    assert set(tokens[used:]) == {0}
    encoded = clip.encode_from_tokens(clip.tokenize(text))
    assert encoded.shape == (1, 512, 64)
    assert encoded[0, :used].isfinite().all()
    assert 0.5 < encoded[0, :used].std() < 2
    assert encoded[0, used:].abs().max() == 0


def test_the_tokenizer_gives_text_back(models):
    import sentencepiece

    model = bytes(safetensors.torch.load_file(models / TEXT_ENCODER)["spiece_model"].numpy())
    tokenizer = sentencepiece.SentencePieceProcessor(model_proto=model)
    assert (tokenizer.pad_id(), tokenizer.eos_id(), tokenizer.unk_id()) == (0, 1, 2)
    text = "She whispers: the wind is turning, 日本 & café!"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode("the wind is turning")) < 10
