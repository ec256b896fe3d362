"""Files of DreamID-Omni: known by name, header and content, in every precision, with what follows from that."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import folder_paths
import pytest
import tiny_ovi as tiny
import torch
import weight_layouts as layouts
from comfy.nested_tensor import NestedTensor
from comfy_extras.nodes_model_advanced import ModelSamplingSD3
from comfy_extras.nodes_model_merging import ModelMergeSimple
from fusion_cases import published_weights, relative_error
from identity_cases import CASES, FORWARD_CASES, PeopleInputs, results
from native_cases import drawn, small_lora, with_lora
from ovi_native.nodes.conditioning import OviTextEncode
from ovi_native.nodes.loading.loaders import OviPipelineLoader
from ovi_native.nodes.sampling.guidance import OviGuidanceOptions
from ovi_native.nodes.sampling.sampler import OviGuider
from ovi_native.ovi_core.loading import fingerprints, manifest, substitutes
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.loading.variant_detection import variant_of
from ovi_native.ovi_core.network.references import KEY, of_people
from ovi_native.ovi_core.sampling.guidance import Guidance
from ovi_native.ovi_core.sampling.variant_settings import clip_notes, notes_for, skip_layers_for
from ovi_native.ovi_core.spec import METADATA_KEY, VARIANTS
from ovi_native.ovi_core.story.model_fingerprint import identity
from ovi_native.ovi_core.weights.variant_note import note_variant, noted_variant
from safetensors.torch import save_file
from sampler_cases import each_sampler_of_prompts

from tools import standins

FORWARD_TOLERANCE = 2e-5
DREAMID = VARIANTS["dreamid_omni"]


def tiny_weights() -> dict[str, torch.Tensor]:
    return published_weights(tiny.SIZES)


def cast(weights: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The large matrices in another type, as files of half and quarter size have them."""
    return {key: value.to(dtype) if layouts.is_large(key, value) else value for key, value in weights.items()}


def safetensors(name: str, change: Any = dict, **metadata: str) -> Any:
    def write(folder: Path, weights: dict[str, torch.Tensor]) -> str:
        changed = change(weights)
        save_file({key: value.contiguous() for key, value in changed.items()}, folder / name, metadata or None)
        return str(folder / name)

    return write


def gguf(name: str, type: str, variant: str = "") -> Any:
    return lambda folder, weights: layouts.write_gguf(folder / name, weights, type, variant=variant)[0]


EXACT = {
    "as published": safetensors("dreamid_omni.safetensors"),
    "by its header": safetensors("mine.safetensors", **{METADATA_KEY: "dreamid_omni"}),
    "GGUF by name": gguf("DreamID-Omni-F32.gguf", "F32"),
    "GGUF by its header": gguf("mine.gguf", "F32", "dreamid_omni"),
}
ROUNDED = {
    "bf16": safetensors("dreamid_omni.bf16.safetensors", lambda w: {k: v.bfloat16() for k, v in w.items()}),
    "fp8": safetensors("dreamid_omni.fp8_e4m3fn.safetensors", lambda w: cast(w, torch.float8_e4m3fn)),
    "fp8 scaled": safetensors(
        "dreamid_omni_fp8_e4m3fn.safetensors", lambda w: layouts.in_host_format(w, "float8_e4m3fn")[0]
    ),
    "Q8_0": gguf("dreamid-omni-Q8_0.gguf", "Q8_0", "dreamid_omni"),
}


@pytest.fixture(scope="module", params=[*EXACT, *ROUNDED])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    write = {**EXACT, **ROUNDED}[request.param]
    return load_model(write(tmp_path_factory.mktemp("dreamid"), tiny_weights()))


@pytest.fixture(scope="module")
def dreamid(tmp_path_factory: pytest.TempPathFactory):
    return load_model(EXACT["as published"](tmp_path_factory.mktemp("dreamid"), tiny_weights()))


def with_people(conditioning: list, face: bool = True, voice: bool = True) -> list:
    """A conditioning with a person for the tiny clip of 96x64 px."""
    one = {
        "face": drawn(1, 48, 1, 4, 6, seed=1) if face else None,
        "voice": drawn(1, 20, 5, seed=2) if voice else None,
    }
    return [[text, {**options, KEY: [one]}] for text, options in conditioning]


