"""What a forward takes beside its weights, at the published sizes, on a simulated card; and what loading takes."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from comfy.ldm.flux.math import _apply_rope1
from comfy.patcher_extension import WrappersMP
from comfy.sampler_helpers import estimate_memory
from comfy_extras.nodes_nag import NAGuidance
from ovi_native.nodes.loading.loaders import OviLowMemory
from ovi_native.ovi_core.model import checkpoint
from ovi_native.ovi_core.model.base_model import NEGATIVE_CONTEXTS, OviModelConfig
from ovi_native.ovi_core.model.memory_estimate import activation_bytes
from ovi_native.ovi_core.network import layers, rope
from ovi_native.ovi_core.network.layers import CHUNK_TOKENS, in_chunks
from ovi_native.ovi_core.network.run_cache import SamplingRun
from ovi_native.ovi_core.network.text_attention import NEGATIVE
from ovi_native.ovi_core.network.transformer import OviConfig
from ovi_native.ovi_core.sampling.model_patches import with_chunks
from safetensors.torch import save_file
from simulated_card import DEVICE, Living, flash_attention
from tiny_ovi import drawn_latent, empty_latent, first_frame_kept, guider, run, same, stock_guider
from torch._subclasses.fake_tensor import FakeTensorMode

TESTS = Path(__file__).resolve().parents[1]
BLOCKS = 2  # all hold the same; the first alone would hold less, as nothing came before it
CLIPS = {
    "720x720_5s": ((31, 45, 45), 157),
    "960x960_5s": ((31, 60, 60), 157),
    "960x960_10s": ((61, 60, 60), 314),
    "portrait of odd sides": ((31, 62, 33), 157),
    "one second": ((7, 45, 45), 31),
    "video only": ((31, 45, 45), 0),
    "audio only": ((1, 1, 1), 314),
    "small picture, long sound": ((31, 16, 16), 1000),
}

LIMITS = [("960x960_10s", 0, 5.4), ("960x960_10s", 4096, 3.75), ("720x720_5s", 0, 1.65)]
"""GB. They were 9.82, 4.80 and 2.98 with a second tensor for GELU's result, and tokens that were read already."""


@functools.cache
def measured(
    clip: str,
    rows: int,
    chunk_tokens: int = 0,
    dtype: torch.dtype = torch.bfloat16,
    patch: Any = None,
    roles: tuple[int, ...] = (),
) -> tuple[int, int]:
    """Peak of a forward in bytes, and what the model tells ComfyUI it needs.

    With a ``patch`` of the text attention, rows have the negative text beside their own and ``roles`` say whose they
    are.
    """
    with FakeTensorMode(), torch.no_grad():
        config = OviModelConfig({"image_model": "ovi", **OviConfig(num_layers=BLOCKS).as_dict()})
        config.set_inference_dtype(dtype, None)
        model = config.get_model({}, device=DEVICE)
        new = functools.partial(torch.empty, dtype=dtype, device=DEVICE)
        cells, steps = CLIPS[clip]
        x = [new(rows, 48, *cells), *([new(rows, 20, steps)] if steps else [])]
        timestep, text = torch.empty(rows, device=DEVICE), new(rows, 512, 4096)
        options = {"optimized_attention_override": flash_attention, CHUNK_TOKENS: chunk_tokens}
        conds = {}
        if patch is not None:
            options |= {"patches": {"attn1_output_patch": [patch]}, "cond_or_uncond": roles}
            conds = dict.fromkeys(NEGATIVE_CONTEXTS, new(rows, 512, 4096))
        given = [*model.diffusion_model.parameters(), *model.diffusion_model.buffers(), *x, timestep, text]
        with Living([*given, *conds.values()]) as living:
            model.diffusion_model(x, timestep, text, options, **conds)
        packed = (rows, 1, sum(part[0].numel() for part in x))
        shapes = {name: [[1, *text.shape[1:]] for text in part] for name, part in conds.items()}
        run = SamplingRun([part.shape for part in x], chunk_tokens=chunk_tokens, negatives=roles.count(NEGATIVE))
        with model.sampling(run):
            return living.peak, model.memory_required(packed if steps else x[0].shape, shapes)


@pytest.mark.parametrize(("clip", "rows"), [*((clip, 2) for clip in CLIPS), ("720x720_5s", 1), ("960x960_10s", 4)])
def test_what_the_host_is_told_is_the_peak_within_a_tenth(clip, rows):
    peak, told = measured(clip, rows)
    assert told == pytest.approx(peak, rel=0.1)


