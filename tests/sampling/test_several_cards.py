"""ComfyUI's *MultiGPU CFG Split* with the pack's guider: conditionings on two cards give what one card gives.

The two cards are this CPU under its two names, ``cpu`` and ``cpu:0``. ComfyUI takes them for two: a model, a thread and
a share of the conditionings for each.
"""

from __future__ import annotations

import comfy.model_management
import pytest
import tiny_ovi as tiny
import torch
from fusion_cases import seeded
from ovi_native.ovi_core.network.references import KEY
from ovi_native.ovi_core.network.run_cache import RunCache
from ovi_native.ovi_core.sampling.guidance import Guidance, GuidanceOptions, TowerOptions
from ovi_native.ovi_core.sampling.guider import OviGuider
from ovi_native.ovi_core.sampling.model_patches import CrossModalScaling, with_cross_modal, with_loop
from ovi_native.ovi_core.sampling.schedules import Interval
from tiny_ovi import same

multigpu = pytest.importorskip("comfy_extras.nodes_multigpu", reason="this ComfyUI has no MultiGPU CFG Split")
CARDS = [torch.device("cpu"), torch.device("cpu", 0)]


@pytest.fixture(scope="module")
def one_card(tmp_path_factory):
    return tiny.with_pytorch_attention(tiny.load(tmp_path_factory.mktemp("cards")))


@pytest.fixture
def cards(monkeypatch):
    """ComfyUI sees two."""
    monkeypatch.setattr(comfy.model_management, "get_all_torch_devices", lambda exclude_current=False: [*CARDS])
    yield
    comfy.model_management.unload_all_models()


class Rows:
    """The roles of the rows that each card's transformer computes, forward by forward."""

    def __init__(self, model):
        self.seen = {}
        others = model.get_additional_models_with_key("multigpu")
        self.handles = [
            some.model.diffusion_model.register_forward_hook(self._note_for(some.load_device), with_kwargs=True)
            for some in (model, *others)
        ]

    def _note_for(self, device):
        def note(module, args, given, out):
            self.seen.setdefault(device, []).append(tuple(given["transformer_options"]["cond_or_uncond"]))

        return note

    def gone(self):
        for handle in self.handles:
            handle.remove()


def split(model):
    return multigpu.MultiGPUCFGSplitNode.execute(model, 2).result[0]


def people():
    person = {"face": torch.ones(1, 48, 1, 4, 6), "voice": torch.ones(1, 20, 3)}
    return [[text, {**given, KEY: [person]}] for text, given in tiny.positive()]


def run(model, guidance, positive=None, latent=None):
    guider = OviGuider(model, guidance)
    guider.set_conds(positive or tiny.positive(), tiny.negative())
    return tiny.run(guider, latent)


def towers(**more):
    return GuidanceOptions(TowerOptions(**more), TowerOptions(**more))


GUIDANCE = {
    2: Guidance(skip_layers=(1,)),
    3: Guidance(skip_layers=(1,), options=towers(modality=2.0, rescale=0.5)),
    4: Guidance(skip_layers=(1,), options=towers(reference=1.0)),
    5: Guidance(skip_layers=(1,), options=towers(reference=1.0, modality=2.0)),
}
"""By how many conditionings run: both prompts; without cross-modal attention; without face, and without voice."""


@pytest.mark.parametrize("conditionings", GUIDANCE)
def test_two_cards_share_the_conditionings_and_give_what_one_gives(one_card, cards, conditionings):
    positive = people() if conditionings > 3 else None
    wanted = run(one_card, GUIDANCE[conditionings], positive)
    model = split(one_card)
    rows = Rows(model)
    result = run(model, GUIDANCE[conditionings], positive)
    rows.gone()
    assert same(result, wanted)
    assert set(rows.seen) == set(CARDS)
    computed = {device: sum(map(len, forwards)) for device, forwards in rows.seen.items()}
    assert sum(computed.values()) == conditionings * tiny.STEPS
    assert max(computed.values()) == -(-conditionings // 2) * tiny.STEPS


def test_with_an_interval_a_loop_and_a_start_image(one_card, cards):
    some = with_cross_modal(with_loop(one_card), CrossModalScaling(0.5, 0.0, None, Interval(0.0, 0.5)))
    guidance = Guidance(skip_layers=(1,), options=towers(interval=Interval(0.0, 0.7), modality=1.0))
    latent = tiny.first_frame_kept(tiny.drawn_latent(3))
    assert same(run(split(some), guidance, latent=latent), run(some, guidance, latent=latent))


def test_a_lora_is_on_both(one_card, cards):
    key = "diffusion_model.blocks.1.self_attn.q.weight"
    shape = one_card.model.diffusion_model.blocks[1].self_attn.q.weight.shape
    patched = one_card.clone()
    patched.add_patches({key: ("diff", (torch.from_numpy(seeded.draw("lora", tuple(shape), 3)).float(),))})
    result = run(split(patched), GUIDANCE[2])
    assert same(result, run(patched, GUIDANCE[2]))
    assert not same(result, run(one_card, GUIDANCE[2]), 1e-3)


def test_what_a_run_keeps_is_kept_for_each_card(one_card, cards, monkeypatch):
    """Text keys of a card's own conditionings, and tables on that card."""
    keys = []
    once = RunCache.once

    def noted(self, key, compute):
        keys.append(key)
        return once(self, key, compute)

    monkeypatch.setattr(RunCache, "once", noted)
    run(split(one_card), GUIDANCE[2])
    kept = {key for key in keys if isinstance(key, tuple) and key[0] == "text keys"}
    assert len(kept) == 2 * 2  # a prompt on each card, for each tower
    assert len({key[2] for key in kept}) == 2
