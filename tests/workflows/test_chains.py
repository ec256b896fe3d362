"""Every chain, run on a real server: another system's stock nodes on one side, ours with small weights on the other.

The other systems have stand-in weights (tests/support/chain_standins.py) where ComfyUI lets their sizes shrink; where
it does not, a clip as that system gives it, or the output of its text encoder, is fed in.
``docs/chains.md`` says which.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import av
import chain_standins
import numpy as np
import pytest
import torch
from comfy_api.latest import InputImpl, Types
from servers import INSTALLATION

from tools.dev import client, workflow
from tools.dev.clip_check import ClipFacts, read_clip
from tools.dev.demo import saved_videos
from tools.dev.server import Server
from tools.dev.setup import ROOT
from tools.workflows import catalogue, chains

TITLES = sorted(chains.CHAINS)
PAGE = ROOT / "docs" / "chains.md"
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
DECODED = 2 * 512 / 16000  # seconds that the decoded sound of a short clip may end before its pictures
SMALL: dict[str, dict[str, Any]] = {
    "EmptyOviLatent": {"width": 64, "height": 64, "seconds": 0.4},  # 9 frames
    "OviSampler": {"steps": 1},
    "KSampler": {"steps": 1},
    "LTXVScheduler": {"steps": 2},  # it divides by nothing at 1
    "BasicScheduler": {"steps": 1},
    "ManualSigmas": {"sigmas": "0.5, 0.0"},
    "EmptyLatentImage": {"width": 64, "height": 64},
    "EmptyLTXVLatentVideo": {"width": 64, "height": 64, "length": 9},
    "EmptyHunyuanLatentVideo": {"width": 64, "height": 32, "length": 5},
    "Wan22ImageToVideoLatent": {"width": 64, "height": 32, "length": 5},
}


@dataclass(frozen=True)
class Given:
    """A clip as another system's documentation says it is, but for the pictures: frames, rate, pixels a side."""

    frames: int
    fps: int
    width: int
    height: int

    @property
    def file(self) -> str:
        return f"{self.frames}_frames_at_{self.fps}.mp4"


@dataclass(frozen=True)
class Chain:
    """What a chain is run with, and what it has to give.

    Attributes:
        frames, fps, width, height: of the saved clip.
        text: name of the conditioning in TEXTS that stands for a text encoder too large for this machine.
        clip: in place of the other system's nodes.
        changed: widgets by node type, on top of SMALL.
        vae_of_ovi: the VAE is Ovi's too, and that of the small weights takes the place of the published one.
    """

    frames: int
    fps: int
    width: int = 64
    height: int = 64
    text: str = ""
    clip: Given | None = None
    changed: dict[str, dict[str, Any]] = field(default_factory=dict)
    vae_of_ovi: bool = False


TEXTS = {  # positions, width, width of the pooled vector
    "clip l and g": (77, 2048, 1280),
    "t5": (226, 4096, 0),
    "umt5": (512, 4096, 0),
    "llama and clip l": (32, 4096, 768),
}
MOCHI, ANIMATEDIFF, OPEN_SORA = Given(163, 30, 212, 120), Given(16, 8, 128, 128), Given(129, 24, 256, 256)
CHAINS = {
    "21 SD 1.5 image to clip": Chain(9, 24),
    "22 SDXL image to clip": Chain(9, 24, text="clip l and g"),
    "23 AnimateDiff to sound": Chain(16, 8, 128, 128, clip=ANIMATEDIFF),
    "28 Open-Sora to sound": Chain(129, 24, 256, 256, clip=OPEN_SORA),
    "26 LTX-Video to sound": Chain(9, 25, text="t5"),
    "25 HunyuanVideo to sound": Chain(
        5, 24, 64, 32, text="llama and clip l", changed={"VAELoader": {"vae_name": "taehv.safetensors"}}
    ),
    "27 Mochi to sound": Chain(163, 30, 212, 120, clip=MOCHI),
    "29 Wan 2.1 to sound": Chain(5, 16, 64, 32, text="umt5"),
    "30 Wan 2.2 to sound": Chain(5, 24, 64, 32, text="umt5", vae_of_ovi=True),
    # From an odd number of latent steps; from an even one its VAE makes 4 frames a step.
    "24 CogVideoX to sound": Chain(
        9, 8, 32, 32, text="t5", changed={"EmptyHunyuanLatentVideo": {"width": 32, "length": 9}}
    ),
    "31 Ovi to LTX upscale": Chain(9, 24, 128, 128, text="t5"),
    "33 Ovi to more frames a second": Chain(17, 48),
    "32 Ovi to upscaling": Chain(9, 24, 128, 128),
    "34 Ovi to music and voice mix": Chain(25, 24, changed={"EmptyOviLatent": {"seconds": 1.0}}),
}
LOCKED = [title for title in CHAINS if title.endswith("to sound")]
AFTER = [title for title in CHAINS if " Ovi to " in title]
STILLS = [title for title in CHAINS if title.endswith("image to clip")]


