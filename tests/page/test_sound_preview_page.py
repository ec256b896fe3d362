"""Sound that is heard while a run goes on, on a real server and in ComfyUI's page."""

from __future__ import annotations

import asyncio
import io
import json
import os
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

import aiohttp
import av
import numpy as np
import pytest
from browser import Studio, find, studio
from servers import INSTALLATION

from tools import standins
from tools.dev.server import Server

SECONDS, STEPS, EVERY = 1.0, 6, 2
# Presses play as soon as there is a sound, and writes down whether the run was over by then.
HEARD = """() => { window.heard = [];
  for (const kind of ['loadeddata', 'playing'])
    document.addEventListener(kind, event => { if (event.target.tagName === 'AUDIO')
      heard.push({kind, seconds: event.target.duration, over: seen.end !== null});
      if (kind === 'loadeddata') event.target.play(); }, true); }"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("models")
    standins.make(models)
    with Server(INSTALLATION, tmp_path_factory.mktemp("base"), models=models) as running:
        yield running


def prompt(seed: int, steps: int = STEPS) -> dict[str, Any]:
    """A clip of noise, listened to while it is made, and its sound at the end."""
    nodes = {
        "1": ("OviPipelineLoader", {"variant": "mini", "precision": "bf16"}),
        "2": ("OviTextEncode", {"clip": ["1", 1], "prompt": "A bell rings.", "variant": "mini"}),
        "3": ("EmptyOviLatent", {"width": 64, "height": 64, "seconds": SECONDS, "batch_size": 1}),
        "4": ("OviPreviewSound", {"model": ["1", 0], "audio_vae": ["1", 3], "every_steps": EVERY}),
        "5": (
            "KSampler",
            {
                "model": ["4", 0],
                "positive": ["2", 0],
                "negative": ["2", 0],
                "latent_image": ["3", 0],
                "seed": seed,
                "steps": steps,
                "cfg": 1.0,
                "sampler_name": "euler",
                "scheduler": "simple",
                "denoise": 1.0,
            },
        ),
        "6": ("VAEDecodeAudio", {"samples": ["5", 0], "vae": ["1", 3]}),
        "7": ("PreviewAudio", {"audio": ["6", 0]}),
    }
    return {key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in nodes.items()}


def test_what_is_heard_while_the_run_goes_on_becomes_the_sound_of_the_clip(server: Server):
    events = asyncio.run(events_of(server.url, prompt(1)))
    assert events[-1][0] == "execution_success"
    shown = [(data["node"], data["output"]["audio"][0]) for kind, data in events if kind == "executed"]
    assert [node for node, _ in shown] == ["4"] * (STEPS // EVERY) + ["7"]
    *heard, final = [sound_of(server.url, file) for _, file in shown]
    for sound in heard:
        assert abs(len(sound) / 16_000 - SECONDS) < 0.1
        assert sounding_bands(sound) > 100
    assert likeness(heard[-1], final) > 0.999
    assert likeness(heard[0], final) < 0.99


def test_a_stopped_run_is_heard_no_more(server: Server):
    events = asyncio.run(events_of(server.url, prompt(2, steps=200), stop_at_first_sound=True))
    assert events[-1][0] == "execution_interrupted"
    assert 1 <= len([data for kind, data in events if kind == "executed"]) < 10


async def events_of(url: str, wanted: dict[str, Any], stop_at_first_sound: bool = False) -> list[tuple[str, dict]]:
    """What the server tells a page of a run, in order, to its end."""
    client, seen = uuid.uuid4().hex, []
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/ws?clientId={client}") as socket:
        async with session.post(f"{url}/prompt", json={"prompt": wanted, "client_id": client}) as answer:
            accepted = await answer.json()
            assert accepted["node_errors"] == {}
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            event = json.loads(message.data)
            kind, data = event["type"], event["data"]
            if data.get("prompt_id") != accepted["prompt_id"]:
                continue
            seen.append((kind, data))
            if kind == "executed" and stop_at_first_sound:
                await session.post(f"{url}/interrupt")
            if kind in ("execution_success", "execution_error", "execution_interrupted"):
                break
    return seen


def sound_of(url: str, file: dict[str, str]) -> np.ndarray:
    """Samples [S] of a file that the server shows, at 16 kHz, read by libav."""
    with urllib.request.urlopen(f"{url}/view?{urllib.parse.urlencode(file)}") as answer:
        data = io.BytesIO(answer.read())
    with av.open(data) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.rate, stream.channels) == ("flac", 16_000, 1)
        resampler = av.AudioResampler(format="flt", layout="mono")
        frames = [out for frame in container.decode(stream) for out in resampler.resample(frame)]
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


def sounding_bands(sound: np.ndarray) -> int:
    """How many of 513 bands of the spectrum up to 8 kHz are louder than -80 dB."""
    columns = np.lib.stride_tricks.sliding_window_view(sound, 1024)[::256] * np.hanning(1024)
    return int((np.abs(np.fft.rfft(columns)).mean(axis=0) / 256 > 1e-4).sum())


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two sounds, whatever their loudness."""
    length = min(len(a), len(b))
    return float(np.corrcoef(a[:length], b[:length])[0, 1])


@pytest.fixture(scope="module")
def page(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    chromium = find()
    if chromium is None:
        assert not os.environ.get("OVI_NEED_BROWSER"), "There is no Chromium, and OVI_NEED_BROWSER asks for one."
        pytest.skip("no Chromium on this machine: the page was not tested (Debian: apt install chromium)")
    with studio(chromium, server.url, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("newer", [False, True], ids=["classic", "nodes 2.0"])
def test_the_nodes_player_plays_while_the_run_goes_on(page: Studio, newer: bool):
    page.open(Comfy__VueNodes__Enabled=newer)
    page.page.evaluate(HEARD)
    page.page.evaluate("prompt => app.loadApiJson(prompt, 'heard')", prompt(3 + newer, steps=16))
    page.holds([node["class_type"] for node in prompt(0).values()])
    seen = page.run()
    assert seen["end"][0] == "execution_success", seen["end"]
    heard = page.page.evaluate("heard")
    early = [event for event in heard if not event["over"]]
    assert {event["kind"] for event in early} == {"loadeddata", "playing"}
    assert all(abs(event["seconds"] - SECONDS) < 0.1 for event in early)
    assert page.complaints() == []