def references(video: float = 1.5, audio: float = 2.0) -> Any:
    first = OviGuidanceOptions.execute("video", reference_guidance=video).result[0]
    return OviGuidanceOptions.execute("audio", options=first, reference_guidance=audio).result[0]


def guided(model: Any, people: bool = True, **more: Any) -> Any:
    wanted = {"video_cfg": 3.0, "audio_cfg": 4.0, "guidance_options": references(), **more}
    prompts = [tiny.positive(), tiny.negative()]
    return OviGuider.execute(model, *(with_people(p) if people else p for p in prompts), **wanted).result[0]


def test_every_file_is_known_and_people_act_on_it(model):
    assert noted_variant(model) is DREAMID
    with_them, without = tiny.run(guided(model)), tiny.run(guided(model, people=False))
    assert tiny.finite(with_them)
    assert tiny.both_differ(with_them, without)


def test_people_act_on_it_with_a_lora_too(model):
    changed = with_lora(model, small_lora(0.01))
    assert noted_variant(changed) is DREAMID
    result = tiny.run(guided(changed))
    assert tiny.finite(result)
    assert tiny.both_differ(result, tiny.run(guided(model)))


@pytest.mark.parametrize("file", EXACT)
@pytest.mark.parametrize("name", FORWARD_CASES[:2])
def test_a_forward_of_its_file_equals_the_reference(name, file, tmp_path):
    case = CASES[name]
    inputs = PeopleInputs(case)
    loaded = load_model(EXACT[file](tmp_path, published_weights(case["model"], case["seed"])))
    assert noted_variant(loaded) is DREAMID
    given = of_people(inputs.people())
    parts = {"face": given.faces, "voice": given.voices}
    if case["zeroed"] in parts:
        parts[case["zeroed"]] = torch.zeros_like(parts[case["zeroed"]])
    texts = ("vneg", "aneg") if case["text"] == "negative" else ("pos", "pos")
    with torch.no_grad():
        out = loaded.model.diffusion_model(
            [inputs.video, inputs.audio],
            torch.tensor([case["t"]]),
            inputs.text(texts[0]),
            {},
            audio_context=inputs.text(texts[1]),
            face_references=parts["face"],
            voice_references=parts["voice"],
            voice_lengths=given.lengths,
        )
    assert relative_error(out[0][0], results()[f"{name}.video"]) <= FORWARD_TOLERANCE
    assert relative_error(out[1][0].T, results()[f"{name}.audio"]) <= FORWARD_TOLERANCE


# What is known of a model stays with it, and redoes no stored shots.


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.clone(),
        lambda model: with_lora(model, small_lora()),
        lambda model: ModelSamplingSD3().patch(model, 3.0)[0],
        lambda model: ModelMergeSimple().merge(model, model.clone(), 0.5)[0],
    ],
    ids=["clone", "lora", "shift", "merge"],
)
def test_the_variant_survives(dreamid, change):
    assert noted_variant(change(dreamid)) is DREAMID


def test_a_second_copy_knows_it_too(dreamid):
    loader, arguments = dreamid.cached_patcher_init
    assert noted_variant(loader(*arguments)) is DREAMID


def test_the_note_is_no_part_of_a_models_identity(dreamid):
    other = dreamid.clone()
    note_variant(other, VARIANTS["mini"])
    bare = dreamid.clone()
    bare.attachments.clear()
    assert identity(other) == identity(dreamid) == identity(bare)


@pytest.mark.parametrize("noted", ["no such variant", None, 3, ["mini"]])
def test_a_note_that_is_none_is_as_none(dreamid, noted):
    model = dreamid.clone()
    model.set_attachments(METADATA_KEY, noted)
    assert noted_variant(model) is None
    assert noted_variant(None) is None
    assert notes_for(model, tiny.positive(), Guidance()) == []