@dataclass(frozen=True)
class Run:
    """A chain that has run.

    Attributes:
        nodes, replaced: types of its stock nodes that ran, and of those that something stood in for.
        saved: the chain's clip.
        before: what its last part was given: locked frames, a start picture, or Ovi's own clip.
    """

    nodes: set[str]
    replaced: set[str]
    saved: Path
    before: Path

    @cached_property
    def facts(self) -> ClipFacts:
        return read_clip(self.saved)


def frames_of(file: Path) -> np.ndarray:
    """Decoded frames [F, H, W, 3], 0 to 255."""
    with av.open(str(file)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(np.int16)


def sound_of(file: Path) -> np.ndarray:
    """Decoded samples [S] at 16 kHz, channels mixed."""
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=16000)
    with av.open(str(file)) as container:
        frames = [*container.decode(audio=0), None]
        return np.concatenate([part.to_ndarray()[0] for frame in frames for part in resampler.resample(frame)])


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Mean difference of each frame from its counterpart [F]."""
    return np.abs(one - other).mean(axis=(1, 2, 3))


def write_clip(file: Path, given: Given) -> None:
    """An MP4 whose frames all differ, by far more than an encoder loses: wide bands walk, and red comes in."""
    places, number = torch.linspace(0, 2, given.width), torch.arange(given.frames)[:, None]
    bands = 0.5 + 0.4 * torch.sin(2 * torch.pi * (places - 0.13 * number))
    frames = bands[:, None, :, None].repeat(1, given.height, 1, 3)
    frames[..., 0] = (number / given.frames)[..., None]
    parts = Types.VideoComponents(images=frames, frame_rate=Fraction(given.fps), audio=None)
    InputImpl.VideoFromComponents(parts).save_to(str(file))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the small weights of Ovi, which the pack brings, stand-ins of all others, and what is fed in."""
    base, models = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("models")
    chain_standins.write(models)
    for name, (folder, _) in chains.FILES.items():  # of what is not run the page wants names, too
        (models / folder).mkdir(exist_ok=True)
        (models / folder / name).touch()
    (base / "input").mkdir()
    for file in (ROOT / "assets").glob("ovi_example*"):
        shutil.copy(file, base / "input")
    for chain in CHAINS.values():
        if chain.clip:
            write_clip(base / "input" / chain.clip.file, chain.clip)
    for name, sizes in TEXTS.items():
        folder = base / "datasets" / name
        folder.mkdir(parents=True)
        (folder / "metadata.json").write_text("{}", encoding="utf-8")
        encoded = {"latents": [], "conditioning": [chain_standins.conditioning(*sizes)]}
        torch.save(encoded, folder / "shard_0000.pkl")
    with Server(INSTALLATION, base, models=models) as running:
        yield running
    shutil.rmtree(models)  # 1 GB, which pytest would keep for its last three runs


@pytest.fixture(scope="module")
def nodes(server: Server) -> dict[str, Any]:
    return client.object_info(server.url)


