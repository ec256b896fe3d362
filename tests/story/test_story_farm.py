"""Shots made by several processes of a Ray cluster on this machine, of which one is killed."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import native_cases
import psutil
import pytest
import ray
import story_cases as story
import torch
from film_cases import assert_same_film
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.story import farm, farm_worker, script
from ovi_native.ovi_core.story.models import Models
from ovi_native.ovi_core.story.plan import Voice, plan_shots
from ovi_native.ovi_core.story.shot_maker import ShotMaker
from ovi_native.ovi_core.text.umt5 import read_text_encoder
from ovi_native.ovi_core.vae.audio_vae import read_audio_vae
from ovi_native.ovi_core.vae.video_vae import read_video_vae
from ovi_native.tools import standins
from safetensors.torch import save_file

from tools.convert import convert


@pytest.fixture(scope="module")
def cluster():
    os.environ.update(RAY_worker_niceness="0")  # else they starve where other work goes on
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Models that were loaded from files, with a LoRA."""
    folder = tmp_path_factory.mktemp("models")
    paths = {name: str(folder / f"{name}.safetensors") for name in ("text_encoder", "video_vae", "audio_vae")}
    for name, path in paths.items():
        save_file(getattr(standins, name)(0), path)
    model = native_cases.with_lora(load_model(native_cases.write_tiny(folder)), native_cases.small_lora())
    vaes = read_video_vae(paths["video_vae"]), read_audio_vae(paths["audio_vae"])
    return Models(model, read_text_encoder(paths["text_encoder"]), *vaes)


def planned(models, store, text=story.SCRIPT, *load, **changed):
    """What farm.make is given: who makes shots here, and their plans."""
    settings, load = story.settings(**changed), load or (None,)
    plans = plan_shots(script.parse(text), settings, models.identity(), False, *load)
    return ShotMaker(models, settings, store, *load), plans


def kill_a_worker(patience=60.0):
    """End the first process that is seen at a shot, or loading the models for one, as when a machine breaks down."""
    for _ in range(round(patience / 0.01)):
        processes = psutil.process_iter(["cmdline"])
        titles = {process.pid: " ".join(process.info["cmdline"] or []) for process in processes}
        busy = [[pid for pid, title in titles.items() if f"ray::Worker.{task}" in title] for task in ("make", "start")]
        if found := busy[0] or busy[1]:
            os.kill(found[0], signal.SIGKILL)
            return found[0]
        time.sleep(0.01)
    raise TimeoutError("no worker was at a shot")


def test_a_lost_worker_costs_its_shot_only(cluster, models, tmp_path, monkeypatch):
    hired, killed, lines = [], [], []
    killer = ThreadPoolExecutor(1)  # beside the farm, which may have both workers idle while it speaks
    hire = farm._Farm.hire
    monkeypatch.setattr(farm._Farm, "hire", lambda self: hired.append(1) or hire(self))

    def show(line):
        lines.append(line)
        if line.startswith("1 of 4"):
            killed.append(killer.submit(kill_a_worker))

    maker, plans = planned(models, story.store(tmp_path / "farm"))
    took = farm.make(maker, "auto", plans, show, workers=2)
    assert [bool(kill.result()) for kill in killed] == [True]
    assert len(hired) == 3
    assert set(took) == {plan.key for plan in plans}
    assert [line.split(" shots")[0] for line in lines[1:]] == [f"{n} of 4" for n in (1, 2, 3, 4)]
    film, report = story.rendered(tmp_path / "farm", models=models)
    assert report.count("from the store") == 4
    here, _ = story.rendered(tmp_path / "here", models=models)
    assert_same_film(plans, (tmp_path / "farm", film), (tmp_path / "here", here))


def test_faces_and_voices_go_to_the_machines(cluster, models, tmp_path):
    text = """cast Anna: face a.png, voice a.wav
    shot 0.4 s
    with: Anna
    scene: x
    picture: p.png""".replace("    ", "")
    images = {"a.png": torch.rand(1, 40, 36, 3), "p.png": torch.rand(1, 32, 64, 3)}
    voice = Voice({"waveform": 0.3 * torch.randn(1, 2, 48_000), "sample_rate": 16_000}, 1.0, 0.0)
    load = (images.__getitem__, lambda name, start: voice)
    made = []
    for name, make in (("farm", partial(farm.make, address="auto", workers=1)), ("here", here)):
        maker, plans = planned(models, story.store(tmp_path / name), text, *load, variant="dreamid_omni", steps=1)
        make(maker, plans=plans, show=lambda line: None)
        made.append(maker.store.shot(plans[0].key).read_bytes())
    assert made[0] == made[1]


def here(maker, plans, show):
    with torch.inference_mode():
        for plan in plans:
            maker.make(plan, lambda step, steps, preview: None)


def test_quantised_models_that_another_machine_has_loaded_make_shots(models, tmp_path):
    """ComfyUI moves quantised weights, where it runs nodes, only if they were loaded where it runs nodes."""
    convert([Path(native_cases.write_tiny(tmp_path))], tmp_path / "fp8.safetensors", "fp8")
    with torch.inference_mode():
        ours = models._replace(model=load_model(str(tmp_path / "fp8.safetensors")))
    theirs = farm_worker.Loaded.of(ours, ours.identity()).load()
    with torch.inference_mode():
        found, expected = (native_cases.sample(who.model).unbind() for who in (theirs, ours))
    assert all(torch.equal(*parts) for parts in zip(found, expected, strict=True))


def test_a_model_that_cannot_be_described_is_refused(cluster, models, tmp_path):
    patched = models.model.clone()
    patched.set_model_attn1_output_patch(lambda x, options: x * 0.5)
    maker, plans = planned(models._replace(model=patched), story.store(tmp_path))
    with pytest.raises(OviError, match="became others"):
        farm.make(maker, "auto", plans, lambda line: None, workers=1)


def test_a_model_of_no_file_is_refused(models, tmp_path):
    loose = models._replace(vae=native_cases.small_vaes()[0])
    with pytest.raises(OviError, match="no file") as caught:
        farm.Loaded.of(loose, "")
    assert caught.value.input == "vae"
