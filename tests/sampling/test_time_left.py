"""What Ovi Sampler shows under itself while it samples."""

from __future__ import annotations

import tiny_ovi as tiny
from ovi_native.nodes.sampling.sampler import OviSampler
from ovi_native.ovi_core.sampling.time_left import TimeLeft
from server import PromptServer


def shown(clock: list[float], steps: list[tuple[int, int]]) -> list[str]:
    times, lines, passed = iter(clock), [], []
    callback = TimeLeft(lines.append, lambda *given: passed.append(given), lambda: next(times))
    for step, count in steps:
        callback(step, "denoised", "noisy", count)
    assert passed == [(step, "denoised", "noisy", count) for step, count in steps]
    return lines


def test_the_first_step_does_not_count_for_it_also_loads_the_weights():
    assert shown([100.0, 110.0, 130.0, 145.0], [(step, 4) for step in range(4)]) == [
        "Step 1 of 4.",
        "Step 2 of 4. About 20 s left.",
        "Step 3 of 4. About 15 s left.",
        "Step 4 of 4.",
    ]


def test_a_solver_that_calls_twice_a_step_and_a_second_run_are_no_trouble():
    lines = shown([0.0, 1.0, 5.0, 9.0, 10.0, 70.0], [(0, 3), (0, 3), (1, 3), (2, 3), (0, 3), (1, 3)])
    assert lines[:4] == ["Step 1 of 3.", "Step 1 of 3.", "Step 2 of 3. About 4 s left.", "Step 3 of 3."]
    assert lines[4:] == ["Step 1 of 3.", "Step 2 of 3. About 1 min 0 s left."]


def test_notes_stay_above_the_lines(model, monkeypatch):
    told = []

    class Server:
        client_id = None
        last_node_id = None

        def send_progress_text(self, text, node_id):
            told.append((node_id, text))

    monkeypatch.setattr(PromptServer, "instance", Server(), raising=False)
    monkeypatch.setattr("ovi_native.nodes.sampling.sampler.notes_for", lambda *given: ["A note."])
    node = type("Run", (OviSampler,), {"hidden": type("Hidden", (), {"unique_id": "7"})})
    node.execute(model, tiny.positive(), tiny.negative(), tiny.empty_latent(), 1, 2, 1.0, 1.0, 5.0, "euler", "0")
    assert {number for number, _ in told} == {"7"}
    assert [text for _, text in told] == ["A note.", "A note.\n\nStep 1 of 2.", "A note.\n\nStep 2 of 2."]