@pytest.fixture(scope="module")
def runs(server: Server, nodes: dict[str, Any]) -> Any:
    """Runs a chain by its title, once."""
    done: dict[str, Run] = {}

    def run(title: str) -> Run:
        if title not in done:
            graph = catalogue.graph(title, nodes, [], "mini")
            stock = {key: node["class_type"] for key, node in workflow.to_prompt(graph, nodes).items()}
            stock = {key: kind for key, kind in stock.items() if not kind.startswith(("Ovi", "EmptyOvi", "SaveVideo"))}
            prompt = Prompt(workflow.to_prompt(graph, nodes), CHAINS[title]).nodes
            files = list(saved_videos(client.run_prompt(server.url, prompt), server.base))
            (before,) = [file for file in files if file.name.startswith("before")]
            (saved,) = [file for file in files if file != before]
            ran = {kind for key, kind in stock.items() if key in prompt}
            done[title] = Run(ran, set(stock.values()) - ran, saved, before)
        return done[title]

    return run


class Prompt:
    """A workflow's prompt, made small, with what cannot be run here replaced, and a second clip to compare with."""

    def __init__(self, nodes: dict[str, Any], chain: Chain):
        self.nodes, self.chain = nodes, chain
        for node in nodes.values():
            kind = node["class_type"]
            for name, value in {**SMALL.get(kind, {}), **chain.changed.get(kind, {})}.items():
                if kind == "EmptyOviLatent" or not isinstance(node["inputs"][name], list):
                    node["inputs"][name] = value
        if chain.text:
            self._feed("CLIPTextEncode", ["text", 1], text=("LoadTrainingDataset", {"folder_name": chain.text}))
        if chain.vae_of_ovi:
            self._feed("VAELoader", [self._only("OviPipelineLoader"), 2])
        self._compare()
        self._prune()

    def _only(self, kind: str) -> str:
        (key,) = [key for key, node in self.nodes.items() if node["class_type"] == kind]
        return key

    def _feed(self, kind: str, source: list, **added: tuple[str, dict]) -> None:
        """Give ``source`` to every input that a node of this type feeds."""
        self.nodes |= {key: {"class_type": type_, "inputs": inputs} for key, (type_, inputs) in added.items()}
        replaced = {key for key, node in self.nodes.items() if node["class_type"] == kind}
        for node in self.nodes.values():
            for name, value in node["inputs"].items():
                if isinstance(value, list) and value[0] in replaced:
                    node["inputs"][name] = source

    def _add(self, key: str, kind: str, **inputs: Any) -> str:
        self.nodes[key] = {"class_type": kind, "inputs": inputs}
        return key

    def _lock_given(self, file: str, lock: dict[str, Any]) -> None:
        """Lock the clip that is fed in: by the workflow's own nodes where it loads a file."""
        if any(node["class_type"] == "LoadVideo" for node in self.nodes.values()):
            self.nodes[self._only("LoadVideo")]["inputs"]["file"] = file
        else:
            self._add("clip", "LoadVideo", file=file)
            self._add("parts", "GetVideoComponents", video=["clip", 0])
            lock["images"] = ["parts", 0]

    def _compare(self) -> None:
        """Save also what the chain's last part was given: locked frames, a start picture, or Ovi's own clip."""
        given = {node["class_type"]: node["inputs"] for node in self.nodes.values()}
        video: list[Any] = [self._only("OviDecode"), 2]
        if lock := given.get("OviLockVideo"):
            if self.chain.clip:
                self._lock_given(self.chain.clip.file, lock)
            video = [self._add("create", "CreateVideo", images=lock["images"], fps=lock["frame_rate"]), 0]
        elif start := given.get("OviImageToVideo"):
            self._add("encode", "VAEEncode", pixels=start["start_image"], vae=start["vae"])
            self._add("decode", "VAEDecode", samples=["encode", 0], vae=start["vae"])
            video = [self._add("create", "CreateVideo", images=["decode", 0], fps=24.0), 0]
        self._add("before", "SaveVideo", video=video, filename_prefix="before", format="mp4", codec="h264")

    def _prune(self) -> None:
        """Take out what no saved clip depends on."""
        kept: set[str] = set()
        open_ = [key for key, node in self.nodes.items() if node["class_type"] in ("SaveVideo", "OviSaveVideo")]
        while open_:
            key = open_.pop()
            kept.add(key)
            open_ += [value[0] for value in self.nodes[key]["inputs"].values() if isinstance(value, list)]
        self.nodes = {key: node for key, node in self.nodes.items() if key in kept}


