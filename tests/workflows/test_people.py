"""Workflows with reference people, run on a real server: Ovi mini stands for the weights, under their file names."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import safetensors.torch
from browser import find, own_inputs
from ovi_native.ovi_core.loading import manifest
from ovi_native.ovi_core.spec import VARIANTS
from PIL import Image
from servers import INSTALLATION
from small_templates import shrunk

from tools.dev import client, workflow
from tools.dev.clip_check import read_clip
from tools.dev.demo import saved_videos
from tools.dev.server import Server
from tools.dev.setup import ROOT
from tools.workflows import people

MINI = ROOT / "models" / "ovi-mini"
TITLES = sorted(people.PEOPLE)
SMALL: dict[str, dict[str, Any]] = {
    "EmptyOviLatent": {"width": 64, "height": 64, "seconds": 0.4},  # 9 frames
    "OviSampler": {"steps": 2},
    "OviStoryboard": {"width": 64, "height": 64, "overlap_seconds": 0.2, "steps": 1},
}
SHOT, SHORT_SHOT = "shot 5 s", "shot 0.6 s"


def write_standins(models: Path) -> None:
    """The files of Ovi mini under the published names; its audio VAE is published as two files."""
    published = {part.what: part for part in manifest.parts_of(VARIANTS[people.VARIANT])}
    for part in manifest.parts_of(VARIANTS["mini"]):
        file = models / published[part.what].folder / f"{Path(published[part.what].saved_as).stem}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(MINI / part.folder / part.file, file)
    audio = models / published["audio VAE"].folder / f"{Path(published['audio VAE'].saved_as).stem}.safetensors"
    weights = safetensors.torch.load_file(audio)
    vocoder = {key.removeprefix("vocoder."): value for key, value in weights.items() if key.startswith("vocoder.")}
    safetensors.torch.save_file({key: value for key, value in weights.items() if not key.startswith("vocoder.")}, audio)
    name = f"{Path(published['vocoder'].saved_as).stem}.safetensors"
    safetensors.torch.save_file(vocoder, models / published["vocoder"].folder / name)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    base, models = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("models")
    write_standins(models)
    (base / "input").mkdir()
    for file in (ROOT / "assets").glob("ovi_example*"):
        shutil.copy(file, base / "input")
    with Server(INSTALLATION, base, models=models) as running:
        yield running
    shutil.rmtree(models)


@pytest.fixture(scope="module")
def nodes(server: Server) -> dict[str, Any]:
    return client.object_info(server.url)


@pytest.fixture(scope="module")
def page_server(server: Server) -> Server:
    """The server whose page is opened."""
    if find() is None:
        pytest.skip("no Chromium on this machine (Debian: apt install chromium)")
    return server


def small(graph: dict[str, Any], nodes: dict[str, Any]) -> dict[str, Any]:
    """The prompt of a workflow, made small."""
    prompt = workflow.to_prompt(graph, nodes)
    for node in prompt.values():
        node["inputs"] |= SMALL.get(node["class_type"], {})
        if "script" in node["inputs"]:
            node["inputs"]["script"] = node["inputs"]["script"].replace(SHOT, SHORT_SHOT)
    return prompt


def with_file(prompt: dict[str, Any], name: str, other: str) -> dict[str, Any]:
    """The prompt with another file wherever it names ``name``."""
    for node in prompt.values():
        for key, value in node["inputs"].items():
            if isinstance(value, str):
                node["inputs"][key] = value.replace(name, other)
    return prompt


def frames_of(file: Path) -> np.ndarray:
    """Decoded frames [F, H, W, 3]."""
    with av.open(str(file)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def saved(server: Server, prompt: dict[str, Any]) -> Path:
    (file,) = saved_videos(client.run_prompt(server.url, prompt), server.base)
    return file


@pytest.mark.parametrize("title", TITLES)
def test_a_workflow_with_people_runs_to_a_clip_with_sound(title: str, server: Server, nodes: dict[str, Any]):
    facts = read_clip(saved(server, small(workflow.load(ROOT / "workflows" / f"{title}.json"), nodes)))
    shots = 3 if "Storyboard" in title else 1
    assert facts.frames >= 9 * shots
    assert (facts.width, facts.height, facts.fps) == (64, 64, 24)
    assert facts.audio_seconds == pytest.approx(facts.video_seconds, abs=0.1)


@pytest.mark.parametrize("title", TITLES)
def test_the_last_persons_face_reaches_the_frames(title: str, server: Server, nodes: dict[str, Any]):
    """With its picture turned to black the clip is another; with the same picture of another name it is not."""
    graph = workflow.load(ROOT / "workflows" / f"{title}.json")
    name = people.EXAMPLES[0 if "One" in title else 1][0]
    folder = server.base / "input"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / "black.png")
    shutil.copy(folder / name, folder / "same.jpg")
    before, black, same = (
        frames_of(saved(server, with_file(small(graph, nodes), name, other)))
        for other in (name, "black.png", "same.jpg")
    )
    assert np.array_equal(before, same)
    assert not np.array_equal(before, black)


def test_every_workflow_with_people_opens_in_the_page_with_all_its_links_and_runs(page: Any, nodes: dict[str, Any]):
    page.open()
    for title in TITLES:
        graph = workflow.load(ROOT / "workflows" / f"{title}.json")
        page.load(graph, title)
        meant = {key: node["inputs"] for key, node in workflow.to_prompt(graph, nodes).items()}
        assert {key: own_inputs(node["inputs"]) for key, node in page.prompt().items()} == meant, title
        page.load(shrunk(graph, nodes, SMALL, lambda text: text.replace(SHOT, SHORT_SHOT)), title)
        seen = page.run()
        assert seen["end"][0] == "execution_success", (title, seen["end"])
        assert page.complaints() == [], title
