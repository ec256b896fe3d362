"""Host memory over many prompts: nothing of a model or of a run outlives its use."""

from __future__ import annotations

import gc
import weakref

import comfy.model_management
import comfy.sd
import psutil
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from native_cases import TINY, empty_latent, sample, text, tiny_wan, write_tiny
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.model.base_model import Ovi
from ovi_native.ovi_core.network.run_cache import RunCache
from ovi_native.ovi_core.network.transformer import OviTransformer
from safetensors.torch import save_file

from nodes import common_ksampler

PROMPTS, WARM_UP = 100, 25
GROWTH = 16 * 2**20  # bytes; one tiny Ovi has 10 MB, so that a leak of one in ten models would show


pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture(autouse=True)
def only_new_objects():
    """Leaves what is there already out of garbage collection, which then takes milliseconds."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory")
    wan = folder / "wan.safetensors"
    save_file(tiny_wan(), wan)
    return [write_tiny(folder), write_tiny(folder, 12, "other.safetensors", ffn_dim=128), str(wan)]


def prompt(path):
    """Load a model, sample with it, and let go of everything, as ComfyUI does between prompts."""
    if path.endswith("wan.safetensors"):
        model = comfy.sd.load_diffusion_model(path)
        latent = {"samples": torch.zeros(1, 48, 1, 2, 2)}
        words = text(width=4096)
        common_ksampler(model, 0, 1, 4.0, "euler", "simple", words, words, latent)
    else:
        model = load_model(path)
        sample(model, steps=1)
    living = weakref.ref(model), weakref.ref(model.model)
    del model
    comfy.model_management.cleanup_models()
    gc.collect()
    comfy.model_management.soft_empty_cache()
    return living


def alive(kind):
    """How many of them there are, of those made in this test."""
    gc.collect()
    return sum(issubclass(type(thing), kind) for thing in gc.get_objects())


def test_host_memory_stays_flat_over_a_hundred_prompts_with_model_switches(files):
    rss, living = [], []
    for i in range(PROMPTS):
        living += prompt(files[i % len(files)])
        rss.append(psutil.Process().memory_info().rss)
    assert alive(OviTransformer) <= 1
    assert sum(ref() is not None for ref in living) <= 2  # the last patcher and its model
    assert max(rss[-10:]) - max(rss[WARM_UP - 10 : WARM_UP]) <= GROWTH


def test_models_that_stay_loaded_take_turns_without_copies(files):
    models = [load_model(path) for path in files[:2]]
    for i in range(20):
        sample(models[i % 2], steps=1)
        comfy.model_management.free_memory(1e32, comfy.model_management.get_torch_device())
    assert alive(Ovi) == len(models)
    assert all(model.current_loaded_device() == torch.device("cpu") for model in models)


def tensors(thing):
    """Every tensor inside ``thing``."""
    if isinstance(thing, torch.Tensor):
        yield thing
    elif isinstance(thing, (list, tuple, dict, RunCache)):
        inner = vars(thing) if isinstance(thing, RunCache) else thing
        for part in inner.values() if isinstance(inner, dict) else inner:
            yield from tensors(part)


class Watch:
    """A clone of a model that notes, weakly, each forward's RunCache and the tensors it holds."""

    def __init__(self, model):
        self.model, self.runs, self.held, self.shapes = model.clone(), set(), [], set()
        self.model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "watch", self.look)

    def look(self, executor, x, timestep, context, options, **more):
        out = executor(x, timestep, context, options, **more)
        self.runs.add(weakref.ref(options[RunCache.KEY]))
        for tensor in tensors(options[RunCache.KEY]):
            self.held.append(weakref.ref(tensor))
            self.shapes.add(tuple(tensor.shape[-2:]))
        return out

    def gone(self):
        return all(ref() is None for ref in (*self.runs, *self.held))


def test_text_keys_are_kept_through_a_run_and_gone_after_it(files):
    watch = Watch(load_model(files[0]))
    sample(watch.model, steps=3)
    assert len(watch.runs) == 1
    assert (512, TINY["dim"]) in watch.shapes
    assert watch.gone()


def test_a_run_that_fails_leaves_nothing_behind(files):
    watch = Watch(load_model(files[0]))

    def fail(args, extra):
        raise RuntimeError("in mid-run")

    watch.model.set_model_patch_replace(fail, "dit", "double_block", 1)
    with pytest.raises(RuntimeError, match="in mid-run"):
        sample(watch.model)
    gc.collect()
    assert watch.gone()
    assert watch.model.model.sampling_run is None


def test_a_guider_that_the_host_caches_keeps_no_run(files):
    from comfy_extras.nodes_custom_sampler import RandomNoise, SamplerCustomAdvanced
    from ovi_native.nodes.sampling.sampler import OviGuider, OviSamplerSelect, OviScheduler

    watch = Watch(load_model(files[0]))
    guider = OviGuider.execute(watch.model, text(5), text(6), 4.0, 3.0, "1").result[0]
    for solver in ("unipc", "dpm++", "euler"):
        sampler = OviSamplerSelect.execute(solver).result[0]
        sigmas = OviScheduler.execute(solver, 2, 5.0).result[0]
        SamplerCustomAdvanced.execute(RandomNoise.execute(1).result[0], guider, sampler, sigmas, empty_latent())
    assert len(watch.runs) == 3
    assert watch.gone()