def test_a_renamed_download_is_known_by_its_content(tmp_path):
    for source in ("XuGuo699/DreamID-Omni/dreamid_omni.safetensors", "benjiaiplayground/DreamID-Omni-bf16-FP8/a.gguf"):
        file = tmp_path / f"{len(source)}.safetensors"
        file.write_bytes(source.encode() * 1000)
        fingerprints.remember(file, source, None)
        assert variant_of(str(file), {}) == (DREAMID, "by its content, which is that of the published file")


@pytest.mark.parametrize(
    "name", ["dreamid_omni", "dreamid_omni.bf16", "dreamid_omni_bf16", "DreamID_Omni-fp8_e4m3fn", "ovi_dreamid_omni"]
)
def test_its_names_are_found_and_stand_in_for_each_other(name):
    files = ["model_960x960.safetensors", f"sub/{name}.safetensors"]
    assert manifest.model_part(DREAMID).among(files) == files[1]
    assert substitutes.stand_in("dreamid_omni.safetensors", files, [manifest.model_part(DREAMID)]) == files[1]


def test_its_files_are_offered():
    model, *others = manifest.model_list(DREAMID)
    assert model["name"] == "dreamid_omni.safetensors"
    assert model["url"] == "https://huggingface.co/XuGuo699/DreamID-Omni/resolve/main/dreamid_omni.safetensors"
    assert others == manifest.model_list(VARIANTS["960x960_5s"])[1:]


# Settings that follow from it.


@pytest.mark.parametrize(
    ("variant", "text", "layers"),
    [
        ("dreamid_omni", "auto", ()),
        ("mini", "auto", (2,)),
        ("mini", " AUTO ", (2,)),
        ("960x960_10s", "auto", ()),  # the tiny model has no pair 11
        ("dreamid_omni", "1", (1,)),
        ("mini", "0", ()),
    ],
)
def test_auto_skips_what_the_variant_is_sampled_with(dreamid, variant, text, layers):
    model = dreamid.clone()
    note_variant(model, VARIANTS[variant])
    assert skip_layers_for(text, model) == layers
    assert guided(model, skip_layers=text).guidance.skip_layers == layers


def test_auto_is_pair_11_of_ovis_weights_and_of_unknown_ones(tmp_path):
    weights = published_weights({**tiny.SIZES, "num_layers": 12})
    for name in ("model_960x960.safetensors", "mine.safetensors"):
        model = load_model(safetensors(name)(tmp_path, weights))
        assert skip_layers_for("auto", model) == (11,)


NEVER_SAW, NO_PEOPLE = "not trained on reference faces", "This run has none"
ALL_SET = Guidance(3.0, 4.0, (), options=references())


@pytest.mark.parametrize(
    ("variant", "people", "guidance", "expected"),
    [
        ("dreamid_omni", {}, ALL_SET, []),
        ("dreamid_omni", {}, Guidance(4.0, 3.0, (), options=references()), ["set 3 and 4"]),
        ("dreamid_omni", {}, Guidance(5.0, 3.0, (), options=references()), []),
        ("dreamid_omni", {}, Guidance(3.0, 4.0, (11,), options=references()), ["set auto, which is 0 (none)"]),
        ("dreamid_omni", {}, Guidance(3.0, 4.0, ()), ["set 1.5", "set 2 "]),
        ("dreamid_omni", {}, Guidance(3.0, 4.0, (), options=references(audio=0)), ["set 2 "]),
        ("dreamid_omni", {"voice": False}, ALL_SET, ["at least one voice"]),
        ("dreamid_omni", {"face": False}, ALL_SET, ["at least one face"]),
        ("dreamid_omni", None, ALL_SET, [NO_PEOPLE]),
        ("960x960_5s", {}, Guidance(), [NEVER_SAW]),
        ("960x960_5s", None, Guidance(), []),
        ("mini", {}, Guidance(2.0, 3.0, (2,)), [NEVER_SAW]),
        ("mini", None, Guidance(), ["set 2 and 3", "set auto, which is 2"]),
    ],
)
def test_what_does_not_fit_the_weights_is_reported(dreamid, variant, people, guidance, expected):
    model = dreamid.clone()
    note_variant(model, VARIANTS[variant])
    positive = tiny.positive() if people is None else with_people(tiny.positive(), **people)
    notes = notes_for(model, positive, guidance)
    assert len(notes) == len(expected), notes
    assert all(part in note for part, note in zip(expected, notes, strict=True))
    bare = model.clone()
    bare.attachments.clear()
    assert notes_for(bare, positive, guidance) == []


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (torch.empty(1, 48, 31, 44, 80, device="meta"), []),
        (torch.empty(1, 48, 31, 32, 62, device="meta"), []),
        (torch.empty(1, 48, 31, 60, 60, device="meta"), ["1280x704 and 992x512 px; this clip has 960x960"]),
        (torch.empty(1, 48, 61, 44, 80, device="meta"), ["trained on 5 s; this clip has 10.04 s"]),
        (torch.empty(1, 20, 157, device="meta"), []),
        ("a latent", []),
    ],
)
def test_a_clip_that_the_weights_were_not_trained_on_is_reported(dreamid, samples, expected):
    notes = list(clip_notes(dreamid, {"samples": samples}))
    assert len(notes) == len(expected)
    assert all(part in note for note, part in zip(notes, expected, strict=True))
    both = {"samples": NestedTensor([samples, samples])} if isinstance(samples, torch.Tensor) else {}
    assert list(clip_notes(dreamid, both)) == notes


