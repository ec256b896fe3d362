"""Workflows that were made on another machine: its file names, and the version that they say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from ovi_native.nodes.sharing import BadRequest, lacking, version
from ovi_native.ovi_core.loading.substitutes import models, published, shared, stand_in

from tools.dev.server import Server
from tools.dev.setup import ROOT
from tools.workflows.parts import LORA

if TYPE_CHECKING:
    from browser import Studio

TEN, FIVE, SQUARE = "model_960x960_10s.safetensors", "model_960x960.safetensors", "model.safetensors"
MINI, OTHER = "ovi_mini.safetensors", "wan2.2_ti2v_5B_fp16.safetensors"


@pytest.mark.parametrize(
    ("asked", "files", "meant"),
    [
        ("Ovi\\model_960x960_10s.safetensors", [FIVE, "ovi/" + TEN], "ovi/" + TEN),  # a Windows path, another case
        ("my_ovi.safetensors", [TEN, "tries/my_ovi.safetensors"], "tries/my_ovi.safetensors"),
        ("my_ovi.safetensors", [TEN, "my_ovi.gguf"], "my_ovi.gguf"),
        ("Ovi-11B-bf16.safetensors", [TEN, FIVE, SQUARE], SQUARE),  # what another pack calls it when it fetches it
        ("Wan2_2-5B-Ovi_960x960_fp8_e4m3fn_scaled_KJ.safetensors", [TEN, FIVE, SQUARE], FIVE),
        ("my_ovi.safetensors", [OTHER, SQUARE, FIVE, MINI], FIVE),
        ("my_ovi.safetensors", [OTHER, MINI], MINI),
        ("my_ovi.safetensors", [OTHER], None),
        ("my_ovi.safetensors", [], None),
    ],
)
def test_the_nearest_model_stands_in(asked: str, files: list[str], meant: str | None):
    assert stand_in(asked, files, models()) == meant


def test_vae_and_vocoder_are_not_taken_for_one_another():
    files = ["best_netG.pt", "wan2.2_vae.safetensors", "mmaudio_vae_16k_bf16.safetensors"]
    assert stand_in("v1-16.pth", files, shared("audio VAE")) == files[2]
    assert stand_in("mmaudio_vocoder_bigvgan_best_netG_bf16.safetensors", files, shared("vocoder")) == files[0]
    assert stand_in("ovi_mini_audio_vae.safetensors", files[:2], shared("audio VAE")) is None


def test_where_a_missing_file_is_published():
    source = published("ovi\\" + TEN)
    assert source == {
        "name": "ovi\\" + TEN,
        "url": "https://huggingface.co/chetwinlow1/Ovi/resolve/main/model_960x960_10s.safetensors",
        "directory": "diffusion_models",
    }
    assert published("my_ovi.safetensors") is None


def test_the_files_that_a_variant_lacks_are_offered_and_those_of_the_small_model_are_there():
    answer = lacking(b'["mini", "720x720_5s", "none", 5]')
    assert list(answer) == ["720x720_5s", "mini"]
    assert answer["mini"] == []
    assert {"diffusion_models"} <= {model["directory"] for model in answer["720x720_5s"]}
    assert all(model["url"].startswith("https://huggingface.co/") for model in answer["720x720_5s"])


@pytest.mark.parametrize("body", [b"", b"{}", b"5", b'"mini"', b"[NaN]"])
def test_a_question_for_missing_files_that_is_no_list_is_refused(body: bytes):
    with pytest.raises(BadRequest):
        lacking(body)


def node(number: int, kind: str, values: list[Any]) -> dict[str, Any]:
    return {"id": number, "type": kind, "pos": [0, 300 * number], "size": [300, 200], "flags": {}, "order": number} | {
        "mode": 0, "inputs": [], "outputs": [], "properties": {}, "widgets_values": values,
    }  # fmt: skip


def graph(*nodes: dict[str, Any]) -> dict[str, Any]:
    return {"version": 0.4, "last_node_id": len(nodes), "last_link_id": 0, "nodes": list(nodes), "links": []}


LOADERS = [
    node(1, "OviModelLoader", ["Ovi\\" + TEN, "Wan_2_2_Ovi_audio_model_bf16.safetensors", "default"]),
    node(2, "OviAudioVAELoader", ["mmaudio\\v1-16.pth", "mmaudio\\best_netG.pt"]),
    node(3, "OviLoraLoader", ["faces\\" + LORA.upper(), 1.0, 1.0]),
]
HERE = {
    "model_name": MINI,
    "audio_model_name": "in the same file",
    "vae_name": "ovi_mini_audio_vae.safetensors",
    "vocoder_name": "in the same file",
    "lora_name": LORA,
}


@pytest.mark.parametrize("newer", [False, True], ids=["classic", "nodes 2.0"])
def test_a_workflow_of_another_machine_opens_with_the_files_of_this_one(page: Studio, newer: bool):
    page.draw_with(newer=newer)
    page.load(graph(*LOADERS), "from elsewhere")
    assert HERE.items() <= page.widgets(*(entry["type"] for entry in LOADERS)).items()
    told = page.page.locator(".p-toast-message-warn", has_text="Ovi").first
    told.wait_for()
    for asked in (TEN, "v1-16.pth", "best_netG.pt", LORA.upper()):
        assert asked in told.inner_text()
    assert page.complaints() == []


def test_what_nothing_can_stand_in_for_is_told_by_the_host(page: Studio):
    page.draw_with(newer=False)
    page.load(graph(node(1, "OviLoraLoader", ["faces.safetensors", 1.0, 1.0])), "lora")
    page.page.wait_for_function("app.graph.nodes[0].has_errors")
    assert page.widgets("OviLoraLoader")["lora_name"] == "faces.safetensors"


def test_saved_nodes_name_the_pack_and_its_version(page: Studio, page_server: Server):
    page.draw_with(newer=False)
    page.load(graph(LOADERS[0]), "versions")
    page.add("OviSampler")
    page.add("KSampler")
    said = {entry["type"]: entry["properties"] for entry in page.graph()["nodes"]}
    ours = {"cnr_id": "comfyui-ovi-native", "ver": version()}
    assert ours.items() <= said["OviModelLoader"].items()
    assert ours.items() <= said["OviSampler"].items()
    assert said["KSampler"].get("cnr_id") != ours["cnr_id"]
    assert f'version = "{version()}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_shipped_workflows_and_blueprints_say_the_version():
    for file in [*(ROOT / "workflows").glob("*.json"), *(ROOT / "subgraphs").glob("*.json")]:
        saved = json.loads(file.read_text(encoding="utf-8"))
        inner = [entry for each in saved.get("definitions", {}).get("subgraphs", []) for entry in each["nodes"]]
        for entry in [*saved["nodes"], *inner]:
            if entry["properties"].get("cnr_id") == "comfyui-ovi-native":
                assert entry["properties"].get("ver") == version(), (file.stem, entry["type"])
