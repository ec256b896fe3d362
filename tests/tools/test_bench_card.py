"""The script for a card (``dev.py bench --gpu``), rehearsed on the CPU at the size of a toy."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from tools.bench import __main__ as bench
from tools.bench.card import kernels, run, steps, worker
from tools.bench.card.size import TOY

CLIPS = [*TOY.clips]
WAYS = [*steps.WAYS]
EXPECTED = {
    "kernels": ["clocks", *(f"{clip}{more}" for clip in CLIPS for more in ("", ", comfy_kitchen")), "clocks after"],
    "ceiling": CLIPS,
    "attention": [f"{way}, {clip}" for clip in CLIPS for way in ("FlashAttention 2", "cuDNN", "the pack's choice")],
    "whole step": [f"{clip}: {way}" for clip in CLIPS for way in WAYS],
    "fp8": CLIPS,
    "vae decode": ["plain", "plain, the whole clip", "channels last", "channels last, the whole clip", "compiled"],
    "caps": [*CLIPS, *(f"{clip}, decode" for clip in CLIPS)],
}
ONLY_ON_A_CARD = ("clocks", "clocks after", "cuDNN")


@pytest.fixture
def uncompiled(monkeypatch):
    """Nothing is compiled: ``tests/network/test_compiled_pairs.py`` does that."""
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda module, **more: compiled.append(more["backend"]) or module)
    return compiled


@pytest.mark.parametrize("part", run.SECONDS)
def test_each_part_measures_what_it_says(part, uncompiled):
    with torch.no_grad():
        found = dict(worker.results(part, TOY))
    assert [*found] == EXPECTED[part]
    for name, result in found.items():
        assert result["took_seconds"] >= 0
        if name.split(",")[0] in ONLY_ON_A_CARD:
            assert "error" in result
            continue
        assert "error" not in result, result
        json.dumps(result, allow_nan=False)
    if part == "whole step":
        assert [found[f"{clip}: {WAYS[-1]}"]["relative_difference"] < 1e-6 for clip in CLIPS] == [True, True]
        assert uncompiled == ["eager"] * 2 * TOY.model["num_layers"]
    if part == "attention":
        assert max(result["relative_error"] for result in found.values() if "error" not in result) < 1e-5
    if part == "fp8":
        assert all(0 < result["relative_difference"] < 0.2 for result in found.values())
    if part == "vae decode":
        assert max(result.get("relative_difference", 0) for result in found.values()) < 1e-4


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n", "matrix products"),
        ("nvjet_tst_192x192_64x4_2x1_v_bz_coopB_bias_TNT", "matrix products"),
        ("void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128>>", "attention"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_128x128x128", "attention"),
        ("void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<c10::BFloat16, float>", "norms"),
        (
            "void at::native::vectorized_elementwise_kernel<4, at::native::bfloat16_copy_kernel_cuda>",
            "copies and casts",
        ),
        ("void at::native::vectorized_elementwise_kernel<4, at::native::GeluCUDAKernelImpl>", "GELU"),
        ("void at::native::unrolled_elementwise_kernel<at::native::addcmul_cuda_kernel>", "other elementwise"),
        ("apply_rope_kernel<__nv_bfloat16>", "rope"),
    ],
)
def test_kernels_are_told_apart_by_their_names(name, kind):
    assert kernels.class_of(name) == kind


def test_what_fails_is_a_line_and_the_rest_goes_on(monkeypatch):
    def part(size):
        yield "first", lambda: 1 / 0
        yield "second", lambda: {"seconds": 1.0}
        raise RuntimeError("no more memory")

    monkeypatch.setitem(worker.PARTS, "kernels", part)
    found = dict(worker.results("kernels", TOY))
    assert [*found] == ["first", "second", "error"]
    assert found["first"]["error"] == "ZeroDivisionError: division by zero"
    assert found["second"]["seconds"] == 1.0
    assert found["error"] == {"error": "RuntimeError: no more memory"}


def filled(start, **more):
    report, saved = {}, []
    run.fill(report, lambda: saved.append(json.loads(json.dumps(report))), start=start, **more)
    return report, saved


def test_parts_come_in_their_order_and_everything_is_saved_as_soon_as_it_is_known():
    def start(part, limit, toy):
        assert 0 < limit <= run.SECONDS[part]
        yield "a", {"seconds": 1}
        yield "clip: way", {"seconds": 2}

    report, saved = filled(start)
    parts = ["kernels", "ceiling", "attention", "whole step", "fp8", "vae decode", "caps"]
    assert [*report] == [*parts, "compared"]
    assert report["fp8"] == {"a": {"seconds": 1}, "clip": {"way": {"seconds": 2}}}
    assert len(saved) == 2 * len(parts) + 1
    assert saved[0] == {"kernels": {"a": {"seconds": 1}}}
    assert sum(run.SECONDS.values()) == 8 * 60


def test_without_time_a_part_says_so():
    report, _ = filled(lambda *_: iter(()), total=0.0)
    assert [report[part] for part in run.SECONDS] == [{"error": {"error": "no time was left"}}] * len(run.SECONDS)


def test_shares_and_the_price_of_a_cap_are_of_what_was_measured():
    report = {
        "ceiling": {"clip": {"tflop_per_second": 500.0}},
        "whole step": {
            "clip": {
                "as it was": {"seconds_per_step": 2.0, "tflop_per_second": 300.0},
                "cuDNN": {"seconds_per_step": 1.6, "tflop_per_second": 375.0},
                "+ compiled pair": {"error": "RuntimeError: no"},
            },
            "other": {"as it was": {"error": "x"}},
        },
        "caps": {"clip": {"seconds_per_step": 2.0}, "other": {"error": "x"}},
    }
    assert run.compared(report) == {
        "clip": {
            "share_of_sustained_matmul_rate": {"as it was": 0.6, "cuDNN": 0.75},
            "capped / uncapped step": 1.25,
        }
    }


@pytest.mark.parametrize(
    ("ending", "error"),
    [("", None), ("sys.exit('no card')", "it ended with 1: no card"), ("time.sleep(60)", "not done within 2 s")],
)
def test_a_process_that_ends_or_hangs_leaves_what_it_had_measured(monkeypatch, ending, error):
    line = json.dumps({"measured": "a", "result": {"seconds": 1.5}})
    code = f"import sys, time; print('log'); print({line!r}, flush=True); {ending}"
    monkeypatch.setattr(run, "command", lambda part, toy: [sys.executable, "-c", code])
    found = dict(run.in_process("kernels", 2.0 if "sleep" in ending else 60.0, False))
    assert found.pop("a") == {"seconds": 1.5}
    assert [part["error"].strip() for part in found.values()] == ([error] if error else [])


def test_a_part_is_a_module_that_python_runs():
    *_, module, part, toy = run.command("fp8", True)
    assert (module, part, toy) == ("tools.bench.card.worker", "fp8", "--toy")
    assert set(worker.PARTS) == set(run.SECONDS)


def test_the_report_is_in_a_file_and_says_that_a_toy_measured_nothing(monkeypatch, tmp_path, capsys):
    def fill(report, save, toy):
        report["kernels"] = {"toy": toy}
        save()

    file = tmp_path / "new folder" / "report.json"
    monkeypatch.setattr(bench.card, "fill", fill)
    monkeypatch.setattr(bench.pack, "load", lambda *flags: None)
    monkeypatch.setattr(sys, "argv", ["bench", "--gpu", "--toy", "--write", str(file)])
    assert bench.main() == 0
    report = json.loads(file.read_text(encoding="utf-8"))
    assert report == json.loads(capsys.readouterr().out)
    assert report["kernels"] == {"toy": True}
    assert "measures nothing" in report["toy"]
    assert "gpu" not in report["machine"]
