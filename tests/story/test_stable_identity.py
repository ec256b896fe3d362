"""Shots that were stored before the pack's files were moved and renamed are found again, and after ComfyUI's updates.

The values were recorded with the version before the move. A test that fails here means that every user's shots would be
redone: give what was renamed or added its old name in ``stable_names``, or leave it out of the hash; never record anew.
"""

from __future__ import annotations

import functools
import hashlib
import subprocess
import sys
from pathlib import Path

import comfy.model_sampling
import comfy.weight_adapter.lora
import pytest
import story_cases as story
import torch
from comfy_extras.nodes_easycache import EasyCacheHolder, EasyCacheNode, LazyCacheNode
from comfy_extras.nodes_model_advanced import ModelSamplingSD3
from native_cases import sample, small_lora, small_vaes, with_lora, write_tiny
from ovi_native.nodes.loading.loaders import OviLowMemory
from ovi_native.nodes.remix import OviLoop
from ovi_native.nodes.sampling.audio_preview import OviPreviewSound
from ovi_native.nodes.sampling.context_windows import OviContextWindows
from ovi_native.nodes.sampling.guidance import OviCoupling, OviGuidanceOptions
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.story import script
from ovi_native.ovi_core.story.model_fingerprint import describe, identity
from ovi_native.ovi_core.story.plan import plan_shots
from ovi_native.ovi_core.text.umt5 import load_text_encoder
from ovi_native.ovi_core.vae.audio_vae import load_audio_vae
from ovi_native.ovi_core.vae.video_vae import load_video_vae
from ovi_native.tools import standins

ROOT = Path(__file__).resolve().parents[2]


pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(write_tiny(tmp_path_factory.mktemp("stable")))


def run(node, *values):
    return node.execute(*values).result[0]


def many(model):
    model = run(OviCoupling, with_lora(model, small_lora()), 0.5)
    model = ModelSamplingSD3().patch(run(OviLoop, run(OviLowMemory, model, 8192)), 3.0)[0]
    return run(EasyCacheNode, model, 0.2, 0.1, 0.9, False)


