"""Text encoder and VAEs leave the card when the transformer needs the room, and only then.

The card is this CPU under its other name, ``cpu:0``, with as much memory as a test says: ComfyUI's own model management
loads, moves and unloads. What is free of it is what ComfyUI's loaded models leave.
"""

from __future__ import annotations

import comfy.model_management as manager
import comfy.model_patcher
import pytest
import tiny_ovi as tiny
import torch
from comfy.patcher_extension import WrappersMP
from native_cases import small_vaes
from ovi_native.ovi_core.network.run_cache import SamplingRun

CARD, MEMORY = torch.device("cpu", 0), torch.device("cpu")
MB = 2**20


class Card:
    """A card of so many bytes."""

    def __init__(self):
        self.total = 0.0

    def free(self, device=None, torch_free_too=False):
        held = sum(some.model_loaded_memory() for some in manager.current_loaded_models if some.device == CARD)
        free = self.total - held
        return (free, 0) if torch_free_too else free


@pytest.fixture
def card(monkeypatch):
    card = Card()
    manager.unload_all_models()
    monkeypatch.setattr(manager, "get_free_memory", card.free)
    monkeypatch.setattr(manager, "get_all_torch_devices", lambda exclude_current=False: [MEMORY, CARD])
    yield card
    manager.unload_all_models()


@pytest.fixture
def transformer(tmp_path):
    model = tiny.with_pytorch_attention(tiny.load(tmp_path))
    model.load_device = CARD
    return model


@pytest.fixture
def others():
    """Both VAEs and what stands for a text encoder: to ComfyUI a patcher with weights as they are."""
    encoder = comfy.model_patcher.ModelPatcher(torch.nn.Linear(1024, 4096), load_device=CARD, offload_device=MEMORY)
    patchers = [vae.patcher.clone() for vae in small_vaes()]
    for patcher in patchers:
        patcher.load_device = CARD
    return [*patchers, encoder]


def needed(model) -> float:
    """Bytes that ComfyUI wants for a run: weights with a tenth more, and the tensors of a forward, or its least."""
    parts = tiny.empty_latent()["samples"].unbind()
    with model.model.sampling(SamplingRun(latent_shapes=[part.shape for part in parts])):
        step = model.model.memory_required((2, 1, sum(part.numel() for part in parts)))
    return 1.1 * model.model_size() + max(manager.minimum_inference_memory(), step + manager.extra_reserved_memory())


@pytest.mark.parametrize("room", [False, True])
def test_what_is_not_needed_leaves_the_card_before_the_first_step(card, transformer, others, room):
    size = sum(patcher.model_size() for patcher in others)
    assert size > 16 * MB
    card.total = needed(transformer) + MB + (1.1 * size if room else 0)
    manager.load_models_gpu(others)
    assert all(patcher.loaded_size() == patcher.model_size() for patcher in others)
    left = []

    def look(executor, *args, **more):
        left.append(sum(patcher.loaded_size() for patcher in others))
        assert card.free() >= manager.minimum_inference_memory()
        assert transformer.loaded_size() == transformer.model_size()
        return executor(*args, **more)

    transformer.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "look", look)
    tiny.run(tiny.guider(transformer))
    assert len(left) >= tiny.STEPS
    assert set(left) == {size if room else 0}
