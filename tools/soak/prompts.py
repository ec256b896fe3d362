"""Prompts of a long day: the shipped workflows at tiny sizes, some of them interrupted, some of them wrong."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from ..dev import workflow
from ..dev.clip_check import frames_for
from ..workflows import catalogue
from ..workflows.parts import SMALL

SIZES = (64, 96)
SECONDS = (0.4, 0.5, 0.7)
MANY_STEPS = 400  # of a prompt that is interrupted
INTERRUPTED, WRONG = 0.15, 0.12  # shares
OTHER_LENGTH = ("OviLockVideo", "OviLockAudio", "OviExtend", "OviStoryboard", "OviVoice")
"""Nodes after which a clip is not as long as its Empty Ovi Latent says."""
WRONG_INPUTS: tuple[tuple[str, str, Any, str], ...] = (
    ("OviSampler", "skip_layers", "99", "skip_layers"),
    ("OviTextEncode", "prompt", "A ball says <S>unclosed.", "prompt"),
    ("OviStoryboard", "script", "shot one s\nscene: A ball.", "script"),
    ("OviKeepSpan", "video_spans", "2-1", "video_spans"),
    ("OviLoraLoader", "lora_name", "broken.safetensors", "lora_name"),
)
"""Node, input, value, and what the error has to name."""
SCRIPT = (
    "shot 0.5 s\nscene: A large purple rubber ball bounces.\n\nshot 0.7 s, go on\nscene: It rolls.\nsound: Thuds.\n"
)


@dataclass(frozen=True)
class Order:
    """One prompt and how it is to end.

    Attributes:
        interrupt: seconds after which it is interrupted; None to let it run.
        refused: what its error has to name; "" where it is to succeed.
        frames, size: of the clip, where the prompt says so.
    """

    title: str
    prompt: dict[str, Any]
    interrupt: float | None = None
    refused: str = ""
    frames: int | None = None
    size: tuple[int, int] | None = None


def graphs(nodes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The templates that run with what the pack brings, by title, set for Ovi mini."""
    titles = [title for title in catalogue.WORKFLOWS if not catalogue.needs_other_weights(title)]
    return {title: catalogue.graph(title, nodes, [], SMALL) for title in titles if catalogue.TRY not in title}


def orders(nodes: dict[str, Any], seed: int) -> Iterator[Order]:
    """Prompts without end; ``nodes`` is the server's ``/object_info``."""
    random = Random(seed)
    prompts = {title: workflow.to_prompt(graph, nodes) for title, graph in graphs(nodes).items()}
    while True:
        for title in random.sample(sorted(prompts), len(prompts)):
            yield _order(random, title, small(copy.deepcopy(prompts[title]), random))


def _order(random: Random, title: str, prompt: dict[str, Any]) -> Order:
    kind = random.random()
    wrong = [entry for entry in WRONG_INPUTS if any(node["class_type"] == entry[0] for node in prompt.values())]
    if kind < WRONG and wrong:
        node, name, value, named = random.choice(wrong)
        return Order(title, _with(prompt, node, **{name: value}), refused=named)
    samplers = any(node["class_type"] == "OviSampler" for node in prompt.values())
    if kind < WRONG + INTERRUPTED and samplers:
        return Order(title, _with(prompt, "OviSampler", steps=MANY_STEPS), interrupt=random.uniform(0.2, 4.0))
    return Order(title, prompt, None, "", *_promised(prompt))


def small(prompt: dict[str, Any], random: Random) -> dict[str, Any]:
    """The prompt at a tiny size and length, with few steps and another seed."""
    width, height, seconds = random.choice(SIZES), random.choice(SIZES), random.choice(SECONDS)
    prompt = _with(prompt, "EmptyOviLatent", True, width=width, height=height, seconds=seconds)
    prompt = _with(prompt, "OviSampler", steps=random.randint(1, 3))
    prompt = _with(prompt, "OviStoryboard", True, width=64, height=64, steps=1, overlap_seconds=0.2, script=SCRIPT)
    prompt = _with(prompt, "OviExtend", True, seconds=0.7, overlap_seconds=0.2)
    prompt = _with(prompt, "OviJoin", overlap_seconds=0.2)
    prompt = _with(prompt, "OviKeepSpan", video_spans="0.1-0.2", audio_spans="0.1-0.2")
    prompt = _with(prompt, "OviContextWindows", variant="mini")
    return workflow.set_seed(prompt, random.randrange(2**32))


def _with(prompt: dict[str, Any], kind: str, linked: bool = False, /, **values: Any) -> dict[str, Any]:
    """``prompt`` with these widgets of every node of a kind that has them; links stay, unless ``linked``."""
    for node in prompt.values():
        if node["class_type"] == kind:
            inputs = node["inputs"]
            inputs |= {n: v for n, v in values.items() if n in inputs and (linked or not isinstance(inputs[n], list))}
    return prompt


def _promised(prompt: dict[str, Any]) -> tuple[int | None, tuple[int, int] | None]:
    """Frames and size of the clip; None where it follows from what is given."""
    kinds = {node["class_type"] for node in prompt.values()}
    latents = [node["inputs"] for node in prompt.values() if node["class_type"] == "EmptyOviLatent"]
    if len(latents) != 1 or kinds & {*OTHER_LENGTH}:
        return None, None
    (latent,) = latents
    frames = frames_for(latent["seconds"])  # of each clip of a batch, which has a file of its own
    loops = any(node["inputs"].get("loop") for node in prompt.values() if node["class_type"] == "OviDecode")
    size = None if "LatentUpscaleBy" in kinds else (latent["width"], latent["height"])
    return (None if loops else frames), size
