"""After the first step, no step of a run waits for the device or copies anything to it, whatever is switched on.

On a CPU nothing waits. So what would wait on a card is found by its operation: values read by Python, and tensors that
come from Python's numbers and not from an earlier operation. Both count where a file of the pack is what asks for them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import comfy.utils
import latent_preview
import pytest
import tiny_ovi as tiny
import torch
from comfy.cli_args import LatentPreviewMethod
from comfy.k_diffusion.sampling import sample_heun
from comfy.patcher_extension import WrappersMP
from comfy.samplers import KSAMPLER, SAMPLER_NAMES
from comfy_extras.nodes_custom_sampler import KSamplerSelect
from ovi_native.nodes.sampling.sampler import OviSamplerSelect
from ovi_native.ovi_core.latents import joint
from ovi_native.ovi_core.network.references import KEY
from ovi_native.ovi_core.network.run_cache import RunCache, SamplingRun
from ovi_native.ovi_core.sampling import model_patches
from ovi_native.ovi_core.sampling.guidance import Guidance, GuidanceOptions, TowerOptions
from ovi_native.ovi_core.sampling.guider import OviGuider
from ovi_native.ovi_core.sampling.model_patches import CrossModalScaling, with_cross_modal, with_loop
from ovi_native.ovi_core.sampling.schedules import Interval, Schedule
from ovi_native.ovi_core.sampling.shortcuts.negative_reuse import NegativeReuse, with_negative_reuse
from ovi_native.ovi_core.sampling.shortcuts.step_cache import StepCache, with_step_cache
from tiny_ovi import same
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

STEPS = 4
PACK = str(Path(model_patches.__file__).parents[1])
READS = {"_local_scalar_dense", "is_nonzero", "nonzero", "equal", "_unique2", "unique_dim", "masked_select", "allclose"}
FACTORIES = {"arange", "zeros", "ones", "full", "empty", "scalar_tensor", "linspace", "eye", "randn", "rand"}
HALF = Interval(0.0, 0.5)


class Waits(TorchDispatchMode):
    """``found``: what would wait on a card while ``on``, with the line of the pack that asked for it."""

    def __init__(self, known):
        super().__init__()
        self.on, self.found, self.operations = False, [], 0
        self._seen = {}
        self._saw(known)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        out = function(*args, **kwargs)
        if self.on:
            self.operations += 1
            new = any(torch.is_tensor(x) and not self._knows(x) for x in tree_leaves((args, kwargs)))
            if name in READS or new or (name in FACTORIES and kwargs.get("device") is None):
                self.note(name)
        self._saw(tree_leaves((args, kwargs, out)))
        return out

    def note(self, name):
        frame = sys._getframe(2)
        while frame is not None:  # whose line it is: the pack's or ComfyUI's
            file = frame.f_code.co_filename
            if file.startswith(PACK):
                self.found.append(f"{name} at {Path(file).name}:{frame.f_lineno}")
                return
            if "site-packages" not in file and "<" not in file and Path(file) != Path(__file__):
                return
            frame = frame.f_back

    def _saw(self, tensors):
        for x in tensors:
            if torch.is_tensor(x):
                ref = StorageWeakRef(x.untyped_storage())
                self._seen[ref.cdata] = ref

    def _knows(self, x):
        ref = self._seen.get(x.untyped_storage()._cdata)
        return ref is not None and not ref.expired()


def watched_run(monkeypatch, model, guider_of, latent, sampler):
    """``found`` of a run, and how many operations the later steps had."""
    done = 0
    watch = Waits([*model.model.parameters(), *model.model.buffers()])

    def begin(executor, *args, **more):
        nonlocal done
        watch.on = done > 0
        done += 1
        return executor(*args, **more)

    def end(executor, *args, **more):
        out = executor(*args, **more)
        watch.on = False
        return out

    for name in ("tolist", "numpy", "cpu", "__array__"):
        read = getattr(torch.Tensor, name)

        def noted(self, *args, _read=read, _name=name, **more):
            if watch.on:
                watch.note(_name)
            return _read(self, *args, **more)

        monkeypatch.setattr(torch.Tensor, name, noted)
    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "begin", begin)
    model.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, "end", end)
    guider = guider_of(model)
    with watch:
        tiny.run_both(guider, latent, sampler=sampler, steps=STEPS)
    assert done >= STEPS
    return watch


def guided(positive=None, **more):
    def guider(model):
        made = OviGuider(model, Guidance(skip_layers=(1,), **more))
        made.set_conds(positive or tiny.positive(), tiny.negative())
        return made

    return guider


def options(**more):
    return GuidanceOptions(TowerOptions(**more), TowerOptions(**more))


def people():
    """The positive prompt with one person; zeros are as good as any."""
    person = {"face": torch.ones(1, 48, 1, 4, 6), "voice": torch.ones(1, 20, 3)}
    return [[text, {**given, KEY: [person]}] for text, given in tiny.positive()]


def one_tower(audio: bool):
    video, sound = tiny.empty_latent()["samples"].unbind()
    setattr(video, joint.VIDEO_ALONE, True)  # as Empty Ovi Latent marks it, which later ComfyUI asks for
    return {"samples": joint.join(torch.zeros(1, 48, 1, 1, 1), sound) if audio else video}


def stock(name):
    """One of ComfyUI's samplers."""
    return KSamplerSelect.execute(name).result[0]


