"""A compiled block pair is one graph that serves all pairs, for ComfyUI's node and for packs that compile ``blocks.i``.

Counted by a backend that runs what it is given as it is.
"""

from __future__ import annotations

import os
import shutil

import pytest
import tiny_ovi as tiny
import torch
import torch._inductor.config
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_nag import NAGuidance
from fusion_cases import seeded
from ovi_native.ovi_core.sampling.guidance import Guidance
from ovi_native.ovi_core.sampling.guider import OviGuider
from ovi_native.ovi_core.sampling.schedules import Interval
from ovi_native.ovi_core.sampling.shortcuts.step_cache import StepCache, with_step_cache
from tiny_ovi import same

PAIR = 60
"""Operations that only a block pair has more than."""


class Graphs:
    """A backend of ``torch.compile`` that notes how many operations each graph has."""

    def __init__(self):
        self.sizes = []

    def __call__(self, graph, inputs, **options):
        self.sizes.append(sum(node.op.startswith("call") for node in graph.graph.nodes))
        return graph.forward

    @property
    def pairs(self):
        return sum(size > PAIR for size in self.sizes)


@pytest.fixture
def plain(tmp_path):
    torch._dynamo.reset()
    yield tiny.with_pytorch_attention(tiny.load(tmp_path, num_layers=4))
    torch._dynamo.reset()


def compiled(model, backend, whole=False):
    """The MODEL with each block compiled, as other packs do it, or as a whole, as ComfyUI's node does it."""
    model = model.clone()
    keys = [f"diffusion_model.blocks.{i}" for i in range(model.model.num_layers)]
    set_torch_compile_wrapper(model, backend, keys=["diffusion_model"] if whole else keys)
    return model


def run(model, guidance=None, latent=None, positive=None):
    guider = OviGuider(model, guidance or Guidance(skip_layers=()))
    guider.set_conds(positive or tiny.positive(), tiny.negative())
    return tiny.run(guider, latent, steps=4)


@pytest.mark.parametrize("whole", [False, True])
def test_one_graph_serves_all_pairs_steps_and_prompts(plain, whole):
    graphs = Graphs()
    model = compiled(plain, graphs, whole)
    assert same(run(model), run(plain))
    first = [*graphs.sizes]
    assert graphs.pairs == 1
    assert max(graphs.sizes) < 400
    other = [[tiny.text("another"), {}]]
    assert same(run(model, positive=other), run(plain, positive=other))
    assert graphs.sizes == first


@pytest.fixture
def inductor(tmp_path, monkeypatch):
    """PyTorch's own compiler, with nothing compiled yet and all kernels in one file, which takes it less time."""
    if not shutil.which(os.environ.get("CXX", "g++")):
        missing = "there is no C++ compiler (Debian: apt install g++), which inductor needs on a CPU"
        (pytest.fail if os.environ.get("OVI_NEED_COMPILER") else pytest.skip)(missing)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    with torch._inductor.config.patch(cpp_wrapper=True, compile_threads=1):
        yield "inductor"


def test_what_inductor_makes_of_a_pair_gives_the_same(plain, inductor):
    """The one test in which a compiler writes code: some 30 s for each of two graphs, of two rows and of one.

    With all that a run can have at once: a guidance interval, the step cache, and NAGuidance, which is compiled too.
    """
    half = Guidance(skip_layers=(), interval=Interval(0.0, 0.5))

    def with_it(model):
        return with_step_cache(NAGuidance.execute(model, 5.0, 0.5, 1.5).result[0], StepCache(1e-9))

    wanted = run(with_it(plain), half)
    assert same(run(with_it(compiled(plain, inductor)), half), wanted, 1e-5)
    assert torch._dynamo.utils.counters["inductor"]["fxgraph_cache_miss"] == 2
    assert not same(run(plain, half), wanted, 1e-3)


def test_tokens_go_from_pair_to_pair_in_one_layout(plain):
    """Another one would be compiled again, and copied by every norm."""
    layouts = set()

    def note(args, extra):
        layouts.update(part.stride() == torch.empty(part.shape).stride() for part in args["img"])
        return extra["original_block"](args)

    noted = plain.clone()
    for i in range(4):
        noted.set_model_patch_replace(note, "dit", "double_block", i)
    run(noted, Guidance(skip_layers=(), interval=Interval(0.0, 0.5)))
    assert layouts == {True}


def test_a_guidance_interval_takes_a_graph_for_each_batch_and_none_later(plain):
    """One row or two; the compiler makes a general one of its own accord when it meets the second size."""
    graphs = Graphs()
    model = compiled(plain, graphs)
    intervals = Interval(0.0, 0.5), Interval(), Interval(0.3, 0.6)
    for guidance in [Guidance(skip_layers=(), interval=interval) for interval in intervals]:
        assert same(run(model, guidance), run(plain, guidance))
    assert graphs.pairs == 2
    first = [*graphs.sizes]
    for interval in intervals:
        run(model, Guidance(skip_layers=(), interval=interval))
    assert graphs.sizes == first


def test_a_lora_that_is_on_and_off_takes_no_more(plain):
    graphs = Graphs()
    model = compiled(plain, graphs)
    shape = plain.model.diffusion_model.blocks[1].self_attn.q.weight.shape
    change = torch.from_numpy(seeded.draw("lora", tuple(shape), 3)).float()
    patched = [some.clone() for some in (model, plain)]
    for some in patched:
        some.add_patches({"diffusion_model.blocks.1.self_attn.q.weight": ("diff", (change,))})
    before = run(model)
    with_lora = run(patched[0])
    assert same(with_lora, run(patched[1]))
    assert not same(with_lora, before, 1e-3)
    assert same(run(model), before)
    assert graphs.pairs == 1


def test_another_size_takes_one_more(plain):
    graphs = Graphs()
    model = compiled(plain, graphs)
    for seconds in (0.4, 0.6, 0.9):
        latent = tiny.empty_latent(seconds=seconds)
        assert same(run(model, latent=latent), run(plain, latent=latent))
    assert graphs.pairs <= 3


def test_keys_of_the_weights_are_those_of_before(plain):
    weights = plain.model.diffusion_model.state_dict()
    assert {"blocks.0.modulation.weight", "audio_model.blocks.0.ffn.2.bias", "blocks.3.ffn.0.weight"} <= set(weights)
    assert not any("_orig_mod" in key or "pair" in key for key in weights)
