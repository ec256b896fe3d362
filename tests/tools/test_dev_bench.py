"""The benchmark on a card, as far as it goes without one: a tiny model on the CPU in the card's place."""

from __future__ import annotations

import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from ovi_native.ovi_core.network.comfyui import PREFETCH
from ovi_native.ovi_core.spec import ClipShape
from simulated_card import DEVICE, Living, flash_attention
from torch._subclasses.fake_tensor import FakeTensorMode

from tools.bench import cases, gpu, plain_forward, streaming
from tools.bench.cases import Case, Taken, difference, interleaved
from tools.bench.plain_forward import PlainTwin

TINY = {"dim": 256, "ffn_dim": 512, "num_layers": 2, "text_dim": 64}
CLIP = (64, 96, 3)
FAILED = {"error": "RuntimeError: no more memory"}


def case(dtype=torch.bfloat16, **more):
    with torch.no_grad():
        return Case(TINY, CLIP, "cpu", dtype, **more)


def make_tiny(monkeypatch):
    monkeypatch.setattr(gpu, "DEVICE", "cpu")
    monkeypatch.setattr(gpu, "MODEL", TINY)
    monkeypatch.setattr(gpu, "CLIPS", {"small": CLIP, "long": (64, 64, 7)})
    monkeypatch.setattr(gpu, "CHUNKS", (7,))
    monkeypatch.setattr(gpu, "_matmul_rate", lambda: 1e12)
    monkeypatch.setattr(gpu, "_streaming", lambda: {"pairs": 8})


@pytest.fixture
def tiny_card(monkeypatch):
    make_tiny(monkeypatch)


@pytest.fixture(scope="module")
def measured():
    """A whole report, and the states in which it was saved."""
    saved = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        make_tiny(monkeypatch)
        return filled(saved, rounds=3), saved


def filled(saved=None, rounds=1):
    report = {}
    with torch.no_grad():
        gpu.fill(report, rounds, 60.0, lambda: saved.append(json.loads(json.dumps(report))) if saved is not None else 0)
    return report


def without_times(part):
    return {name: value for name, value in part.items() if name != "took_seconds"}


def test_every_clip_is_measured_both_ways_and_with_low_memory(measured):
    report, _ = measured
    assert [*report] == ["rates", "weights", "small", "long", "streaming"]
    for name in ("small", "long"):
        assert [*report[name]] == ["step", "low memory 7"]
        step = report[name]["step"]
        assert 0 < step["relative_difference"] < 0.03
        assert step["rounds"] == 3
        seconds = step["seconds_per_step"]
        assert step["ours / straightforward"] == pytest.approx(seconds["ours"] / seconds["straightforward"], rel=0.1)
        assert step["tflop_per_step"] >= 0
    assert report["small"]["step"]["tokens"] == {"video": 3 * 2 * 3, "audio": ClipShape(*CLIP).audio_frames}


def test_the_report_is_saved_after_every_part(measured):
    report, saved = measured
    assert len(saved) == 1 + 1 + 2 * 2 + 1
    assert [*saved[0]] == ["rates"]
    assert [*saved[2]["small"]] == ["step"]
    assert saved[-1] == report


def test_a_part_that_fails_leaves_its_error_and_the_others_go_on(tiny_card, monkeypatch):
    def fail(*_):
        raise RuntimeError("no more memory")

    monkeypatch.setattr(gpu, "_low_memory", fail)
    monkeypatch.setattr(gpu, "_matmul_rate", fail)
    report = filled()
    assert without_times(report["rates"]) == FAILED
    assert without_times(report["long"]["low memory 7"]) == FAILED
    assert report["long"]["step"]["share_of_matmul_rate"] == {"ours": None, "straightforward": None}
    assert without_times(report["streaming"]) == {"pairs": 8}


def test_without_a_model_nothing_else_is_tried(tiny_card, monkeypatch):
    monkeypatch.setattr(gpu, "MODEL", {"num_layers": -1, "dim": "wide"})
    report = filled()
    assert "error" in report["weights"]
    assert "small" not in report


def test_forwards_that_do_not_agree_are_not_timed(tiny_card, monkeypatch):
    monkeypatch.setattr(plain_forward, "EPS", 10.0)
    monkeypatch.setattr(gpu, "CLIPS", {"small": CLIP})
    assert "differ" in filled()["small"]["step"]["error"]