def euler():
    return stock("euler")


SETTINGS = {
    "constant guidance": {},
    "an interval": {"guider": guided(interval=HALF)},
    "an interval of one tower": {"guider": guided(options=options(interval=HALF))},
    "a schedule": {"guider": guided(options=options(schedule=Schedule("cosine")))},
    "points": {"guider": guided(options=options(schedule=Schedule("points", ((0.0, 4.0), (1.0, 1.0)))))},
    "modality guidance and rescale": {"guider": guided(options=options(modality=2.0, rescale=0.5))},
    "coupling in an interval": {"model": lambda m: with_cross_modal(m, CrossModalScaling(0.5, 0.0, None, HALF))},
    "a loop": {"model": with_loop},
    "a loop with a start image": {"model": with_loop, "latent": lambda: tiny.first_frame_kept(tiny.drawn_latent(3))},
    "a start image": {"latent": lambda: tiny.first_frame_kept(tiny.drawn_latent(3))},
    "reference people": {"guider": guided(people(), options=options(reference=1.0))},
    "people and a start image": {
        "guider": guided(people(), options=options(reference=1.0)),
        "latent": lambda: tiny.first_frame_kept(tiny.drawn_latent(3)),
    },
    "the negative pass in some steps": {
        "model": lambda m: with_negative_reuse(m, NegativeReuse(2, 0.8)),
        "guider": guided(options=options(modality=1.0)),
    },
    "video alone": {"guider": guided(options=options(interval=HALF)), "latent": lambda: one_tower(False)},
    "audio alone": {"guider": guided(options=options(interval=HALF)), "latent": lambda: one_tower(True)},
    "ComfyUI's guider, an interval": {
        "guider": tiny.stock_guider,
        "model": lambda m: with_cross_modal(m, CrossModalScaling(0.5, 0.0, None, HALF)),
    },
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_step_after_the_first_waits_or_copies(model, monkeypatch, setting):
    given = SETTINGS[setting]
    changed = given.get("model", lambda m: m)(model)
    latent = given.get("latent", tiny.empty_latent)()
    watch = watched_run(monkeypatch, changed, given.get("guider", guided()), latent, euler())
    assert watch.operations > 500
    assert watch.found == []


@pytest.mark.parametrize("solver", ["unipc", "dpm++", "euler"])
def test_nor_with_the_packs_own_solvers(model, monkeypatch, solver):
    sampler = OviSamplerSelect.execute(solver).result[0]
    watch = watched_run(monkeypatch, with_loop(model), guided(interval=HALF), tiny.empty_latent(), sampler)
    assert watch.found == []


@pytest.mark.parametrize("name", ["heun", "uni_pc", "dpmpp_2m_sde"])
def test_nor_with_comfyuis_samplers_that_ask_at_the_levels_of_the_steps(model, monkeypatch, name):
    """What these read themselves is no line of the pack."""
    watch = watched_run(monkeypatch, with_loop(model), guided(interval=HALF), tiny.empty_latent(), stock(name))
    assert watch.found == []


@pytest.mark.parametrize("name", [*SAMPLER_NAMES, "heun with churn"])
def test_the_level_that_is_known_is_the_one_that_a_sampler_asks_at(model, name):
    """Without a network: what the run takes for the level of each prediction, and what it is."""
    sampler = KSAMPLER(sample_heun, {"s_churn": 0.5}) if name.endswith("churn") else stock(name)
    levels, by_steps = [], []

    def note(executor, model, conds, x, sigma, options):
        run = options["transformer_options"][RunCache.KEY]
        levels.append((run.noise_level(sigma), float(sigma[0])))
        by_steps.append(run.by_step)
        return [0.9 * x for _ in conds]

    noted = model.clone()
    noted.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "note", note)
    tiny.run(guided()(noted), sampler=sampler, steps=6)
    known, asked = zip(*levels, strict=True)
    assert known == pytest.approx(asked, rel=1e-3)
    if name in ("euler", "heun", "uni_pc", "ddim", "dpmpp_2m", "dpmpp_3m_sde", "er_sde", "deis"):
        assert all(by_steps)
    if name in ("dpm_2", "seeds_2", "dpm_fast", "sa_solver_pece") or name.endswith("churn"):
        assert not any(by_steps)