@each_sampler_of_prompts
@pytest.mark.parametrize(("variant", "people", "note"), [("mini", True, NEVER_SAW), ("dreamid_omni", False, NO_PEOPLE)])
def test_every_sampler_warns_once_of_people_that_do_not_fit(dreamid, sample, variant, people, note, caplog):
    model = dreamid.clone()
    note_variant(model, VARIANTS[variant])
    prompts = tiny.positive(), tiny.negative()
    with caplog.at_level(logging.WARNING), torch.inference_mode():
        sample(model, *(with_people(prompt) if people else prompt for prompt in prompts))
    assert sum(note in record.getMessage() for record in caplog.records) == 1


# All in one.


@pytest.fixture
def models(tmp_path, monkeypatch):
    """ComfyUI's folders with DreamID-Omni in bf16 and what goes with it."""
    sound = standins.audio_vae(0)

    def half(prefix: str) -> dict[str, torch.Tensor]:
        return {key.removeprefix(prefix): value for key, value in sound.items() if key.startswith(prefix)}

    files = {
        "diffusion_models": {"dreamid_omni.bf16": {key: value.bfloat16() for key, value in tiny_weights().items()}},
        "text_encoders": {"umt5_xxl_fp16": standins.text_encoder(0)},
        "vae": {"wan2.2_vae": standins.video_vae(0), "v1-16": half("vae."), "best_netG": half("vocoder.")},
    }
    for kind, weights in files.items():
        endings = folder_paths.folder_names_and_paths[kind][1]
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, ([str(tmp_path / kind)], endings))
        os.mkdir(tmp_path / kind)
        for name, values in weights.items():
            save_file(
                {key: value.contiguous() for key, value in values.items()}, tmp_path / kind / f"{name}.safetensors"
            )
    folder_paths.filename_list_cache.clear()
    return tmp_path


def test_all_in_one_loads_it_and_notes_it_on_model_and_clip(models):
    model, clip, *_ = OviPipelineLoader.execute("dreamid_omni").result
    assert noted_variant(model) is noted_variant(clip.patcher) is noted_variant(clip.clone().patcher) is DREAMID
    ((_, options),) = OviTextEncode.execute(clip, "A pier. Audio: gulls").result[0]
    assert options[METADATA_KEY] == "dreamid_omni"


def test_all_in_one_notes_what_is_asked_for_where_the_file_does_not_show_it(models):
    (models / "diffusion_models" / "dreamid_omni.bf16.safetensors").rename(models / "diffusion_models" / "model.sft")
    model, clip, *_ = OviPipelineLoader.execute("720x720_5s").result
    assert noted_variant(model) is noted_variant(clip.patcher) is VARIANTS["720x720_5s"]