def test_both_forwards_agree_as_far_as_bfloat16_goes():
    with torch.no_grad():
        exact, rough = case(torch.float32), case()
        assert difference(exact.ours(), exact.plain(PlainTwin(exact.transformer.state_dict()))) < 1e-5
        twin = rough.plain(PlainTwin(rough.transformer.state_dict()))
        assert {part.dtype for part in twin} == {torch.bfloat16}
        assert difference(rough.ours(), twin) < 0.03


def test_a_run_is_begun_before_anything_is_counted():
    with torch.no_grad():
        some = case()
        some.begin_run()
        shapes, kept = some.video.shape, len(some.options["ovi_run"]._results)
        some.ours()
    assert some.video.shape == shapes
    assert len(some.options["ovi_run"]._results) == kept + 2  # the rope of the clip itself


@pytest.mark.parametrize(("budget", "rounds"), [(1000.0, 5), (0.0, 2), (3.5, 3)])
def test_no_round_begins_that_would_end_after_the_time_that_is_left(monkeypatch, budget, rounds):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(cases, "time", SimpleNamespace(perf_counter=lambda: clock.now))

    def run():
        clock.now += 0.5

    taken = interleaved({"a": run, "b": run}, 5, "cpu", warm=True, budget=budget)
    assert taken == {"a": Taken(0.5, 0, rounds), "b": Taken(0.5, 0, rounds)}


@pytest.mark.parametrize("chunk", [0, 8192])
def test_on_a_card_the_estimate_is_what_the_forward_takes(monkeypatch, chunk):
    """And the straightforward forward runs there too, in more."""
    attend = torch.ops.aten._scaled_dot_product_flash_attention
    monkeypatch.setattr(plain_forward, "scaled_dot_product_attention", lambda *qkv: attend(*qkv)[0])
    with FakeTensorMode(), torch.no_grad():
        some = Case({"num_layers": 2}, gpu.CLIPS["720x720_5s"], DEVICE, torch.bfloat16)
        some.options["optimized_attention_override"] = flash_attention
        some.begin_run()
        given = [*some.transformer.parameters(), some.video, some.audio, some.text, some.timestep]
        with Living(given) as ours:
            some.ours(ovi_chunk_tokens=chunk)
        with Living(given) as plain:
            some.plain(PlainTwin(some.transformer.state_dict()))
        assert ours.peak == pytest.approx(gpu._estimate(some, chunk), rel=0.1)
    assert plain.peak > ours.peak


class Held:
    """In the place of ComfyUI's patcher, which needs a card."""

    def __init__(self, case):
        self.stays: list[bool] = []
        Held.last = self

    def stay(self, stay):
        self.stays.append(stay)

    def resident_gb(self):
        return float(self.stays[-1])


def test_streaming_is_measured_ahead_and_layer_by_layer_and_against_weights_that_stay(monkeypatch):
    monkeypatch.setattr(streaming, "DEVICE", "cpu")
    monkeypatch.setattr(streaming, "Paged", Held)
    monkeypatch.setattr(streaming, "ROUNDS", 2)
    monkeypatch.setattr(streaming, "_copy_rate", lambda: 5e10)
    some, asked = case(), []
    forward = some.transformer.forward
    some.transformer.forward = lambda x, t, c, options, **more: (
        asked.append(options.get(PREFETCH)) or forward(x, t, c, options, **more)
    )
    with torch.no_grad():
        report = streaming.report(some)
    assert Held.last.stays == [False, True]
    assert [*report["seconds_per_step"]] == ["pair ahead", "layer by layer", "weights on the card"]
    assert [*report["seconds_per_step, low memory 4096"]] == ["pair ahead", "layer by layer"]
    assert report["relative_difference"] == {"pair ahead": 0.0, "layer by layer": 0.0}
    assert (report["weights_on_card_gb"], report["weights_on_card_then_gb"]) == (0.0, 1.0)
    assert asked[:5] == [None, True, False, True, False]
    copied = streaming._copied(some)
    assert 0 < sum(copied.values()) < gpu._weight_bytes(some)


@pytest.mark.parametrize(
    ("code", "output", "problem"), [(0, 'log\n{"a": 1}\nbye\n', None), (1, "", "it ended with 1: no card")]
)
def test_streaming_runs_in_a_process_of_its_own(monkeypatch, code, output, problem):
    done = SimpleNamespace(returncode=code, stdout=output, stderr="no card")
    monkeypatch.setattr(gpu.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(RuntimeError, match=problem) if problem else nullcontext():
        assert gpu._streaming() == {"a": 1}
