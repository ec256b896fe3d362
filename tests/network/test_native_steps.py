"""What a run computes once instead of in every step, what a step must not do, and a compiled step."""

from __future__ import annotations

import comfy.model_management
import comfy.model_patcher
import pytest
import tiny_ovi as tiny
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_nag import NAGuidance
from comfy_extras.nodes_torch_compile import TorchCompileModel
from ovi_native.ovi_core.network import rope
from ovi_native.ovi_core.network.run_cache import SamplingRun
from ovi_native.ovi_core.network.timesteps import Waves
from ovi_native.ovi_core.sampling.guidance import Guidance, GuidanceOptions, TowerOptions
from ovi_native.ovi_core.sampling.guider import OviGuider
from tiny_ovi import both_differ, same
from torch.utils._python_dispatch import TorchDispatchMode

# -- once a run -----------------------------------------------------------------------------------------------------


@pytest.fixture
def text_rows(model):
    """Batch size of every projection of text in both towers: the embedding, and a key in the last block."""
    seen: dict[str, list[int]] = {"embedding": [], "key": []}
    network = model.model.diffusion_model
    handles = []
    for tower in (network, network.audio_model):
        for name, layer in (("embedding", tower.text_embedding), ("key", tower.blocks[-1].cross_attn.k)):
            note = seen[name].append
            handles.append(layer.register_forward_hook(lambda _, args, out, note=note: note(args[0].shape[0])))
    yield seen
    for handle in handles:
        handle.remove()


def test_text_is_projected_once_a_run(model, text_rows):
    for _ in range(2):
        tiny.run(tiny.guider(model))
        assert text_rows == {"embedding": [2, 2], "key": [2, 2]}  # both prompts in one batch, in each tower
        text_rows["embedding"].clear()
        text_rows["key"].clear()


@pytest.mark.parametrize("room", ["for a batch", "for nothing"])
def test_text_is_projected_in_every_step_where_memory_is_short_with_the_same_result(
    model, text_rows, monkeypatch, room
):
    model = tiny.with_pytorch_attention(model)
    kept = tiny.run(tiny.guider(model))
    text_rows["key"].clear()
    latent = tiny.empty_latent()
    parts = latent["samples"].unbind()
    with model.model.sampling(SamplingRun(latent_shapes=[part.shape for part in parts])):
        step = model.model.memory_required((2, 1, sum(part.numel() for part in parts)))
    free = 2 * step if room == "for a batch" else 0
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda *args, **more: free)
    assert same(tiny.run(tiny.guider(model)), kept)
    assert text_rows["key"] == ([2] * 2 if room == "for a batch" else [1] * 4) * tiny.STEPS


KEYS = 2 * 2 * tiny.SIZES["num_layers"] * 512 * tiny.SIZES["dim"] * 4
"""Bytes of one conditioning's keys and values in both towers: 512 positions, float32."""


@pytest.mark.parametrize("room", [1, 2, 3])
@pytest.mark.parametrize(
    ("conditionings", "guidance"),
    [
        (1, Guidance(video_cfg=1.0, audio_cfg=1.0, skip_layers=())),
        (2, Guidance(skip_layers=())),
        (3, Guidance(skip_layers=(), options=GuidanceOptions(*[TowerOptions(modality=2.0)] * 2))),
    ],
)
def test_text_keys_are_kept_where_there_is_room_for_those_of_the_conditionings_that_run(
    model, text_rows, monkeypatch, conditionings, guidance, room
):
    parts = tiny.empty_latent()["samples"].unbind()
    with model.model.sampling(SamplingRun(latent_shapes=[part.shape for part in parts])):
        step = model.model.memory_required((room, 1, sum(part.numel() for part in parts)))
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda *args, **more: room * KEYS + step + 1)
    guider = OviGuider(tiny.with_pytorch_attention(model), guidance)
    guider.set_conds(tiny.positive(), tiny.negative())
    tiny.run(guider)
    towers, times = 2, 1 if conditionings <= room else tiny.STEPS
    assert sum(text_rows["key"]) == towers * conditionings * times