def test_nor_where_the_preview_shows_the_audio(model, monkeypatch):
    monkeypatch.setattr(latent_preview.args, "preview_method", LatentPreviewMethod.Auto)
    shown = []
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda *args, **more: shown.append(args))
    watch = watched_run(monkeypatch, model, guided(), tiny.empty_latent(), euler())
    assert len(shown) >= STEPS
    assert watch.found == []


def test_the_step_cache_waits_once_after_a_computed_step_of_the_middle(model, monkeypatch):
    """Steps 1 and 2 of four; the fourth is the last."""
    cached = with_step_cache(model, StepCache(1e-9))
    watch = watched_run(monkeypatch, cached, guided(), tiny.empty_latent(), euler())
    assert sum(found.startswith("tolist at") for found in watch.found) == 2
    assert {found.split(" at ")[1].split(":")[0] for found in watch.found} == {"step_cache.py"}


def test_what_waits_is_found(model, monkeypatch):
    """The test can fail: a noise level that is read in every step, and an index of Python's numbers."""
    waiting = with_loop(model)
    monkeypatch.setattr(SamplingRun, "noise_level", lambda run, sigma: float(sigma[0]))
    found = watched_run(monkeypatch, waiting, guided(), tiny.empty_latent(), euler()).found
    assert {name.split(" at ")[1].split(":")[0] for name in found} == {"run_cache.py"}
    monkeypatch.undo()
    monkeypatch.setattr(model_patches.circular_shift, "taken", lambda x, wanted, dim: x[:, :, wanted])
    found = watched_run(monkeypatch, waiting, guided(), tiny.empty_latent(), euler()).found
    assert found


@pytest.mark.parametrize("name", ["heun", "dpm_2", "lcm"])
def test_a_sampler_that_asks_at_other_levels_has_the_interval_of_the_levels_it_asks_at(model, name):
    """Known samplers go by the step, others by the level: both as if each prediction had looked."""
    sampler = stock(name)

    def run():
        torch.manual_seed(0)
        return tiny.run(guided(interval=HALF)(with_loop(model)), sampler=sampler)

    once = run()
    with pytest.MonkeyPatch.context() as looking:
        looking.setattr(SamplingRun, "noise_level", lambda run, sigma: float(sigma[0]))
        assert same(run(), once, 0)


def test_a_run_over_other_levels_than_it_was_given_looks_at_them(model):
    """A wrapper of another pack may change them."""

    def run():
        def shorter(executor, wrap, sigmas, *args, **more):
            return executor(wrap, sigmas[1:], *args, **more)

        some = model.clone()
        some.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, "shorter", shorter)
        return tiny.run(guided(interval=HALF)(some), sampler=euler())

    ours = run()
    with pytest.MonkeyPatch.context() as looking:
        looking.setattr(SamplingRun, "noise_level", lambda run, sigma: float(sigma[0]))
        assert same(run(), ours, 0)