MODELS = {
    "bare": (lambda model: model, "1392090f308803a7a25679003783caefdc0e5ae53a46f139c0320a2bb25f2263"),
    "windows": (
        lambda model: run(OviContextWindows, model, "960x960_5s", 1.0, True),
        "d18caf9e4587bf7d7df54ec491b443b2bc5dd351bc89ca4ad96d2dff3a6f65f4",
    ),
    "windows as they are": (
        lambda model: run(OviContextWindows, model, "960x960_10s"),
        "b3e418d454c1ae19b4fca7b228a1c9119cb45241ef8512b391626a8bf24b455c",
    ),
    "coupling": (
        lambda model: run(OviCoupling, model, 0.5, 1.5, 0.0, 0.6, "0-1"),
        "26ea96b46e787fccf817d7ab8b11df0429762c61c799a90f1630f37509e56c8c",
    ),
    "two couplings": (
        lambda model: run(OviCoupling, run(OviCoupling, model, 0.5, 1.5, 0.0, 0.6, "0-1"), 0.0),
        "20e5c8fa0116d9f7adfcf99a0f4fb7a9e023c7a2a6cb7e553ded331fc6f461cf",
    ),
    "low memory": (
        lambda model: run(OviLowMemory, model, 4096),
        "7aa66dead2fe4f473e2474017a9364b709ed507e5c71bd823d1b7bd03332c7e1",
    ),
    "loop": (
        lambda model: run(OviLoop, model),
        "7fb6e141d6453fbe2a9d03b6651dc8139121e5ae1a794a32d4f7d6b41e7babf6",
    ),
    "audio preview": (
        lambda model: run(OviPreviewSound, model, small_vaes()[1], 5),
        "1392090f308803a7a25679003783caefdc0e5ae53a46f139c0320a2bb25f2263",
    ),
    "lora": (
        lambda model: with_lora(model, small_lora()),
        "c981aeafd137db761e2fabc2dc50039e67f6474d85f32c8f53add2064f20c59d",
    ),
    "two loras": (
        lambda model: with_lora(with_lora(model, small_lora()), small_lora(2.0, "blocks.1.self_attn.k"), 0.5),
        "892b59d0ded6b79eae742fbd7e7b3a6c8c811ab2ef30874d9d03952e88f3dd7d",
    ),
    "shifted": (
        lambda model: ModelSamplingSD3().patch(model, 3.0)[0],
        "08a16d2183376506a5836d4f70cb32b59007db56642e52efe933373566d6f1d6",
    ),
    "EasyCache": (
        lambda model: run(EasyCacheNode, model, 0.2, 0.1, 0.9, False),
        "1272751af401b78fafa6e3d8ee470201d8ed2089b035b7990377af9c404b0a55",
    ),
    "LazyCache": (
        lambda model: run(LazyCacheNode, model, 0.2, 0.1, 0.9, False),
        "556a19eb972e0bd674c93608e76c2ce20fb6cd46794a6c52904c24df90237665",
    ),
    "many": (many, "b2db063dbe3e90db94b649101e4d8f0c420313dacfa769a591ff7c3b292fe101"),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_are_known_by_the_hash_they_always_had(model, name):
    change, recorded = MODELS[name]
    assert identity(change(model)) == recorded


def test_guidance_options_are_described_as_they_always_were():
    options = run(OviGuidanceOptions, "video", 0.1, 0.8, "points", "0:4, 1:1", 0.5, 0.3, "1")
    words = hashlib.sha256("\n".join(describe(options)).encode()).hexdigest()
    assert words == "8502420ecf1b4531a877ca0ee47e506deac6850f3ac67f49965833365ea806fb"


@pytest.mark.parametrize(
    ("load", "weights", "recorded"),
    [
        (load_text_encoder, standins.text_encoder, "8bb5dcb6bb4d4ad415d490c7a0056f2b4f33fb6a11580896b7fcceeaef7bd9f3"),
        (load_video_vae, standins.video_vae, "9b0b549ed18a935932e01c5c3755478cbd32aeb7b58d60bb9abf3476953ba5c8"),
        (load_audio_vae, standins.audio_vae, "ff05917029013428350e4ec583d08bf82f75a41773f680c91eb744156e55724c"),
    ],
)
def test_encoders_and_vaes_are_known_by_the_hash_they_always_had(load, weights, recorded):
    patcher = load(weights(0)).patcher
    for i, (key, weight) in enumerate(sorted(patcher.model.state_dict().items())):
        if key != "mel_converter.mel_basis":  # computed, not loaded
            weight.fill_(i % 7 / 8)  # the same on every machine
    assert identity(patcher) == recorded


@pytest.mark.parametrize(
    ("changed", "picture", "recorded"),
    [
        (
            {},
            False,
            [
                "1970be04fe93e75ae3549a503da7c4fd",
                "449d3a545fc154b44f500852a57f8d86",
                "9bfd437d8026f523559d84fa07aec385",
                "d10e39b9fd5942e0ad7faae816e0dc3d",
            ],
        ),
        (
            {"width": 96, "steps": 3, "video_cfg": 5.0, "correct": "off", "solver": "euler"},
            False,
            [
                "4379f7c150fcb27891a87ac6c06eb0e3",
                "4b76d0f6b91aaa75af08fb154f297fbe",
                "f1cac48b193872220abe1b41d834f53b",
                "3a0b72a1a8cb601b4eb957aff9758bc5",
            ],
        ),
        (
            {},
            True,
            [
                "a634edc4862aafa824ee8b02ce3bc529",
                "d1024b6748389f150733f280a387f04b",
                "67c2987abbcf0591bf9487e43723a407",
                "d10e39b9fd5942e0ad7faae816e0dc3d",
            ],
        ),
    ],
)
def test_shots_are_known_by_the_keys_they_always_had(changed, picture, recorded):
    image = torch.arange(32 * 64 * 3).reshape(1, 32, 64, 3).float() / (32 * 64 * 3)
    text = story.SCRIPT.replace("A lighthouse.", "A lighthouse.\npicture: light.png") if picture else story.SCRIPT
    plans = plan_shots(script.parse(text), story.settings(**changed), "models", picture, lambda name: image)
    assert [plan.key for plan in plans] == recorded


def test_what_comfyui_adds_to_its_objects_makes_no_other_model(model, monkeypatch):
    """As an update does: new attributes of its samplings, adapters, caches and handlers, with whatever value."""
    classes = [
        comfy.model_sampling.ModelSamplingDiscreteFlow,
        comfy.weight_adapter.lora.LoRAAdapter,
        EasyCacheHolder,
        comfy.context_windows.IndexListContextHandler,
        comfy.context_windows.ContextSchedule,
    ]
    for cls in classes:
        monkeypatch.setattr(cls, "__init__", adding_an_attribute(cls.__init__))
    changed = {name: change(model) for name, (change, _) in MODELS.items()}
    added = changed["many"].model_options["transformer_options"]["easycache"].new_in_comfyui
    assert added == "a new one"
    assert {name: identity(patcher) for name, patcher in changed.items()} == {
        name: recorded for name, (_, recorded) in MODELS.items()
    }


def adding_an_attribute(init):
    @functools.wraps(init)
    def more(self, *args, **kwargs):
        init(self, *args, **kwargs)
        self.new_in_comfyui = "a new one"

    return more


def test_what_an_older_comfyui_lacks_makes_no_other_model(model):
    sampling = model.model.model_sampling
    scale = vars(sampling).pop("noise_scale")
    try:
        assert identity(model) == MODELS["bare"][1]
    finally:
        sampling.noise_scale = scale


def test_a_run_in_windows_leaves_the_model_what_it_was(model):
    windowed = run(OviContextWindows, model, "960x960_5s", 1.0, True)
    windowed.model_options["context_handler"]._step = 7  # as ComfyUI counts
    assert identity(windowed) == MODELS["windows"][1]
    sample(windowed, steps=1)
    assert identity(windowed) == MODELS["windows"][1]


def test_planning_needs_no_model():
    """Scripts and plans work where nothing of ComfyUI that builds or runs a model can be imported."""
    code = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("comfy.ldm", "comfy.sd", "comfy.samplers", "comfy.model_base", "comfy.text_encoders")):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
sys.path.append({str(ROOT)!r})
from tools import pack
import os
sys.path.insert(0, os.environ.get("COMFYUI_PATH") or {str(ROOT / ".comfyui" / "ComfyUI")!r})
sys.argv = ["main.py", "--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import types
package = types.ModuleType("bare")
package.__path__ = [{str(ROOT)!r}]
sys.modules["bare"] = package
from bare.ovi_core.story import film, maker, plan, script
shots = script.parse("shot 5 s\\nscene: A pier.\\nshot 5 s, go on\\nscene: A boat.")
plans = plan.plan_shots(shots, plan.Settings(), "models", False, None)
print([shot.clip.frames for shot in plans], film.starts_of(plans))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout.strip() == "[121, 121] [0, 96, 217]", found.stderr