@pytest.mark.parametrize("room", [1, 2])
def test_so_are_those_of_the_negative_text_that_the_positive_rows_ask(model, text_rows, monkeypatch, room):
    """ComfyUI's NAGuidance at guidance 1: one row with two texts."""
    parts = tiny.empty_latent()["samples"].unbind()
    with model.model.sampling(SamplingRun(latent_shapes=[part.shape for part in parts], negatives=0)):
        step = model.model.memory_required((1, 1, sum(part.numel() for part in parts)), {"negative_context": [[1]]})
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda *args, **more: room * KEYS + step + 1)
    patched = NAGuidance.execute(tiny.with_pytorch_attention(model), 5.0, 0.5, 1.5).result[0]
    tiny.run(tiny.guider(patched, 1.0, 1.0, "0"))
    towers, texts, times = 2, 2, 1 if room == 2 else tiny.STEPS
    assert sum(text_rows["key"]) == towers * texts * times


def test_positions_and_frequencies_are_computed_once_a_run(model, monkeypatch):
    calls = []

    def counting(function):
        def counted(*args):
            calls.append(function.__name__)
            return function(*args)

        return counted

    for name in ("video_table", "audio_table"):
        monkeypatch.setattr(rope, name, counting(getattr(rope, name)))
    monkeypatch.setattr(Waves, "of_dim", counting(Waves.of_dim))
    tiny.run(tiny.guider(model))
    assert sorted(calls) == ["audio_table", "of_dim", "video_table"]


# -- in a step --------------------------------------------------------------------------------------------------------

WAITS = ("_local_scalar_dense", "item", "is_nonzero", "nonzero", "equal", "unique", "_unique2", "allclose")
"""Operations that make ComfyUI wait for the device."""


class Watch(TorchDispatchMode):
    """Notes operations in float64 and operations that wait, of all steps but the first."""

    def __init__(self) -> None:
        super().__init__()
        self.step = 0
        self.found: list[str] = []
        self.operations = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if self.step > 1:
            self.operations += 1
            name = function.overloadpacket.__name__
            results = out if isinstance(out, (list, tuple)) else [out]
            if name in WAITS or any(torch.is_tensor(part) and part.dtype == torch.float64 for part in results):
                self.found.append(name)
        return out


@pytest.mark.parametrize("solver", ["euler", "unipc", "dpm++"])
@pytest.mark.parametrize("kept", [False, True])
def test_no_step_after_the_first_computes_in_float64_or_waits_for_the_device(model, solver, kept):
    watch = Watch()

    def begin(executor, *args, **more):
        watch.step += 1
        return executor(*args, **more)

    def end(executor, *args, **more):
        out = executor(*args, **more)
        watch.step = 0
        return out

    watched = model.clone()
    watched.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "begin", begin)
    watched.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, "end", end)
    latent = tiny.first_frame_kept(tiny.drawn_latent(3)) if kept else tiny.empty_latent()
    with watch:
        tiny.run(tiny.guider(watched), latent, solver=solver)
    assert watch.operations > 1000
    assert watch.found == []


# -- compiled -------------------------------------------------------------------------------------------------------


def test_a_compiled_model_gives_the_same_results_whatever_changes_between_runs(tmp_path, monkeypatch):
    """Its options are constants to a model compiled by ComfyUI's node. All the same it must see other skip layers,
    another solver, patches of other packs, and which of two prompts of one shape it is given."""
    model = tiny.with_pytorch_attention(tiny.load(tmp_path, num_layers=2))
    monkeypatch.setattr(comfy.model_patcher.ModelPatcher, "get_free_memory", lambda *args: 0)  # one prompt at a time
    compiled = TorchCompileModel.execute(model, "eager").result[0]
    torch._dynamo.reset()
    results = []
    for skip_layers, solver in (("1", "euler"), ("", "euler"), ("", "unipc")):  # unipc cuts timesteps, euler does not
        expected = tiny.run(tiny.guider(model, skip_layers=skip_layers), steps=2, solver=solver)
        graphs = []
        for _ in range(2):
            assert same(tiny.run(tiny.guider(compiled, skip_layers=skip_layers), steps=2, solver=solver), expected)
            graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
        assert graphs[0] == graphs[1] > 0  # the second run compiles nothing
        results.append(expected)
    assert both_differ(*results[:2])
    later = compiled.clone()
    later.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "other pack", lambda *args, **more: [-x for x in args[1]])
    assert both_differ(tiny.run(tiny.guider(later), steps=2), results[0])
    torch._dynamo.reset()
