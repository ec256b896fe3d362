"""What a model is known by: the same after loading anew, after a run and as a clone; another after any change."""

from __future__ import annotations

from pathlib import Path

import comfy.model_management
import pytest
from comfy_extras.nodes_easycache import EasyCacheNode
from comfy_extras.nodes_model_advanced import ModelSamplingSD3
from native_cases import sample, small_lora, tiny_weights, with_lora, write_tiny
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.story.model_fingerprint import identity
from ovi_native.ovi_core.text.umt5 import load_text_encoder
from ovi_native.ovi_core.vae.audio_vae import load_audio_vae
from ovi_native.tools import standins
from safetensors.torch import save_file

from tools.convert import convert

pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("identity"))


@pytest.fixture
def model(path):
    return load_model(path)


def easy_cache(model, threshold):
    return EasyCacheNode.execute(model, threshold, 0.1, 0.9, False).result[0]


def test_the_same_file_is_the_same_model_wherever_it_lies_and_whatever_it_did(model, path, tmp_path):
    known = identity(model)
    assert identity(load_model(write_tiny(tmp_path, name="other.safetensors"))) == known
    assert identity(model.clone()) == known
    sample(model, steps=1)
    assert identity(model) == known


@pytest.mark.parametrize("kind", ["keep", "fp8"])
def test_patches_in_place_do_not_hide_the_model_below(path, kind, tmp_path):
    convert([Path(path)], tmp_path / "model.safetensors", kind)
    model = load_model(str(tmp_path / "model.safetensors"))
    known, patched = identity(model), with_lora(model, small_lora())
    other = identity(patched)
    assert other != known
    sample(patched, steps=1)  # ComfyUI writes the patches into the weights that both share, quantised ones with scales
    assert (identity(model), identity(patched)) == (known, other)


def test_it_does_not_matter_what_is_loaded_at_the_moment(model):
    clip = load_text_encoder(standins.text_encoder(0))
    shifted = ModelSamplingSD3().patch(model, 3.0)[0]
    patchers = (model, shifted, clip.patcher)
    known = [identity(patcher) for patcher in patchers]
    sample(shifted, steps=1)
    clip.encode_from_tokens(clip.tokenize("a pier"))
    assert [identity(patcher) for patcher in patchers] == known
    comfy.model_management.unload_all_models()
    assert [identity(patcher) for patcher in patchers] == known


def test_every_change_makes_another_model(model):
    changed = {
        "lora": with_lora(model, small_lora()),
        "weaker": with_lora(model, small_lora(), 0.5),
        "trained on": with_lora(model, small_lora(1.001)),
        "elsewhere": with_lora(model, small_lora(key="blocks.1.self_attn.q")),
        "both": with_lora(with_lora(model, small_lora()), small_lora(2.0)),
        "cached": easy_cache(model, 0.2),
        "cached more": easy_cache(model, 0.3),
        "shifted": ModelSamplingSD3().patch(model, 3.0)[0],
        "shifted more": ModelSamplingSD3().patch(model, 5.0)[0],
    }
    for name, factor in (("halved", 0.5), ("doubled", 2.0)):
        changed[name] = model.clone()
        changed[name].set_model_attn1_output_patch(lambda x, options, factor=factor: x * factor)
    known = {name: identity(patcher) for name, patcher in changed.items()}
    assert len({identity(model), *known.values()}) == 1 + len(known)
    assert known["cached"] == identity(easy_cache(model, 0.2))
    assert known["both"] == identity(with_lora(with_lora(model, small_lora()), small_lora(2.0)))


def test_a_fine_tune_and_another_type_are_other_models(model, tmp_path):
    known = identity(model)
    tuned = {key: weight * 1.001 if "blocks.1.ffn" in key else weight for key, weight in tiny_weights().items()}
    save_file(tuned, tmp_path / "tuned.safetensors")
    halved = load_model(write_tiny(tmp_path), weight_dtype="fp8_e4m3fn")
    assert len({known, identity(load_model(str(tmp_path / "tuned.safetensors"))), identity(halved)}) == 3


def test_vaes_are_known_by_their_weights():
    one, same, other = (load_audio_vae(standins.audio_vae(seed)).patcher for seed in (0, 0, 1))
    assert identity(one) == identity(same) != identity(other)