@pytest.mark.parametrize("title", TITLES)
def test_a_chain_runs_to_a_clip_with_sound(title: str, runs: Any):
    chain, facts = CHAINS[title], runs(title).facts
    assert (facts.frames, facts.fps, facts.width, facts.height) == (chain.frames, chain.fps, chain.width, chain.height)
    assert facts.video_seconds == pytest.approx(chain.frames / chain.fps, abs=1e-3)
    late = facts.video_seconds - facts.audio_seconds
    assert abs(late) <= (DECODED if title in AFTER else 1 / 24) + 1e-3
    assert (facts.video_codec, facts.audio_codec) == ("h264", "aac")
    assert sound_of(runs(title).saved).any()


@pytest.mark.parametrize("title", LOCKED)
def test_frames_that_another_system_made_come_back_as_they_were(title: str, runs: Any):
    """Each is much nearer to itself before than to its neighbour: what is left is the video encoder's."""
    before, after = frames_of(runs(title).before), frames_of(runs(title).saved)
    assert before.shape == after.shape
    assert distances(before, after).max() < 0.25 * distances(before[1:], before[:-1]).mean()


@pytest.mark.parametrize("title", STILLS)
def test_a_still_becomes_the_first_frame(title: str, runs: Any):
    """As the video VAE shows it: the still alone, encoded and decoded, is what the frame is held against."""
    still, frames = frames_of(runs(title).before), frames_of(runs(title).saved)
    first, *others = distances(frames, still)
    assert first < 0.25 * min(others)


@pytest.mark.parametrize("title", [title for title in AFTER if not title.endswith("mix")])
def test_sound_stays_as_it_is_when_another_system_changes_the_pictures(title: str, runs: Any):
    before, after = (sound_of(file)[:4000] for file in (runs(title).before, runs(title).saved))
    assert len(after) == 4000
    assert np.abs(after - before).max() <= 0.01 * np.abs(before).max()


def test_frames_are_put_between_those_of_ovi(runs: Any):
    """The stand-in's frames are noise, so those that are not from Ovi are seen at once."""
    run = runs("33 Ovi to more frames a second")
    before, after = frames_of(run.before), frames_of(run.saved)
    assert distances(after[::2], before).max() < 0.1 * distances(after[1::2], before[:-1]).min()


def test_a_voice_sets_in_after_its_pause_and_the_sound_of_ovi_goes_on(runs: Any):
    run = runs("34 Ovi to music and voice mix")
    before, after = sound_of(run.before), sound_of(run.saved)
    voice = sound_of(ROOT / "assets" / "ovi_example_voice.flac")
    pause, spoken = slice(0, 7200), slice(8000, 14400)  # it begins at 0.5 s
    assert np.corrcoef(after[pause], before[pause])[0, 1] > 0.5
    assert np.corrcoef(after[spoken] - before[spoken], voice[:6400])[0, 1] > 0.5


@pytest.mark.parametrize("title", TITLES)
def test_the_clip_says_what_of_it_ai_made(title: str, runs: Any):
    part = title in LOCKED or title.endswith("mix")
    kind = "compositeWithTrainedAlgorithmicMedia" if part else "trainedAlgorithmicMedia"
    with av.open(str(runs(title).saved)) as container:
        assert container.metadata["digital_source_type"].strip('"') == SOURCE_TYPES + kind


@pytest.mark.parametrize("title", TITLES)
def test_the_page_says_what_was_run_with_what(title: str, runs: Any):
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    (row,) = [line.split("|")[1:-1] for line in lines if line.startswith(f"| {title} |")]
    run, facts = runs(title), runs(title).facts
    assert [set(re.findall(r"`(\w+)`", cell)) for cell in row[1:3]] == [run.nodes, run.replaced]
    assert row[4].strip() == f"{facts.frames} frames at {facts.fps:g}, {facts.width}×{facts.height}"
