"""``dev.py fuzz``: its targets with few examples, and what it says of inputs that fail, hang or kill."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from random import Random
from types import ModuleType, SimpleNamespace

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from ovi_native.ovi_core.errors import OviError

from tools.fuzz import __main__ as fuzz
from tools.fuzz import mutate, worker
from tools.fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_every_input_is_taken_or_refused(target: str, tmp_path_factory: pytest.TempPathFactory):
    module = importlib.import_module(f"tools.fuzz.targets.{target}")
    folder = tmp_path_factory.mktemp(target)

    @given(seed=st.integers(0, 2**64))
    def check(seed: int) -> None:
        finding = worker.attempt(module, module.make(Random(seed)), folder)[1]
        assert finding is None, finding.text

    check()


def pretended(run) -> ModuleType:
    return SimpleNamespace(SUFFIX=".bin", run=run)  # type: ignore[return-value]


def refuse(found: str) -> None:
    raise OviError(input="file", found=found, accepted="others", remedy="Take another.")


@pytest.mark.parametrize(
    ("run", "refused", "kind"),
    [
        (lambda data, folder: None, False, None),
        (lambda data, folder: refuse("nothing"), True, None),
        (lambda data, folder: {}[data], False, "KeyError in another library"),
        (lambda data, folder: [].append(bytearray(1 << 62)), False, "MemoryError in another library"),
    ],
)
def test_an_input_is_taken_refused_or_a_finding(tmp_path: Path, run, refused: bool, kind: str | None):
    found = worker.attempt(pretended(run), b"x", tmp_path)
    assert found[0] == refused
    assert (found[1] and found[1].kind) == kind


def test_an_error_of_several_lines_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(OviError, "__str__", lambda self: "two\nlines")
    assert "not one line" in worker.attempt(pretended(lambda data, folder: refuse("x")), b"", tmp_path)[1].kind


def test_a_failing_input_is_shortened(tmp_path: Path):
    module = pretended(lambda data, folder: {}[data] if b"needle" in data else None)
    data = Random(0).randbytes(5000) + b"needle" + Random(1).randbytes(3000)
    kind = worker.attempt(module, data, tmp_path)[1].kind
    assert worker.shrunk(module, data, tmp_path, kind) == b"needle"


WORKER = """
import argparse, json, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from tools.fuzz.worker import COUNTS, CURRENT, FINDINGS, STATE
target, work, start = sys.argv[1], Path(sys.argv[2]), int(sys.argv[4])
(work / CURRENT).write_bytes(b"input %d" % start)
(work / COUNTS).write_bytes(STATE.pack(start + 3, 2, 7_000_000, 0.25))
with (work / FINDINGS).open("w") as file:
    (work / "t-1.bin").write_bytes(b"short")
    file.write(json.dumps({{"kind": "KeyError in a.py:b", "file": "t-1.bin", "text": "trace"}}) + "\\n")
    file.write(json.dumps({{"kind": "KeyError in a.py:b"}}) + "\\n")
if target == "dies":
    sys.exit("killed")
time.sleep(60 if target == "hangs" else 0)
"""


@pytest.mark.parametrize("how", ["ends", "dies", "hangs"])
def test_what_a_worker_leaves_is_counted_however_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str):
    monkeypatch.setattr(fuzz, "LIMIT_SECONDS", 0.3)
    monkeypatch.setattr(fuzz, "SHRINK_SECONDS", 0.3)
    script = tmp_path / "worker.py"
    script.write_text(WORKER.format(root=str(fuzz.ROOT)), encoding="utf-8")
    result = fuzz.fuzz(how, 0.0, 0, tmp_path / "out", [str(script)])
    assert (result.inputs, result.refused, result.most, result.slowest) == (3, 2, 7_000_000, 0.25)
    assert result.findings.pop("KeyError in a.py:b") == 2
    assert (tmp_path / "out" / "t-1.bin").read_bytes() == b"short"
    assert (tmp_path / "out" / "t-1.txt").read_text().startswith("KeyError in a.py:b")
    assert [kind.split(":")[0] for kind in result.findings] == {
        "ends": [],
        "dies": ["the process died (1)"],
        "hangs": ["hangs"],
    }[how]
    kept = [file.read_bytes() for file in (tmp_path / "out").glob("*.input")]
    assert kept == ([] if how == "ends" else [b"input 0"])


def test_the_table_has_a_line_for_each_target_and_a_sum():
    results = [fuzz.Result("a", 1000, 10, most=2_000_000, slowest=0.5), fuzz.Result("b", 2, 1, slowest=1.25)]
    results[1].findings["KeyError"] = 2
    lines = fuzz.table(results).splitlines()
    assert lines[2:] == [
        "| a | 1,000 | 10 | 0 | 0.50 s | 2 MB |",
        "| b | 2 | 1 | 2 | 1.25 s | 0 MB |",
        "| all | 1,002 | 11 | 2 | 1.25 s | 2 MB |",
    ]
    assert [result.good for result in results] == [True, False]


@pytest.mark.parametrize("seed", range(20))
def test_a_seed_gives_its_input_again_and_changes_change(seed: int):
    data = bytes(range(64))
    assert mutate.mutated(Random(seed), data) == mutate.mutated(Random(seed), data)
    value = {"a": [1, {"b": None}], "c": "d"}
    assert repr(mutate.mutated_json(Random(seed), value)) == repr(mutate.mutated_json(Random(seed), value))
    assert value == {"a": [1, {"b": None}], "c": "d"}
    assert json.loads(mutate.as_json([None, "\ud800"])) == [None, "\ud800"]


def test_every_target_draws_with_the_numbers_it_is_given_alone():
    for target in TARGETS:
        module = importlib.import_module(f"tools.fuzz.targets.{target}")
        assert module.SUFFIX.startswith(".")
        assert module.make(Random(3)) == module.make(Random(3)), target
    assert "tools.fuzz.targets.spans" in sys.modules


def test_the_core_of_a_convolution_for_a_layer_without_one_is_refused(tmp_path: Path):
    """Found by the fuzzer: ComfyUI logs an error when it applies such a LoKr, and changes nothing."""
    shapes = {"lokr_w1": (8, 8), "lokr_w2_a": (4, 16), "lokr_w2_b": (4, 16), "lokr_t2": (4, 4, 1, 1)}
    weights = {f"blocks.0.self_attn.v.{part}": torch.full(shape, 0.01) for part, shape in shapes.items()}
    module = importlib.import_module("tools.fuzz.targets.lora")
    with pytest.raises(OviError, match=r"lokr_t2' is the core of a change to a convolution"):
        module.run(safetensors.torch.save(weights), tmp_path)
