"""Weights of the next block pair are fetched ahead: ComfyUI's own queue, on a simulated card.

On a CPU ComfyUI pages nothing in. Its queue's code runs here all the same, as if the device could; where it would copy
layers, the card notes which. That shows what is fetched and when. What is gained takes a card to measure.
"""

from __future__ import annotations

from types import SimpleNamespace

import comfy.memory_management
import pytest
import torch
from comfy import model_prefetch
from fusion_cases import CASES, FORWARD_CASES, Inputs, sizes, write_model
from ovi_native.ovi_core.latents import joint
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.network import comfyui, weight_prefetch
from ovi_native.ovi_core.network.cross_modal import KEY
from ovi_native.ovi_core.network.run_cache import RunCache

CASE = next(case for name, case in CASES.items() if name in FORWARD_CASES)
INPUTS = Inputs(CASE)


class Card:
    """What ComfyUI's queue asks of a card: everything is possible, and nothing is copied."""

    def __init__(self, transformer):
        self.copies: list[list[str]] = []
        self.read: list[tuple[str, bool]] = []
        self.names = {
            layer: name for name, layer in transformer.named_modules() if hasattr(layer, "comfy_cast_weights")
        }
        self.management = SimpleNamespace(
            NUM_STREAMS=2,
            args=SimpleNamespace(fast_disk=False),
            is_device_cpu=lambda device: False,
            device_supports_non_blocking=lambda device: True,
            ensure_pin_registerable=lambda size: None,
            sync_stream=lambda device, stream: None,
        )
        for layer in self.names:
            layer._v = "pages"
        self.hooks = [layer.register_forward_pre_hook(self.reads) for layer in self.names]

    def remove(self):
        for layer, hook in zip(self.names, self.hooks, strict=True):
            hook.remove()
            del layer._v

    def copy(self, layers, dtype, device, bias_dtype, non_blocking, return_faulted=False):
        assert non_blocking
        for layer in layers:
            layer._prefetch = {"signature": None}
        self.copies.append([self.names[layer] for layer in layers])
        return (None, False) if return_faulted else None  # since 0.34: and whether all pages are there

    def reads(self, layer, inputs):
        self.read.append((self.names[layer], hasattr(layer, "_prefetch")))

    def waiting(self):
        return [name for layer, name in self.names.items() if hasattr(layer, "_prefetch")]


@pytest.fixture(scope="module")
def transformer(tmp_path_factory):
    return load_model(str(write_model(tmp_path_factory.mktemp("model")))).model.diffusion_model


@pytest.fixture
def card(transformer, monkeypatch):
    card = Card(transformer)
    modules = SimpleNamespace(
        model_management=card.management,
        memory_management=comfy.memory_management,
        ops=SimpleNamespace(cast_modules_with_vbar=card.copy),
    )
    monkeypatch.setattr(model_prefetch, "comfy", modules)
    monkeypatch.setattr(model_prefetch, "PREFETCH_QUEUES", [])
    yield card
    card.remove()


def forward(transformer, towers="video + audio", keep=False, **options):
    x = [INPUTS.video, INPUTS.audio]
    x = {"video only": x[:1], "audio only": [torch.zeros(1, 48, 1, 1, 1), x[1]]}.get(towers, x)
    options |= {comfyui.PREFETCH: True, "uuids": ["one"]}
    with torch.inference_mode():
        out = transformer(x, torch.tensor([500.0]), INPUTS.text("pos"), options, keep_text_keys=keep)
    return [out] if isinstance(out, torch.Tensor) else out


def blocks_of(names):
    return {int(name.split("blocks.")[1].split(".")[0]) for name in names}


@pytest.mark.parametrize("towers", joint.TOWERS)
@pytest.mark.parametrize("keep", [False, True])
def test_each_pair_is_asked_for_before_it_runs_and_all_that_is_asked_for_is_read(card, transformer, towers, keep):
    run = RunCache()
    forward(transformer, towers, keep, **{RunCache.KEY: run})
    card.copies.clear(), card.read.clear()
    forward(transformer, towers, keep, **{RunCache.KEY: run})  # text keys are there by now, if they are kept
    assert [blocks_of(names) for names in card.copies] == [{i} for i in range(sizes()["num_layers"])]
    in_blocks = {name: ready for name, ready in card.read if "blocks." in name}
    assert all(in_blocks.values())
    assert sorted(in_blocks) == sorted(name for names in card.copies for name in names)
    assert card.waiting() == []
    assert any(name.endswith("cross_attn.k") for name in in_blocks) != keep
    assert any("k_fusion" in name for name in in_blocks) == (towers == "video + audio")


def test_weights_of_cross_modal_attention_at_scale_0_are_not_fetched(card, transformer):
    scales = [(0.0, 1.0), *[(1.0, 1.0)] * (sizes()["num_layers"] - 1)]
    forward(transformer, **{KEY: scales})
    first, second = ({name for name in names if "k_fusion" in name} for names in card.copies[:2])
    assert first == {"audio_model.blocks.0.cross_attn.k_fusion", "audio_model.blocks.0.cross_attn.norm_k_fusion"}
    assert len(second) == 4


def test_a_block_pair_that_is_replaced_does_not_put_the_others_out_of_step(card, transformer):
    skip = {("double_block", 1): lambda args, more: {"img": args["img"]}}
    forward(transformer, patches_replace={"dit": skip})
    pairs = range(sizes()["num_layers"])
    assert [blocks_of(names) for names in card.copies] == [{i} for i in pairs]
    assert blocks_of(name for name, _ in card.read if "self_attn.q" in name) == {*pairs} - {1}
    assert all(ready for name, ready in card.read if "blocks." in name)
    assert card.waiting() == []


def test_a_forward_that_is_stopped_leaves_nothing_behind_once_comfyui_has_cleaned_up(card, transformer):
    def stop(args, more):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        forward(transformer, patches_replace={"dit": {("double_block", 1): stop}})
    assert card.waiting()
    model_prefetch.cleanup_prefetch_queues()
    assert card.waiting() == []


def test_the_result_is_the_same_as_without(transformer, monkeypatch, request):
    with monkeypatch.context() as without:
        without.setattr(comfyui, "PREFETCHES", False)  # a ComfyUI with another queue
        plain = forward(transformer)
    card = request.getfixturevalue("card")
    assert all(map(torch.equal, forward(transformer), plain))
    assert card.copies


def test_on_a_cpu_comfyui_makes_no_queue(transformer):
    assert weight_prefetch.WeightPrefetch([[transformer]], torch.device("cpu"), {comfyui.PREFETCH: True})._queue is None