@pytest.mark.parametrize("clip", ["720x720_5s", "960x960_10s", "video only"])
@pytest.mark.parametrize("chunk_tokens", [4096, 16384])
def test_in_chunks_too(clip, chunk_tokens):
    peak, told = measured(clip, 2, chunk_tokens)
    assert told == pytest.approx(peak, rel=0.1)


@pytest.mark.parametrize(
    ("clip", "chunk_tokens", "roles"),
    [
        ("720x720_5s", 0, (0,)),
        ("720x720_5s", 4096, (0,)),
        ("720x720_5s", 0, (0, NEGATIVE)),
        ("720x720_5s", 0, (0, NEGATIVE, 2)),
        ("small picture, long sound", 0, (0,)),
    ],
)
def test_rows_that_ask_the_negative_text_too_take_more(model, clip, chunk_tokens, roles):
    """ComfyUI's NAGuidance: the positive prompt alone, beside the negative pass, and beside another contrast."""
    (patch,) = (
        NAGuidance.execute(model, 5.0, 0.5, 1.5)
        .result[0]
        .model_options["transformer_options"]["patches"]["attn1_output_patch"]
    )
    peak, told = measured.__wrapped__(clip, len(roles), chunk_tokens, patch=patch, roles=roles)
    assert told == pytest.approx(peak, rel=0.1)
    if roles == (0,) and not chunk_tokens:
        assert peak > 1.3 * measured(clip, 1)[0]


def test_before_a_run_comfyui_is_told_of_the_negative_text(model):
    """By the options that Ovi's guider gives each conditioning."""
    patched = NAGuidance.execute(model, 5.0, 0.5, 1.5).result[0]
    asked = []

    def note(executor, patcher, shape, conds, *args, **more):
        asked.append(estimate_memory(patcher, shape, conds))
        return executor(patcher, shape, conds, *args, **more)

    def estimates(some, cfg):
        some = some.clone()
        some.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "note", note)
        run(guider(some, cfg, cfg, "0"), steps=1)
        return asked.pop()

    (twice, once), (plain_twice, plain_once) = estimates(patched, 1.0), estimates(model, 1.0)
    assert once > 1.3 * plain_once
    assert twice == pytest.approx(2 * once, rel=0.1)
    assert plain_twice < twice


@pytest.mark.parametrize(("chunk_tokens", "more"), [(0, 1.3), (4096, 1.0)])
def test_products_in_fp8_take_a_copy_of_what_goes_in(chunk_tokens, more):
    """Of what the feed-forward holds in between half its bytes; in chunks the peak lies elsewhere."""
    told = [activation_bytes(OviConfig(), 2, 54_900, 314, 2, chunk_tokens, in_fp8=in_fp8) for in_fp8 in (False, True)]
    assert told[1] == pytest.approx(more * told[0], rel=0.02)


def test_float32_takes_twice_as_much():
    peak, told = measured("720x720_5s", 1, dtype=torch.float32)
    assert told == pytest.approx(peak, rel=0.1)
    assert peak == pytest.approx(2 * measured("720x720_5s", 1)[0], rel=0.05)


@pytest.mark.parametrize(("clip", "chunk_tokens", "gigabytes"), LIMITS)
def test_nothing_is_kept_that_nobody_reads_again(clip, chunk_tokens, gigabytes):
    assert measured(clip, 2, chunk_tokens)[0] < gigabytes * 1e9


def test_chunks_lower_the_peak_of_a_long_clip():
    whole, chunked = (measured("960x960_10s", 2, size)[0] for size in (0, 4096))
    assert chunked < 0.7 * whole


@pytest.mark.parametrize("chunk_tokens", [0, 4096])
def test_rotation_without_a_kernel_of_its_own_takes_no_more(monkeypatch, chunk_tokens):
    """Where ComfyUI has no kernel for it, it makes copies in float32: of a part of the tokens at a time."""
    monkeypatch.setattr(layers, "apply_rope1", _apply_rope1)
    peak, told = measured.__wrapped__("960x960_10s", 2, chunk_tokens)
    assert told == pytest.approx(peak, rel=0.1)


def test_rotation_in_parts_changes_nothing(monkeypatch):
    x, table = torch.randn(2, 30, 256), rope.audio_table(30, 128, torch.device("cpu"))
    with torch.no_grad():
        whole = layers.rotate(x, table)
    monkeypatch.setattr(layers, "FEW_TOKENS", 4)
    monkeypatch.setattr(layers, "FUSED_ROPE", False)
    with torch.no_grad():
        assert torch.equal(layers.rotate(x, table), whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rotation_by_complex_numbers_is_comfyuis(dtype):
    x, table = torch.randn(2, 30, 384).to(dtype), rope.video_table(2, 3, 5, 128, torch.device("cpu"))
    wanted = _apply_rope1(x.unflatten(-1, (-1, 128)).float(), table).flatten(-2)
    with torch.no_grad():
        turned = layers.rotate(x, table)
    assert turned.dtype == dtype
    assert torch.allclose(turned.float(), wanted, atol=1e-6 if dtype == torch.float32 else 0.02)
    with pytest.MonkeyPatch.context() as comfyui:
        comfyui.setattr(layers, "_turns", lambda x: False)
        assert torch.allclose(layers.rotate(x, table).float(), turned.float(), atol=1e-6, rtol=0.01)
    assert not layers._turns(x)  # where gradients are recorded


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gelu_takes_the_place_of_its_input_unless_gradients_need_that(dtype):
    x = torch.randn(3, 5, dtype=dtype)
    wanted, given = torch.nn.functional.gelu(x, approximate="tanh"), x.clone().requires_grad_()
    result = layers.GELU()(given)
    assert torch.equal(result, wanted)
    assert torch.equal(given, x)
    assert result.requires_grad
    with torch.no_grad():
        assert layers.GELU()(x).data_ptr() == x.data_ptr()
    assert torch.equal(x, wanted)


def test_a_patch_still_has_the_tokens_that_went_into_the_pair(model):
    """Packs mix what went in with what came out; the pair frees only what nobody else holds."""
    before, after = [], []

    def note(args, extra):
        before.extend(part.clone() for part in args["img"])
        out = extra["original_block"](args)
        after.extend(args["img"])
        return out

    patched = model.clone()
    patched.set_model_patch_replace(note, "dit", "double_block", 1)
    assert same(run(stock_guider(patched)), run(stock_guider(model)), 0)
    assert len(before) > 0
    assert all(map(torch.equal, before, after))


# In chunks, the result is the same.


@pytest.mark.parametrize("size", [5, 17, 1000])
def test_chunks_change_nothing_but_rounding(model, size):
    latent = empty_latent(batch=2)
    assert same(run(stock_guider(with_chunks(model, size)), latent), run(stock_guider(model), latent), 1e-5)


def test_a_kept_first_frame_comes_through_chunks(model):
    latent = first_frame_kept(drawn_latent(3))
    assert same(run(stock_guider(with_chunks(model, 4)), latent), run(stock_guider(model), latent), 1e-5)


def test_chunks_are_of_even_size_and_cover_all():
    x = torch.arange(23.0).reshape(1, 23, 1)
    seen = []

    def double(part, beside):
        seen.append(part.shape[1])
        assert torch.equal(part, beside)
        return 2 * part

    assert torch.equal(in_chunks(double, {CHUNK_TOKENS: 10}, x, x), 2 * x)
    assert seen == [7, 8, 8]


def test_the_node_asks_for_chunks_of_its_copy_alone(model):
    asked = []

    def note(executor, *args, **more):
        asked.append(executor.class_obj.sampling_run.chunk_tokens)
        return executor(*args, **more)

    for patcher in (OviLowMemory.execute(model, 2048).result[0], model.clone()):
        patcher.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "note", note)
        run(stock_guider(patcher))
    assert set(asked[: len(asked) // 2]) == {2048}
    assert set(asked[len(asked) // 2 :]) == {0}


# Loading.


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="private memory is told by Linux alone")
def test_loading_takes_no_more_memory_than_the_file_is_large(tmp_path):
    sizes = OviConfig(dim=512, ffn_dim=2048, num_layers=2, text_dim=512)
    shapes = checkpoint.to_published_keys(checkpoint.expected_weights(sizes))
    weights = {key: torch.randn(weight.shape) for key, weight in shapes.items()}
    names = "both.safetensors", "video.safetensors", "audio.safetensors", "both.pth"
    both, video, audio, pickled = (str(tmp_path / name) for name in names)
    save_file(weights, both)
    for path, tower in ((video, "video_model."), (audio, "audio_model.")):
        save_file({key: weight for key, weight in weights.items() if key.startswith(tower)}, path)
    torch.save(weights, pickled)
    size = os.path.getsize(both)
    assert size > 100e6
    cases = [[both], [video, audio], [pickled], [both, None, "fp8_e4m3fn"]]
    # Large blocks go back to the system when they are freed, so that each case starts from nothing.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, str(TESTS / "support" / "load_memory.py"), json.dumps(cases)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    one, two, of_torch, eighths = (taken / size for taken in json.loads(done.stdout.splitlines()[-1]))
    assert 0.9 < one <= 1.05
    assert 0.9 < two <= 1.05
    assert 0.9 < of_torch <= 1.05
    assert eighths <= 0.5  # norms, modulation, convolutions and time embedding keep their type
